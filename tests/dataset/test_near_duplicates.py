"""Near-duplicates across splits: none missed, whatever the blocks, in the memory that is stated."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featcache.dataset.near_duplicate_search import near_duplicates
from featcache.dataset.nearest_rows import find_nearest_rows
from featcache.errors import CacheError, UsageError
from featcache.store.listings import ExtractedListing
from tests.builders import listing, new_store


def cosines(a, b):
    """(rows of a, rows of b) in float64; 0 with a row of zeros."""
    a, b = (x.astype(np.float64) for x in (a, b))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return np.divide(a @ b.T, norms, out=np.zeros_like(norms), where=norms > 0)


def check(found, products, cosine):
    """What was found for the rows of `products`, held against all of them."""
    top = products.max(axis=1)
    assert found.rows.tolist() == np.flatnonzero(top >= cosine - 1e-12).tolist()
    np.testing.assert_allclose(found.cosines, products[found.rows, found.neighbours], atol=1e-9)
    np.testing.assert_allclose(found.cosines, top[found.rows], atol=1e-5)


@st.composite
def sides(draw):
    """Two sets of small whole vectors: equal ones, parallel ones and rows of zeros are common."""
    dim = draw(st.integers(1, 4))
    shapes = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    return [draw(hnp.arrays(np.float32, (rows, dim), elements=st.sampled_from([-2, -1, 0, 1, 3]))) for rows in shapes]


@given(sides(), st.sampled_from([0.1, 0.5, 0.9, 0.98, 1.0]), st.integers(1, 13), st.integers(1, 13))
def test_none_is_missed_whatever_the_blocks(both, cosine, held, passing):
    """Either side's rows are those that all cosines in float64 name, each with a nearest neighbour and its cosine."""
    a, b = both
    of_a, of_b = find_nearest_rows(a, b, cosine, held=held, passing=passing)
    check(of_a, cosines(a, b), cosine)
    check(of_b, cosines(b, a), cosine)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_planted_pairs_are_found(scale):
    """Of 700 x 500 random rows exactly the planted pairs are near, at any length of the vectors."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((rows, 96)).astype(np.float32) for rows in (700, 500))
    here, there = random.permutation(700)[:40], random.permutation(500)[:40]
    b[there] = 3 * a[here] + 0.1 * random.standard_normal((40, 96)).astype(np.float32)
    of_a, of_b = find_nearest_rows(a * np.float32(scale), b, 0.98, held=128, passing=64)
    assert dict(zip(of_a.rows.tolist(), of_a.neighbours.tolist(), strict=True)) == dict(zip(here, there, strict=True))
    assert dict(zip(of_b.rows.tolist(), of_b.neighbours.tolist(), strict=True)) == dict(zip(there, here, strict=True))
    check(of_a, cosines(a, b), 0.98)


def test_the_threshold_is_held_in_float64():
    """Cosines that float32 cannot tell from the threshold are on the side that float64 says."""
    angles = np.arccos(0.98 + np.linspace(-2e-6, 2e-6, 41))
    a = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    b = np.array([[1, 0]], dtype=np.float32)
    of_a, of_b = find_nearest_rows(a, b, 0.98, held=7, passing=5)
    assert 15 < len(of_a.rows) < 26
    check(of_a, cosines(a, b), 0.98)
    check(of_b, cosines(b, a), 0.98)


class Endless:
    """Rows that are made when they are asked for, as a store reads them when they are asked for."""

    def __init__(self, rows, dim, seed):
        self.rows = rows
        self.few = np.random.default_rng(seed).standard_normal((499, dim), dtype=np.float32)

    def __len__(self):
        return self.rows

    def __getitem__(self, rows):
        return self.few[np.arange(self.rows)[rows] % 499]


@pytest.mark.slow
@pytest.mark.parametrize("cosine", [0.9, 0.01])  # nothing is near; everything is
def test_memory_stays_below_what_is_stated(cosine):
    """Whatever is found, the peak stays below the bound that the module states, far below the embeddings' size."""
    rows, dim, held, passing = 9_000, 256, 512, 128
    a, b = Endless(rows, dim, 0), Endless(rows, dim, 1)
    tracemalloc.start()
    try:
        of_a, _ = find_nearest_rows(a, b, cosine, held=held, passing=passing)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(of_a.rows) == (0 if cosine == 0.9 else rows)
    bound = 4 * held * (3 * dim + 2 * passing) + 12 * 2 * rows + 2**18  # NumPy's buffers, and the maker's
    found = 48 * 2 * rows  # where everything is near: its rows, neighbours and cosines
    assert peak < bound + (found if cosine == 0.01 else 0)
    assert bound + found < 2 * rows * dim * 4 / 4


