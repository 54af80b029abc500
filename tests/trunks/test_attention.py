"""Attention by two products and a softmax gives what torch's own kernel gives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

from featcache.trunks import attention
from featcache.trunks.attention import attend, attend_by_products
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)


def parts(n, heads, queries, tokens, width, dtype=torch.bfloat16, offset=0.0):
    """Queries, keys and values as a block has them: (n, h, s, d), no copy of a transpose; keys moved by `offset`."""
    generator = torch.Generator().manual_seed(n + heads + queries + tokens)
    found = [
        torch.randn(n, rows, heads, width, generator=generator).to(dtype).transpose(1, 2)
        for rows in (queries, tokens, tokens)
    ]
    return found[0], found[1] + offset, found[2]


def error(found, query, key, value):
    """The relative error against float64."""
    exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    return float((found.double() - exact).norm() / exact.norm())


@given(
    n=st.integers(1, 3), heads=st.integers(1, 4), queries=st.integers(1, 20), tokens=st.integers(1, 60),
    width=st.sampled_from([8, 24, 64]),
)  # fmt: skip
def test_float32_equals_torchs_kernel(n, heads, queries, tokens, width):
    """For any shape, to the rounding of float32."""
    operands = parts(n, heads, queries, tokens, width, torch.float32)
    assert error(attend_by_products(*operands), *operands) < 1e-5


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_bfloat16_is_as_exact_as_torchs_kernel(offset):
    """At most 2.5 times its error on noise, also where what all keys share makes scores of several hundred."""
    operands = parts(4, 3, 197, 197, 64, offset=offset)
    own = error(F.scaled_dot_product_attention(*operands), *operands)
    assert error(attend_by_products(*operands), *operands) < 2.5 * own < 0.02


def test_an_image_does_not_depend_on_those_beside_it(monkeypatch):
    """Alone, at another place, and however many images are taken at a time: the same bits."""
    query, key, value = parts(6, 3, 50, 50, 64)
    together = attend_by_products(query, key, value)
    assert torch.equal(attend_by_products(query[4:5], key[4:5], value[4:5]), together[4:5])
    assert torch.equal(attend_by_products(query.flip(0), key.flip(0), value.flip(0)), together.flip(0))
    monkeypatch.setattr(attention, "MOST_SCORE_BYTES", 2 * 3 * 50 * 50 * 2)
    assert torch.equal(attend_by_products(query, key, value), together)


def test_an_image_of_many_tokens_takes_no_memory_for_scores(monkeypatch):
    """Where its scores are larger than MOST_IMAGE_BYTES, and where there is no image, torch's kernel attends."""
    asked = []
    monkeypatch.setattr(attention, "_has_bfloat16_without_tiles", lambda: True)
    monkeypatch.setattr(attention, "attend_by_products", lambda *given: asked.append(given) or given[0])
    monkeypatch.setattr(attention, "MOST_IMAGE_BYTES", 3 * 50 * 50 * 2)
    for images, tokens in ((2, 51), (0, 50), (2, 50)):
        attend(*parts(images, 3, tokens, tokens, 64))
    assert [len(query) for query, _, _ in asked] == [2]
    assert asked[0][0].shape[2] == 50


@pytest.mark.parametrize(
    ("queries", "dtype", "without_tiles", "by_products"),
    [
        (50, torch.bfloat16, True, True),
        (50, torch.bfloat16, False, False),
        (8, torch.bfloat16, True, False),
        (50, torch.float32, True, False),
    ],
    ids=["all tokens", "with AMX", "the class token", "float32"],
)
def test_products_are_taken_where_they_are_faster(monkeypatch, queries, dtype, without_tiles, by_products):
    """For all tokens in bfloat16 on a CPU without AMX; torch's kernel for all else."""
    asked = []
    monkeypatch.setattr(attention, "_has_bfloat16_without_tiles", lambda: without_tiles)
    monkeypatch.setattr(attention, "attend_by_products", lambda *given: asked.append(given) or given[0])
    attend(*parts(2, 3, queries, 50, 64, dtype))
    assert len(asked) == by_products
