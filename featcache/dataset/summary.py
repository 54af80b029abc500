"""What a data set contains, counted from its listings before a GPU is spent: no pixel is read, no image opened."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.containers import is_elsewhere, split_member_path
from featcache.dataset.duplicates import (
    Codes,
    Duplicates,
    LabelConflict,
    count_conflicts,
    find_duplicates,
    read_known_digests,
)
from featcache.dataset.request import DatasetRequest
from featcache.errors import FeatcacheError, UsageError
from featcache.listing import (
    Leak,
    Listing,
    distinct_texts,
    find_leaks,
    label_codes,
    note_leftovers,
    resolve_source,
    video_and_frame,
)
from featcache.recipe import LABEL, VALUE, DataOptions
from featcache.store import Digests, find_broken_stores, read_split_assignment

_MAX_STAT_CALLS = 8  # files of one folder, up to which asking for each is cheaper than listing the folder


@dataclass(frozen=True, slots=True)
class NumberContents:
    """What a number to predict is, over the rows of one split."""

    lowest: float
    mean: float
    highest: float
    deviation: float


@dataclass(frozen=True, slots=True)
class SplitContents:
    """The counts of one split. An image is a path: one that stands in two rows is one image."""

    rows: int
    images: int
    shared_images: int  # in two or more rows
    conflicting_images: int  # under two or more labels
    conflicts: tuple[LabelConflict, ...]  # most images first
    clips: int
    subjects: int
    classes: Mapping[str, int]  # rows of each, in the order of the labels; 0 where this split lacks one
    imbalance: float | None  # rows of the largest class over those of the smallest that has any
    not_on_disk: int | None  # images; None where nobody looked
    videos: int | None  # that the images are frames of; None where they are files
    ignored: tuple[str, ...]
    containers: int | None = None  # that the images stand in; None where they are files or frames
    targets: str = LABEL  # LABELS: `classes` are labels, of which a row has several or none; VALUE: numbers
    numbers: Mapping[str, NumberContents] = field(default_factory=dict)  # of VALUE, by name

    @property
    def lacking(self) -> tuple[str, ...]:
        """The classes without a row."""
        return tuple(name for name, rows in self.classes.items() if not rows)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a data set contains, split by split."""

    data_set: str
    variant: str
    root: str
    splits: Mapping[str, SplitContents]
    leaks: tuple[Leak, ...]  # of every two splits that share images, clips or subjects
    duplicates: Duplicates | None = None  # None where nothing of it was extracted
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache data --json`."""
        leaks = [
            {
                "splits": (leak.split, leak.other_split),
                "images": len(leak.paths),
                "clips": len(leak.clips),
                "subjects": leak.subjects,
            }
            for leak in self.leaks
        ]
        duplicates = None
        if self.duplicates is not None:
            across = self.duplicates.across_splits.items()
            duplicates = asdict(self.duplicates)
            duplicates["across_splits"] = [{"splits": pair, "contents": count} for pair, count in across]
        return {
            "data_set": self.data_set,
            "variant": self.variant,
            "root": self.root,
            "splits": {name: _split_json(split) for name, split in self.splits.items()},
            "cuts": leaks,
            "duplicates": duplicates,
            "notes": self.notes,
        }


def _split_json(split: SplitContents) -> dict[str, Any]:
    """Return the counts of one split; what only containers, labels or numbers have is left out of others."""
    document = {**asdict(split), "lacking": split.lacking}
    if split.containers is None:
        del document["containers"]
    if split.targets == LABEL:
        del document["targets"]
    if split.targets != VALUE:
        del document["numbers"]
    return document


@checked
def describe(*, splits: Sequence[str] | None = None, **options: Unpack[DataOptions]) -> Contents:
    """Return what the data set contains that the options name.

    Missing files are found by listing their folders. Where the cache holds the data set, the digests in it show exact
    duplicates; a cache that cannot be read is a note, not an error.

    Args:
        splits: the splits to describe; all of them where it is left out.
        **options: those of the command line that name a data set and a cache (`recipe.DataOptions`).

    Raises:
        UsageError: no such recipe, or an empty list of splits.
        DataError: the data set, or a split of it, cannot be listed.
        CacheError: the record of which image is in which split, or the list of the cache's stores, cannot be read.
    """
    if splits is not None and not splits:
        raise UsageError("splits is empty: name a split, or leave it out for every one")
    request = DatasetRequest(**options)
    source = resolve_source(request.recipe, read_split_assignment(request.folder, request.recipe.name, request.variant))
    listings = [source.listing(split) for split in (source.splits() if splits is None else dict.fromkeys(splits))]
    notes = ((source.unreadable,) if source.unreadable else ()) + (*request.notes, *_names_notes(listings))
    missing = {listing.split: count_missing(listing) for listing in listings}
    errors = find_broken_stores(request.folder, request.stat_log).values()
    notes = (*notes, *(f"exact duplicates were not looked for in a store: {error}" for error in errors))
    try:
        digests = read_known_digests(request.folder, listings)
    except FeatcacheError as error:
        notes = (*notes, f"exact duplicates were not looked for: {error}")
        return count_contents(listings, missing=missing, notes=notes)
    return count_contents(listings, missing=missing, digests=digests, notes=notes)


def _names_notes(listings: Sequence[Listing]) -> list[str]:
    """Return what a person should know of the names in the listings, as sentences, each once."""
    left_out = {path for listing in listings for path in listing.left_out}  # what stands beside the splits is in each
    return [*note_leftovers(left_out), *dict.fromkeys(note for listing in listings for note in listing.notes)]


def count_contents(
    listings: Sequence[Listing],
    *,
    missing: Mapping[str, int] | None = None,
    digests: Mapping[str, Digests] | None = None,
    notes: tuple[str, ...] = (),
) -> Contents:
    """Return the counts of the splits of one data set.

    Args:
        listings: one for each split.
        missing: split -> how many of its images have no file; a split that is not in it was not looked at.
        digests: split -> (rows, 32) uint8, zeros where a row's content is not known; without it no duplicates are
            looked for.
        notes: sentences for the result.

    Raises:
        ValueError: no listing, or listings that number their classes differently.
    """
    if len({listing.classes for listing in listings}) != 1:
        raise ValueError(f"the splits have {len({listing.classes for listing in listings})} lists of classes, not 1")
    columns = _number_images(listings)
    missing = missing or {}
    return Contents(
        data_set=listings[0].data_set,
        variant=listings[0].variant,
        root=listings[0].root,
        splits={
            listing.split: _count_split(listing, images, missing.get(listing.split))
            for listing, images in zip(listings, columns, strict=True)
        },
        leaks=tuple(find_leaks(listings)),
        duplicates=find_duplicates(listings, columns, digests) if digests else None,
        notes=notes,
    )


def count_missing(listing: Listing) -> int:
    """Return how many images of a listing have no file, video or container. Folders are listed, no file opened."""
    if is_elsewhere(listing.root):
        return 0  # the bucket, or the Hub, was listed
    if listing.videos:
        frames = Counter(video_and_frame(path)[0] for path in set(listing.paths))
        return sum(count for video, count in frames.items() if not os.path.isfile(os.path.join(listing.root, video)))
    if listing.members:
        images = Counter(split_member_path(path).container for path in set(listing.paths))
        return sum(count for file, count in images.items() if not os.path.isfile(os.path.join(listing.root, file)))
    wanted: dict[str, set[str]] = {}
    for path in listing.paths:
        above, separator, name = path.rpartition("/")
        wanted.setdefault(above + separator, set()).add(name)
    return sum(len(names) - _count_files(os.path.join(listing.root, folder), names) for folder, names in wanted.items())


def _count_files(folder: str, names: set[str]) -> int:
    """Return how many of these files a folder holds; 0 where it cannot be read."""
    if len(names) <= _MAX_STAT_CALLS:
        return sum(os.path.isfile(folder + name) for name in names)
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name in names and entry.is_file() for entry in entries)
    except (OSError, ValueError):
        return 0


def _number_images(listings: Sequence[Listing]) -> list[Codes]:
    """Return a number for each row's image, the same wherever it stands; one column, (rows,), for each listing."""
    numbers: dict[str, int] = {}
    have_one_root = len({listing.root for listing in listings}) == 1
    columns = []
    for listing in listings:
        paths = listing.paths if have_one_root else [listing.file(row) for row in range(len(listing))]
        column = (numbers.setdefault(path, len(numbers)) for path in paths)
        columns.append(np.fromiter(column, np.int64, len(listing)))
    return columns


def _count_split(listing: Listing, images: Codes, missing: int | None) -> SplitContents:
    """Return the counts of one split; `images` is (rows,), equal where two rows have one image."""
    _, rows_of_image = np.unique(images, return_counts=True)
    (codes,), names = label_codes([listing])
    conflicting, conflicts = count_conflicts(images, codes, names)
    support = listing.support()
    occurring = support[support > 0]
    is_of_numbers = listing.targets is not None and listing.targets.kind == VALUE
    return SplitContents(
        rows=len(listing),
        images=len(rows_of_image),
        shared_images=int((rows_of_image > 1).sum()),
        conflicting_images=conflicting,
        conflicts=conflicts,
        clips=len(distinct_texts(listing.clips) - {""}),
        subjects=len(distinct_texts(listing.subjects) - {""}),
        classes=dict(zip(listing.classes, support.tolist(), strict=True)),
        imbalance=float(occurring.max() / occurring.min()) if len(occurring) and not is_of_numbers else None,
        not_on_disk=missing,
        videos=len({video_and_frame(path)[0] for path in listing.paths}) if listing.videos else None,
        containers=len({split_member_path(path).container for path in listing.paths}) if listing.members else None,
        ignored=listing.ignored,
        targets=LABEL if listing.targets is None else listing.targets.kind,
        numbers=_describe_numbers(listing),
    )


def _describe_numbers(listing: Listing) -> dict[str, NumberContents]:
    """Return what the numbers of a listing are; none where it has none, or no row."""
    if listing.targets is None or listing.targets.kind != VALUE or not len(listing):
        return {}
    figures = [getattr(listing.targets.values, name)(axis=0).tolist() for name in ("min", "mean", "max", "std")]
    return {name: NumberContents(*of_number) for name, *of_number in zip(listing.classes, *figures, strict=True)}