def extracted(cache, split, vectors, digests, *, labels=None, reasons=None, weights="ab", data_set="d"):
    """One split as an extract would have committed it; row i is the file `<split>/i.png`."""
    labels = labels or [0] * len(digests)
    rows = listing(labels, split=split, data_set=data_set, root="/no/where", classes=("ants", "bees"))
    column = np.array([[digest] * 32 for digest in digests], dtype=np.uint8)
    reasons = reasons or ("",) * len(digests)
    good = [row for row, reason in enumerate(reasons) if not reason]
    with new_store(cache, asked=f"{weights}.pth", weights_sha256=weights * 32).writer() as writer:
        writer.append(column[good], np.array(vectors, dtype=np.float32)[good])
        writer.commit(ExtractedListing(rows, column, reasons))


def test_pairs_come_with_their_places(tmp_path):
    """Every two splits are compared; a pair says where, how near, under which labels, and if the bytes are equal."""
    extracted(tmp_path, "train", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], [1, 2, 3, 1])
    extracted(tmp_path, "val", [[9, 1, 0], [0, 1, 0], [0, 5, 0], [1, 1, 1]], [4, 2, 5, 6], labels=[1, 0, 0, 0])
    extracted(tmp_path, "test", [[1, 1, 1.1], [0, 0, 0]], [7, 8], reasons=("", "no image"))
    found = near_duplicates(0.98, data="/no/where", name="d", cache=tmp_path)
    assert [(pair.images[0].path, pair.images[1].path, pair.exact) for pair in found.pairs] == [
        ("train/1.png", "val/1.png", True),
        ("train/1.png", "val/2.png", False),  # the nearest of val/2.png, though train/1.png has a nearer one
        ("val/3.png", "test/0.png", False),
        ("train/0.png", "val/0.png", False),
    ]
    assert [pair.cosine for pair in found.pairs] == pytest.approx([1, 1, 0.99896, 0.99388], abs=1e-5)
    assert [image.label for image in found.pairs[3].images] == ["ants", "bees"]
    assert [(one.splits, one.images, one.near, one.exact) for one in found.between] == [
        (("train", "val"), (3, 4), (2, 3), 1),  # train has four rows, of three different images
        (("train", "test"), (3, 1), (0, 0), 0),
        (("val", "test"), (4, 1), (1, 1), 0),
    ]
    document = found.to_json()
    assert document["pairs"][3]["images"][1] == {"split": "val", "path": "val/0.png", "label": "bees"}


def test_progress_ends_at_all_products(tmp_path):
    """Progress never goes back, whatever the blocks, and ends when every image was held against every other split's."""
    seen = []
    find_nearest_rows(
        np.eye(5, 3, dtype=np.float32), np.eye(3, dtype=np.float32), 0.5, held=2, passing=2, progress=seen.append
    )
    assert seen == sorted(seen)
    assert (len(seen), seen[-1]) == (2 * 3, 15)
    for split, rows in (("train", 3), ("val", 2), ("test", 4)):
        extracted(tmp_path, split, np.eye(rows, 5), [10 * rows + row for row in range(rows)])
    told = []
    near_duplicates(0.5, data="/no/where", name="d", cache=tmp_path, progress=lambda *now: told.append(now))
    assert told == [(6, 26), (18, 26), (26, 26)]


@pytest.mark.parametrize("cosine", [0, -0.5, 1.01, float("nan"), float("inf")])
def test_a_cosine_that_is_none_is_refused(cosine, tmp_path):
    """A threshold that no cosine can have, or that every one has, is exit 2 with an example."""
    with pytest.raises(UsageError, match=r"--near: .* such as 0\.98"):
        near_duplicates(cosine, data="/no/where", name="d", cache=tmp_path)


def test_two_splits_of_one_store_are_needed(tmp_path):
    """Nothing extracted, one split alone, and two stores without a choice are exit 3 with the way out."""
    words = {"data": "/no/where", "name": "d", "cache": tmp_path}
    with pytest.raises(CacheError, match=r"/no/where: no such folder, .* `featcache extract FOLDER`"):
        near_duplicates(0.9, **words)
    extracted(tmp_path, "val", [[1, 0]], [1])
    with pytest.raises(CacheError, match=r"only split 'val' of d,.*featcache extract"):
        near_duplicates(0.9, **words)
    extracted(tmp_path, "train", [[1, 0]], [2])
    assert len(near_duplicates(0.9, **words).pairs) == 1
    extracted(tmp_path, "train", [[1, 0]], [2], weights="cd")
    with pytest.raises(CacheError, match="2 stores hold d/all/train"):
        near_duplicates(0.9, **words)
    assert near_duplicates(0.9, **words, weights="ab.pth").pairs
