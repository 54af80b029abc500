"""Near-duplicates: images of one split that all but stand in another. File hashes do not see them, embeddings do.

Memory: the embeddings stay on disk and come in blocks. With `held` x `passing` rows at a time it is at most

    4 held (3 dim + 2 passing) + 12 (n + m) bytes

for splits of n and m different images: 289 MB for 260,000 x 90,000 x 768 at 16,384 x 1,024, beside the listings
and the store's index (about 400 bytes an image) and the pairs that are found (about 600 bytes each).

Measured on two cores of an AMD EPYC (`bench/near.py`): 260,000 x 90,000 x 768 takes 204 s, 115 million pairs a second,
and 435 MB at the peak of the process, imports and listings included.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset.request import Asked
from featcache.errors import CacheError, UsageError
from featcache.listing import Listing
from featcache.recipe import StoreOptions
from featcache.store import DigestIndex, Digests, FeatureStore

HELD = 16_384  # rows of one split that stay while the other passes by
PASSING = 1_024
SLACK = 1e-5  # a cosine in float32 is off by less (3e-6 at the most was seen, up to 4,096 dimensions)
DECIMALS = 12  # of a cosine in float64: equal vectors have 1, not 1 - 2e-16

Rows = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]  # products of rows that are done, and that there are


class Blocks(Protocol):
    """(rows, dim) float32, of which only a few rows are taken at a time; an array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Embeddings: ...


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The rows of one side whose nearest row on the other is near enough, in their order."""

    rows: Rows
    neighbours: Rows  # of the other side
    cosines: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Image:
    """An image where it first stands in its split."""

    split: str
    path: str
    label: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of different splits, at least one of which has no nearer neighbour in the other's split."""

    cosine: float
    exact: bool  # the same bytes
    images: tuple[Image, Image]


@dataclass(frozen=True, slots=True)
class Between:
    """Two splits, in numbers. Images are told apart by their bytes."""

    splits: tuple[str, str]
    images: tuple[int, int]  # compared
    near: tuple[int, int]  # of them, those with a neighbour in the other split that is near enough
    exact: int  # of them, those that stand in both with the same bytes


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """All splits of a data set against each other."""

    cosine: float
    store: str
    between: tuple[Between, ...]
    pairs: tuple[Pair, ...]  # nearest first

    def to_json(self) -> dict[str, Any]:
        """The value of `near` in the document of `featcache data --near … --json`."""
        return asdict(self)


@checked
def near_duplicates(
    cosine: float,
    *,
    progress: Progress = lambda *_: None,
    **where: Unpack[StoreOptions],
) -> NearDuplicates:
    """The images of each split whose nearest neighbour in another split has at least this cosine.

    Every two splits that one store holds are compared, as they were extracted; the images are not needed. An
    image that stands in several rows is compared once.

    Raises:
        UsageError: no such recipe, or a cosine that is none.
        CacheError: the cache does not hold two splits, or it holds them in several stores.
    """
    if not 0 < cosine <= 1:
        raise UsageError(f"--near: found {cosine:g}, expected a cosine above 0 and up to 1, such as 0.98")
    asked = Asked(**where)
    held = {key[2] for found in asked.stores() for key in asked.keys_of(found)}
    chosen = asked.store_of(min(held, key=_turn, default="train"))
    splits = sorted((key[2] for key in asked.keys_of(chosen)), key=_turn)
    if len(splits) < 2:
        raise CacheError(
            f"{chosen.root}: holds the split {splits[0]!r} of {asked.recipe.name} alone, and near-duplicates are "
            f"looked for between two; run `featcache extract` for the others"
        )
    sides = [_Side.open(chosen, asked.key_of(chosen, split)) for split in splits]
    total = sum(len(a) * len(b) for a, b in combinations(sides, 2))
    done = 0
    between, pairs = [], []
    for a, b in combinations(sides, 2):
        found, more = _compare(a, b, cosine, partial(_report, progress, done, total))
        between.append(found)
        pairs += more
        done += len(a) * len(b)
    asked.known.try_flush()
    pairs.sort(key=lambda pair: (-pair.cosine, *(image.path for image in pair.images)))
    return NearDuplicates(cosine, chosen.name, tuple(between), tuple(pairs))


def nearest(
    a: Blocks,
    b: Blocks,
    cosine: float,
    *,
    held: int = HELD,
    passing: int = PASSING,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Nearest, Nearest]:
    """For both sides, the rows whose nearest row on the other has at least this cosine; a row of zeros is near nothing.

    One pass of float32 products serves both: its maxima along either axis. Which rows are near enough is then
    settled in float64, so blocks and BLAS do not change it; between neighbours that are equally near within
    float32's rounding, any may be named.
    """
    if len(a) > len(b):  # the smaller side is held: the other passes by less often
        of_b, of_a = nearest(b, a, cosine, held=held, passing=passing, progress=progress)
        return of_a, of_b
    best_a, best_b = _Best(len(a), cosine - SLACK), _Best(len(b), cosine - SLACK)
    products = np.empty(min(held, len(a)) * min(passing, len(b)), dtype=np.float32)
    for i in range(0, len(a), held):
        staying = _unit(a[i : i + held])
        for j in range(0, len(b), passing):
            block = _unit(b[j : j + passing])
            tile = products[: len(staying) * len(block)].reshape(len(staying), len(block))
            np.matmul(staying, block.T, out=tile)
            best_a.update(i, j, tile)
            best_b.update(j, i, tile.T)
            progress(i * len(b) + len(staying) * (j + len(block)))
    return best_a.settle(a, b, cosine, passing), best_b.settle(b, a, cosine, passing)


