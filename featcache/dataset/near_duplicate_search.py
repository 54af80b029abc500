"""Near-duplicates: images of one split that are almost the same as one of another.

File hashes do not see them, embeddings do. The embeddings stay on disk and come in blocks; `nearest_rows` says what
memory they take. Beside that there are the listings and the store's index (about 400 bytes an image) and the pairs
(about 600 bytes each).

Measured on two cores of an AMD EPYC (`bench/near.py`): 260,000 x 90,000 x 768 takes 204 s, 115 million pairs a second,
and 435 MB at the peak of the process, imports and listings included.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.dataset.duplicates import ImageInSplit
from featcache.dataset.nearest_rows import Embeddings, Rows, find_nearest_rows
from featcache.dataset.request import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.listing import Listing, order_splits
from featcache.recipe import StoreOptions
from featcache.store import DigestIndex, Digests, FeatureStore

Progress = Callable[[int, int], None]  # pairs of images that were compared, and that there are


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two images of different splits, at least one of which has no nearer neighbour in the other's split."""

    cosine: float
    exact: bool  # the same bytes
    images: tuple[ImageInSplit, ImageInSplit]


@dataclass(frozen=True, slots=True)
class SplitComparison:
    """The counts of two splits that were compared. Images are told apart by their bytes."""

    splits: tuple[str, str]
    images: tuple[int, int]  # compared
    near: tuple[int, int]  # of them, those with a neighbour in the other split that is near enough
    exact: int  # of them, those that stand in both with the same bytes


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """The near-duplicates between all splits of a data set."""

    cosine: float
    store: str
    between: tuple[SplitComparison, ...]
    pairs: tuple[NearPair, ...]  # nearest first

    def to_json(self) -> dict[str, Any]:
        """Return the value of `near` in the document of `featcache data --near … --json`."""
        return asdict(self)


@checked
def near_duplicates(
    cosine: float,
    *,
    progress: Progress = lambda *_: None,
    **options: Unpack[StoreOptions],
) -> NearDuplicates:
    """Return the images of each split whose nearest neighbour in another split has at least this cosine.

    Every two splits that one store holds are compared, as they were extracted; the image files are not needed. An
    image that stands in several rows is compared once.

    Args:
        cosine: above 0, at most 1; such as 0.98.
        progress: gets how many pairs of images were compared, and how many there are.
        **options: those of the command line that name a data set, a cache and a store (`recipe.StoreOptions`).

    Raises:
        UsageError: no such recipe, or a cosine that is none.
        CacheError: the cache does not hold two splits, it holds them in several stores, or a file of it is damaged.
    """
    if not 0 < cosine <= 1:
        raise UsageError(f"--near: found {cosine:g}, expected a cosine above 0 and up to 1, such as 0.98")
    request = DatasetRequest(**options)
    held = order_splits(key[2] for store in request.stores() for key in request.keys_of(store))
    store = request.store_of(held[0] if held else "train")
    splits = order_splits(key[2] for key in request.keys_of(store))
    if len(splits) < 2:
        raise CacheError(
            f"{store.root}: holds only split {splits[0]!r} of {request.recipe.name}, and near-duplicates are looked "
            f"for between two splits; run `featcache extract` for the others"
        )
    images = [_SplitImages.read(store, request.key_of(store, split)) for split in splits]
    total = sum(len(a) * len(b) for a, b in combinations(images, 2))
    done = 0
    between, pairs = [], []
    for a, b in combinations(images, 2):
        comparison, near = _compare(a, b, cosine, partial(_report, progress, done, total))
        between.append(comparison)
        pairs += near
        done += len(a) * len(b)
    request.stat_log.try_flush()
    pairs.sort(key=lambda pair: (-pair.cosine, *(image.path for image in pair.images)))
    return NearDuplicates(cosine, store.name, tuple(between), tuple(pairs))


@dataclass(frozen=True, slots=True, eq=False)
class _SplitImages:
    """The different images of one split, in listing order; indexing it reads their embeddings."""

    store: FeatureStore
    listing: Listing
    rows: Rows  # (images,), the first row of each
    digests: Digests  # (images, 32)

    @classmethod
    def read(cls, store: FeatureStore, key: tuple[str, str, str]) -> "_SplitImages":
        """Return the images of one split of a store."""
        extracted = store.listing(key)
        digests = extracted.digests[extracted.embedded]
        first = np.flatnonzero(DigestIndex(digests).find(digests) == np.arange(len(digests)))
        return cls(store, extracted.listing, extracted.embedded[first], digests[first])

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, rows: Any, /) -> Embeddings:
        return self.store.load(self.digests[rows])

    def image(self, number: int) -> ImageInSplit:
        """Return the image with this number, from 0."""
        row, listing = self.rows[number], self.listing
        return ImageInSplit(listing.split, listing.paths[row], listing.label_text(row))


def _compare(
    a: _SplitImages, b: _SplitImages, cosine: float, progress: Callable[[int], None]
) -> tuple[SplitComparison, list[NearPair]]:
    """Return the counts of two splits, and their pairs of near images, each once."""
    of_a, of_b = find_nearest_rows(a, b, cosine, progress=progress)
    twin_of_a, twin_of_b = DigestIndex(b.digests).find(a.digests), DigestIndex(a.digests).find(b.digests)
    a_to_b = _prefer_twins(twin_of_a[of_a.rows], of_a.neighbours)
    b_to_a = _prefer_twins(twin_of_b[of_b.rows], of_b.neighbours)
    _, first = np.unique(np.concatenate([of_a.rows * len(b) + a_to_b, b_to_a * len(b) + of_b.rows]), return_index=True)
    ends = np.concatenate([of_a.rows, b_to_a])[first], np.concatenate([a_to_b, of_b.rows])[first]
    cosines = np.concatenate([of_a.cosines, of_b.cosines])[first]
    pairs = [
        NearPair(similarity, bool(twin_of_a[i] == j), (a.image(i), b.image(j)))
        for i, j, similarity in zip(*(end.tolist() for end in ends), cosines.tolist(), strict=True)
    ]
    comparison = SplitComparison(
        splits=(a.listing.split, b.listing.split),
        near=(len(of_a.rows), len(of_b.rows)),
        images=(len(a), len(b)),
        exact=sum(pair.exact for pair in pairs),
    )
    return comparison, pairs


def _report(progress: Progress, before: int, total: int, now: int) -> None:
    """Report the products of two splits after those of the splits before them."""
    progress(before + now, total)


def _prefer_twins(twins: Rows, neighbours: Rows) -> Rows:
    """Return the image with the same bytes where there is one (`twins` is not -1): others may be as near."""
    return np.where(twins >= 0, twins, neighbours)
