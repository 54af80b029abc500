"""Exact duplicates: images that a data set has more than once, under two labels or with equal bytes under two paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.files import StatLog
from featcache.listing import Listing, label_codes
from featcache.store import DigestIndex, Digests, ExtractedListing, find_stores, is_same_folder

Codes = npt.NDArray[np.int64]  # (rows,), equal where two rows mean the same thing


@dataclass(frozen=True, slots=True)
class LabelConflict:
    """How many images stand under both of two labels."""

    labels: tuple[str, str]
    images: int


@dataclass(frozen=True, slots=True)
class ImageInSplit:
    """One image, as it stands in a split."""

    split: str
    path: str
    label: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Images with equal bytes under different paths, as the cache saw them when they were extracted."""

    images: int  # whose content the cache knows
    contents: int  # different ones among them
    repeated: int  # contents that stand under two or more paths
    across_splits: Mapping[tuple[str, str], int]  # repeated contents that stand in both
    conflicting: int  # repeated contents under two or more labels
    conflicts: tuple[LabelConflict, ...]
    groups: tuple[tuple[ImageInSplit, ...], ...]  # every row of each repeated content that crosses splits or labels


def find_duplicates(listings: Sequence[Listing], images: Sequence[Codes], digests: Mapping[str, Digests]) -> Duplicates:
    """Return the exact duplicates among the rows whose digest is known.

    Args:
        listings: one for each split.
        images: for each listing (rows,), equal where two rows have one path.
        digests: split -> (rows, 32) uint8, zeros where a row's content is not known; at least one split is in it.
    """
    chosen = [i for i, listing in enumerate(listings) if listing.split in digests]
    digest = np.concatenate([digests[listings[i].split] for i in chosen])
    split = np.repeat(chosen, [len(listings[i]) for i in chosen])
    row = np.concatenate([np.arange(len(listings[i])) for i in chosen])
    image = np.concatenate([images[i] for i in chosen])
    codes, names = label_codes([listings[i] for i in chosen])
    label = np.concatenate(codes)
    has_digest = digest.any(axis=1)  # zeros: not extracted, or not readable
    split, row, image, label = (column[has_digest] for column in (split, row, image, label))
    digest = digest[has_digest]

    content = DigestIndex(digest).find(digest)  # the first row with these bytes
    repeated = _with_several(content, image)
    twice = np.isin(content, repeated)
    of_split = {i: _distinct(content[twice & (split == i)]) for i in chosen}
    conflicting, conflicts = count_conflicts(content[twice], label[twice], names)

    crossing = np.concatenate([_with_several(content, split), _with_several(content, label)])
    rows = np.flatnonzero(twice & np.isin(content, crossing))
    rows = rows[np.argsort(content[rows], kind="stable")]
    return Duplicates(
        images=len(_distinct(image)),
        contents=len(_distinct(content)),
        repeated=len(repeated),
        across_splits={
            (listings[i].split, listings[j].split): len(np.intersect1d(of_split[i], of_split[j], assume_unique=True))
            for i, j in combinations(chosen, 2)
        },
        conflicting=conflicting,
        conflicts=conflicts,
        groups=tuple(
            tuple(dict.fromkeys(_image_in_split(listings[split[at]], row[at]) for at in group))
            for group in np.split(rows, np.flatnonzero(np.diff(content[rows])) + 1)
            if len(group)
        ),
    )


def count_conflicts(
    images: Codes, labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> tuple[int, tuple[LabelConflict, ...]]:
    """Return how many images stand under two or more labels, and how many under which two, most first.

    An image of k labels counts for k (k - 1) / 2 pairs. `images` and `labels` are (rows,).
    """
    entries = _distinct(images * len(classes) + labels)  # each image once under each of its labels
    image, label = np.divmod(entries, len(classes))
    _, labels_of = np.unique(image, return_counts=True)
    pairs = [np.empty(0, dtype=np.int64)]
    for step in range(1, labels_of.max(initial=1)):
        same = image[step:] == image[:-step]
        pairs.append(label[:-step][same] * len(classes) + label[step:][same])
    numbers, counts = np.unique(np.concatenate(pairs), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    conflicts = (
        LabelConflict((classes[number // len(classes)], classes[number % len(classes)]), count)
        for number, count in zip(numbers[order].tolist(), counts[order].tolist(), strict=True)
    )
    return int((labels_of > 1).sum()), tuple(conflicts)


def read_known_digests(cache: Path, listings: Sequence[Listing]) -> dict[str, Digests]:
    """Return the digests that the cache has of the rows' files, (rows, 32) uint8 for each split of which it has any.

    A row that was not extracted, or whose file could not be read, has zeros; so has one of another folder under the
    same name. Where several stores extracted different states of a split, the one that knows most of its rows counts.

    Raises:
        CacheError: a store or a listing of it is damaged.
    """
    stores = find_stores(cache, StatLog(cache))
    digests = {}
    for listing in listings:
        key = (listing.data_set, listing.variant, listing.split)
        holding = [store for store in stores if key in store.listings]
        lines = {
            store.listings[key].sha256: store for store in holding if is_same_folder(store.origin(key)[0], listing.root)
        }
        columns = [_look_up(listing, store.listing(key)) for store in lines.values()]
        best = max(columns, key=lambda column: int(column.any(axis=1).sum()), default=None)
        if best is not None and best.any():
            digests[listing.split] = best
    return digests


def _look_up(listing: Listing, extracted: ExtractedListing) -> Digests:
    """Return the digests of a listing's rows, (rows, 32), by their paths; zeros where nothing was extracted."""
    if extracted.listing.paths == listing.paths:
        return extracted.digests
    row_of = {path: row for row, path in enumerate(extracted.listing.paths)}
    rows = np.array([row_of.get(path, -1) for path in listing.paths], dtype=np.int64)
    return np.concatenate([extracted.digests, np.zeros((1, 32), np.uint8)])[rows]  # -1 is the row of zeros


def _image_in_split(listing: Listing, row: int) -> ImageInSplit:
    """Return the image of one row of a listing."""
    return ImageInSplit(listing.split, listing.paths[row], listing.label_text(row))


def _with_several(codes: Codes, others: Codes) -> Codes:
    """Return the codes that stand beside two or more different others, sorted; both are (rows,)."""
    width = others.max(initial=0) + 1
    distinct, counts = np.unique(_distinct(codes * width + others) // width, return_counts=True)
    return distinct[counts > 1]


def _distinct(codes: Codes) -> Codes:
    """Return the codes sorted, each once. np.unique hashes them since NumPy 2.3: 0.5 s for 400,000 such products."""
    ordered = np.sort(codes)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=-1))]
