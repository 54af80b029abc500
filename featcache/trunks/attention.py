"""Attention: torch's own kernel, or two products and a softmax where these are faster.

On a CPU torch's kernel packs its bfloat16 products for AMX alone. Without AMX it takes twice as long as two products of
oneDNN, which use AVX512-BF16 (docs/decisions/152). Shapes: n images, h heads, s queries, t tokens, d numbers of a head.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

from featcache.trunks.hardware import has_bfloat16_without_tiles

MOST_IMAGE_BYTES = 2**26  # of the scores of one image: of more than some 1,400 tokens nothing is gained (152)
MOST_SCORE_BYTES = 2**23  # at a time, but for a single image: they stay in the caches between the two products


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(query key' / sqrt(d)) value, (n, h, s, d).

    Args:
        query: (n, h, s, d).
        key: (n, h, t, d).
        value: (n, h, t, d).
    """
    is_whole = query.shape[2] == key.shape[2]  # of few queries products are not faster
    scores = query.shape[1] * query.shape[2] * key.shape[2] * query.element_size()
    if is_whole and len(query) and scores <= MOST_IMAGE_BYTES and _products_are_faster(query):
        return attend_by_products(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)


def attend_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the same by two products with a softmax between them.

    The scores of a token are rounded to bfloat16, so they are kept small: all keys are moved by their mean, which moves
    all scores of a token alike and changes no softmax.

    Args:
        query: (n, h, s, d).
        key: (n, h, t, d).
        value: (n, h, t, d).
    """
    n, heads, tokens, _ = key.shape
    queries, width = query.shape[2:]
    size = max(1, MOST_SCORE_BYTES // (heads * queries * tokens * query.element_size()))
    nothing, mixed = query.new_empty(1, 1, 1), []
    for first in range(0, n, size):
        images = slice(first, first + size)
        centred = key[images] - key[images].mean(dim=2, keepdim=True)
        q, k, v = (x.reshape(-1, x.shape[2], width) for x in (query[images], centred, value[images]))
        scores = torch.baddbmm(
            nothing.expand(len(q), queries, tokens), q, k.transpose(1, 2), beta=0, alpha=width**-0.5
        )  # beta 0: what would be added is not read
        mixed.append(torch.bmm(scores.softmax(dim=-1), v))
    return (mixed[0] if len(mixed) == 1 else torch.cat(mixed)).view(n, heads, queries, width)


def _products_are_faster(query: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and _has_bfloat16_without_tiles()


@cache
def _has_bfloat16_without_tiles() -> bool:
    return has_bfloat16_without_tiles()
