"""What is in a data set, before a GPU is spent: counted from its listings; no pixel is read, no file opened."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.dataset.duplicates import Codes, Conflict, Duplicates, conflicts_of, duplicates_of, known_digests
from featcache.dataset.request import Asked
from featcache.errors import FeatcacheError, UsageError
from featcache.listing import Leak, Listing, data_source, find_leaks, left_out_notes, video_and_frame
from featcache.recipe import DataOptions
from featcache.store import Digests, find_broken_stores, read_split_assignment

_FEW = 8  # files wanted of one folder, up to which asking for each is cheaper than listing the folder


@dataclass(frozen=True, slots=True)
class SplitContents:
    """One split. An image is a path: one that stands in two rows is one image."""

    rows: int
    images: int
    shared_images: int  # in two or more rows
    conflicting_images: int  # under two or more labels
    conflicts: tuple[Conflict, ...]  # most images first
    clips: int
    subjects: int
    classes: Mapping[str, int]  # rows of each, in the order of the labels; 0 where this split lacks one
    imbalance: float | None  # rows of the largest class over those of the smallest that has any
    not_on_disk: int | None  # images; None where nobody looked
    videos: int | None  # that the images are frames of; None where they are files
    ignored: tuple[str, ...]

    @property
    def lacking(self) -> tuple[str, ...]:
        """The classes without a row."""
        return tuple(name for name, rows in self.classes.items() if not rows)


@dataclass(frozen=True, slots=True)
class Contents:
    """A data set, all its splits."""

    data_set: str
    variant: str
    root: str
    splits: Mapping[str, SplitContents]
    cuts: tuple[Leak, ...]  # every two splits that share images, clips or subjects
    duplicates: Duplicates | None = None  # None where nothing of it was extracted
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `featcache data --json`."""
        document = asdict(self)
        for name, split in self.splits.items():
            document["splits"][name]["lacking"] = split.lacking
        document["cuts"] = [
            {
                "splits": (cut.one, cut.other),
                "images": len(cut.paths),
                "clips": len(cut.clips),
                "subjects": cut.subjects,
            }
            for cut in self.cuts
        ]
        if self.duplicates is not None:
            across = self.duplicates.across_splits.items()
            document["duplicates"]["across_splits"] = [{"splits": pair, "contents": count} for pair, count in across]
        return document


@checked
def describe(*, splits: Sequence[str] | None = None, **where: Unpack[DataOptions]) -> Contents:
    """What is in the data set that the recipe means; `splits` names some of its splits, without it all are meant.

    Files are looked for by listing their folders. Where the cache holds the data set, the digests that it has
    show exact duplicates; a cache that cannot be read is a note, not an error.

    Raises:
        UsageError: no such recipe, or an empty list of splits.
        DataError: the data set, or a split of it, cannot be listed.
        CacheError: who was dealt to which split cannot be read.
    """
    if splits is not None and not splits:
        raise UsageError("splits is empty: name a split, or leave it out for every one")
    asked = Asked(**where)
    found = data_source(asked.recipe, read_split_assignment(asked.folder, asked.recipe.name, asked.variant))
    listings = [found.listing(split) for split in (found.splits() if splits is None else dict.fromkeys(splits))]
    notes = ((found.absent,) if found.absent else ()) + tuple(_remarks(listings))
    missing = {listing.split: not_on_disk(listing) for listing in listings}
    lost = find_broken_stores(asked.folder, asked.known).values()
    notes = (*notes, *(f"exact duplicates were not looked for in a store: {error}" for error in lost))
    try:
        digests = known_digests(asked.folder, listings)
    except FeatcacheError as error:
        notes = (*notes, f"exact duplicates were not looked for: {error}")
        return contents(listings, missing=missing, notes=notes)
    return contents(listings, missing=missing, digests=digests, notes=notes)


def _remarks(listings: Sequence[Listing]) -> list[str]:
    """What the listings say of the data set's names, each thing once."""
    left_out = {path for listing in listings for path in listing.left_out}  # what stands beside the splits is in each
    return [*left_out_notes(left_out), *dict.fromkeys(note for listing in listings for note in listing.notes)]


def contents(
    listings: Sequence[Listing],
    *,
    missing: Mapping[str, int] | None = None,
    digests: Mapping[str, Digests] | None = None,
    notes: tuple[str, ...] = (),
) -> Contents:
    """Count what stands in the splits of one data set.

    `missing` is how many images of a split have no file yet; `digests` are (rows, 32) of a split, zeros where
    a row's content is not known.

    Raises:
        ValueError: no listing, or listings that number their classes differently.
    """
    if len({listing.classes for listing in listings}) != 1:
        raise ValueError(f"the splits have {len({listing.classes for listing in listings})} lists of classes, not 1")
    images = _number(listings)
    missing = missing or {}
    return Contents(
        data_set=listings[0].data_set,
        variant=listings[0].variant,
        root=listings[0].root,
        splits={
            listing.split: _split(listing, column, missing.get(listing.split))
            for listing, column in zip(listings, images, strict=True)
        },
        cuts=tuple(find_leaks(listings)),
        duplicates=duplicates_of(listings, images, digests) if digests else None,
        notes=notes,
    )


def not_on_disk(listing: Listing) -> int:
    """How many different images of a listing have no file yet, or no video. Folders are listed; no file is opened."""
    if listing.videos:
        frames = Counter(video_and_frame(path)[0] for path in set(listing.paths))
        return sum(count for video, count in frames.items() if not os.path.isfile(os.path.join(listing.root, video)))
    wanted: dict[str, set[str]] = {}
    for path in listing.paths:
        above, separator, name = path.rpartition("/")
        wanted.setdefault(above + separator, set()).add(name)
    return sum(len(names) - _found(os.path.join(listing.root, folder), names) for folder, names in wanted.items())


def _found(folder: str, names: set[str]) -> int:
    """How many of these files a folder holds; none, where it cannot be looked into."""
    if len(names) <= _FEW:
        return sum(os.path.isfile(folder + name) for name in names)
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name in names and entry.is_file() for entry in entries)
    except (OSError, ValueError):
        return 0


def _number(listings: Sequence[Listing]) -> list[Codes]:
    """A number for each image, the same wherever it stands; one column, (rows,), for each listing."""
    numbers: dict[str, int] = {}
    one_root = len({listing.root for listing in listings}) == 1
    columns = []
    for listing in listings:
        paths = listing.paths if one_root else [listing.file(row) for row in range(len(listing))]
        column = (numbers.setdefault(path, len(numbers)) for path in paths)
        columns.append(np.fromiter(column, np.int64, len(listing)))
    return columns


def _named(column: Sequence[str]) -> set[str]:
    return set(column) - {""}


def _split(listing: Listing, images: Codes, missing: int | None) -> SplitContents:
    _, rows_of = np.unique(images, return_counts=True)
    conflicting, conflicts = conflicts_of(images, listing.labels, listing.classes)
    support = listing.support()
    occurring = support[support > 0]
    return SplitContents(
        rows=len(listing),
        images=len(rows_of),
        shared_images=int((rows_of > 1).sum()),
        conflicting_images=conflicting,
        conflicts=conflicts,
        clips=len(_named(listing.clips)),
        subjects=len(_named(listing.subjects)),
        classes=dict(zip(listing.classes, support.tolist(), strict=True)),
        imbalance=float(occurring.max() / occurring.min()) if len(occurring) else None,
        not_on_disk=missing,
        videos=len({video_and_frame(path)[0] for path in listing.paths}) if listing.videos else None,
        ignored=listing.ignored,
    )