class _Best:
    """The nearest neighbour so far of each row of one side, where it is above a floor."""

    def __init__(self, rows: int, floor: float) -> None:
        self.cosine = np.full(rows, floor, dtype=np.float32)
        self.neighbour = np.full(rows, -1, dtype=np.int64)

    def update(self, row: int, neighbour: int, tile: Embeddings) -> None:
        """Take the products of the rows from `row` on with the neighbours from `neighbour` on."""
        top = tile.max(axis=1)
        better = np.flatnonzero(top > self.cosine[row : row + len(tile)])
        if len(better):
            self.cosine[row + better] = top[better]
            self.neighbour[row + better] = neighbour + tile[better].argmax(axis=1)

    def settle(self, rows: Blocks, others: Blocks, cosine: float, block: int) -> Nearest:
        """In float64: keep what reaches the cosine; where the rounding of float32 decided, look at every neighbour."""
        found = np.flatnonzero(self.neighbour >= 0)
        neighbours, cosines = self.neighbour[found], np.empty(len(found))
        for i in range(0, len(found), block):
            end = i + block
            cosines[i:end] = np.einsum("nd,nd->n", _unit64(rows[found[i:end]]), _unit64(others[neighbours[i:end]]))
        cosines = cosines.round(DECIMALS)
        open_ = np.flatnonzero(cosines < cosine)
        for i in range(0, len(open_), block):
            part = open_[i : i + block]
            cosines[part], neighbours[part] = _exactly(_unit64(rows[found[part]]), others, block)
        near = cosines >= cosine
        return Nearest(found[near], neighbours[near], cosines[near])


def _exactly(queries: npt.NDArray[np.float64], others: Blocks, block: int) -> tuple[npt.NDArray[np.float64], Rows]:
    """The cosine and the row of the nearest of all others, for each query."""
    cosine, neighbour = np.full(len(queries), -np.inf), np.full(len(queries), -1, dtype=np.int64)
    for j in range(0, len(others), block):
        products = (queries @ _unit64(others[j : j + block]).T).round(DECIMALS)
        top = products.max(axis=1)
        better = top > cosine
        cosine[better], neighbour[better] = top[better], j + products[better].argmax(axis=1)
    return cosine, neighbour


def _unit(x: Embeddings) -> Embeddings:
    """Rows of length 1; a row of zeros stays."""
    norm = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))  # in float32 a square may be inf, or 0
    out = np.empty(x.shape, dtype=np.float32)
    return np.divide(x, np.where(norm > 0, norm, 1)[:, None], out=out, casting="same_kind")


def _unit64(x: Embeddings) -> npt.NDArray[np.float64]:
    wide = x.astype(np.float64)
    norm = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    wide /= np.where(norm > 0, norm, 1)[:, None]
    return wide


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The different images of one split, in listing order; their embeddings are read when they are asked for."""

    store: FeatureStore
    listing: Listing
    rows: Rows  # (images,), the first row of each
    digests: Digests  # (images, 32)

    @classmethod
    def open(cls, store: FeatureStore, key: tuple[str, str, str]) -> "_Side":
        extracted = store.listing(key)
        digests = extracted.digests[extracted.embedded]
        first = np.flatnonzero(DigestIndex(digests).find(digests) == np.arange(len(digests)))
        return cls(store, extracted.listing, extracted.embedded[first], digests[first])

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, rows: Any, /) -> Embeddings:
        return self.store.load(self.digests[rows])

    def image(self, number: int) -> Image:
        row, listing = self.rows[number], self.listing
        return Image(listing.split, listing.paths[row], listing.classes[listing.labels[row]])


def _compare(a: _Side, b: _Side, cosine: float, progress: Callable[[int], None]) -> tuple[Between, list[Pair]]:
    of_a, of_b = nearest(a, b, cosine, progress=progress)
    twin_of_a, twin_of_b = DigestIndex(b.digests).find(a.digests), DigestIndex(a.digests).find(b.digests)
    a_to_b = _prefer(twin_of_a[of_a.rows], of_a.neighbours)
    b_to_a = _prefer(twin_of_b[of_b.rows], of_b.neighbours)
    _, first = np.unique(np.concatenate([of_a.rows * len(b) + a_to_b, b_to_a * len(b) + of_b.rows]), return_index=True)
    ends = np.concatenate([of_a.rows, b_to_a])[first], np.concatenate([a_to_b, of_b.rows])[first]
    cosines = np.concatenate([of_a.cosines, of_b.cosines])[first]
    pairs = [
        Pair(similarity, bool(twin_of_a[i] == j), (a.image(i), b.image(j)))
        for i, j, similarity in zip(*(end.tolist() for end in ends), cosines.tolist(), strict=True)
    ]
    between = Between(
        splits=(a.listing.split, b.listing.split),
        near=(len(of_a.rows), len(of_b.rows)),
        images=(len(a), len(b)),
        exact=sum(pair.exact for pair in pairs),
    )
    return between, pairs


def _report(progress: Progress, before: int, total: int, now: int) -> None:
    progress(before + now, total)


def _prefer(twins: Rows, neighbours: Rows) -> Rows:
    """The image with the same bytes, where there is one; others may be as near."""
    return np.where(twins >= 0, twins, neighbours)


def _turn(split: str) -> tuple[int, str]:
    usual = ("train", "val", "test")
    return (usual.index(split) if split in usual else len(usual), split)
