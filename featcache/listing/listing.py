"""Listing: the rows of one split, one sequence or array a column. It names images and reads no pixel of them."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from featcache.containers import MemberPath, split_member_path
from featcache.errors import UsageError
from featcache.listing.columns import take_texts
from featcache.listing.leftovers import note_leftovers
from featcache.listing.targets import RowTargets

_FRAME_PATH = re.compile(r"(?s).+#(\d{6}|[1-9]\d{6,11})")


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """One split of one variant of a data set."""

    data_set: str
    variant: str
    split: str
    root: str  # absolute; paths are relative to it
    classes: tuple[str, ...]  # of all splits, sorted
    paths: Sequence[str]  # (rows,), with "/", as os.fsdecode gives them: lossless for any file name
    labels: npt.NDArray[np.int64]  # (rows,), an index into `classes`
    clips: Sequence[str]  # (rows,), "" where an image belongs to no clip
    subjects: Sequence[str]  # (rows,), "" where nobody is named
    ignored: tuple[str, ...] = ()  # files without an image's suffix: not rows, but reported
    part: str = ""  # how a subset was asked for ("limit 100"); "" is the whole split
    left_out: tuple[str, ...] = ()  # hidden entries and system leftovers, below the root; not kept on disk
    notes: tuple[str, ...] = ()  # what a person should know of its names, as sentences; not kept on disk
    videos: bool = False  # whether a path names a frame of a video, as `frame_path` writes it
    members: bool = False  # whether a path names an image in a container, as `containers.member_path` writes it
    # (rows, 4): of objects in a bucket, what stands for the stat of each, as it was listed; not kept on disk
    stats: npt.NDArray[np.int64] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # how it was laid out, see `list_data_settings`
    targets: RowTargets | None = None  # of rows without one class each: `labels` is 0, `classes` names the targets

    def __post_init__(self) -> None:
        columns = (len(self.paths), len(self.labels), len(self.clips), len(self.subjects))
        if len(set(columns)) != 1:
            raise ValueError(f"paths, labels, clips, subjects have {columns} rows")
        if self.targets is not None and self.targets.values.shape != (len(self.paths), len(self.classes)):
            raise ValueError(f"targets have shape {self.targets.values.shape} for {len(self.classes)} names")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"<Listing {self.data_set}/{self.variant}/{self.split}: {len(self):,} rows, {len(self.classes)} classes>"

    def file(self, row: int) -> str:
        """Return the absolute path of one row's image.

        Args:
            row: Which row, counted from 0.
        """
        return os.path.join(self.root, self.paths[row])

    def files(self) -> list[str]:
        """Return the absolute path of every row's image, (rows,)."""
        return list(self.iter_files())

    def iter_files(self) -> Iterator[str]:
        """Yield the absolute path of every row's image."""
        root = os.path.join(self.root, "")
        return (path if path.startswith("/") else root + path for path in self.paths)

    def image_path(self, row: int) -> str | MemberPath:
        """Return what is read for a row: the absolute path of its file, or of a container with the image's key there.

        Args:
            row: Which row, counted from 0.
        """
        file = self.file(row)
        return split_member_path(file) if self.members else file

    def remarks(self) -> list[str]:
        """Return what a person should know of the names in the folder or table: what was left out, what looks alike."""
        return [*note_leftovers(self.left_out), *self.notes]

    def take(self, rows: npt.NDArray[np.int64], *, part: str = "") -> "Listing":
        """Return a listing of the rows at these indices, in this order.

        Args:
            rows: (n,), indices of rows.
            part: How the subset was asked for, such as "limit 100"; "" where it is no part.
        """
        return replace(
            self,
            paths=take_texts(self.paths, rows),
            labels=self.labels[rows],
            clips=take_texts(self.clips, rows),
            subjects=take_texts(self.subjects, rows),
            part=part,
            stats=None if self.stats is None else self.stats[rows],
            targets=None if self.targets is None else self.targets.take(rows),
        )

    def has_same_rows(self, other: "Listing") -> bool:
        """Return whether two listings have the same classes, paths and labels, row for row; False with targets.

        Args:
            other: Another listing of the same data set.
        """
        if self.targets is not None or other.targets is not None or self.classes != other.classes:
            return False
        return np.array_equal(self.labels, other.labels) and self.paths == other.paths

    def label_text(self, row: int) -> str:
        """Return what one row is: its class; its labels, "red | round"; or its numbers.

        Args:
            row: Which row, counted from 0.
        """
        if self.targets is None:
            return self.classes[int(self.labels[row])]
        return self.targets.describe(self.classes, row)

    def support(self) -> npt.NDArray[np.int64]:
        """Return how many rows each class, or label, has, (classes,)."""
        if self.targets is not None:
            return self.targets.support()
        return np.bincount(self.labels, minlength=len(self.classes))


def label_codes(listings: Sequence[Listing]) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...]]:
    """Return a number for each row, equal where two rows have the same class, labels or numbers, and what each means.

    Args:
        listings: Of one data set, with the same classes.
    """
    if all(listing.targets is None for listing in listings):
        return [listing.labels for listing in listings], listings[0].classes
    names: dict[str, int] = {}
    codes = [
        np.array([names.setdefault(listing.label_text(row), len(names)) for row in range(len(listing))], np.int64)
        for listing in listings
    ]
    return codes, tuple(names)


def frame_path(video: str, frame: str) -> str:
    """Return the path of one frame: that of its video, and its number (from 0), such as "vp1/run.mp4#000123".

    Args:
        video: The path of the video.
        frame: The frame's number, in six digits or as many as it needs.
    """
    return f"{video}#{frame}"


def is_frame_path(path: str) -> bool:
    """Return whether `frame_path` could have made a path.

    A frame has one name: its number is written in six digits, or in as many as it needs.

    Args:
        path: The path of a row, as a listing has it.
    """
    return _FRAME_PATH.fullmatch(path) is not None


def video_and_frame(path: str) -> tuple[str, int]:
    """Return the path of a frame's video and the frame's number, from 0: the inverse of `frame_path`.

    Args:
        path: Relative or absolute, as `frame_path` writes it.

    Raises:
        ValueError: no number stands at its end.
    """
    video, _, frame = path.rpartition("#")
    return video, int(frame)


def take_subset(listing: Listing, *, limit: int | None = None, fraction: float | None = None, seed: int = 0) -> Listing:
    """Return a stratified part of a listing for a first look, in listing order; the whole where no size is given.

    A row's turn depends on its own path and the seed alone, so a larger part contains a smaller one, and a few
    images added elsewhere change little. Every class gives its first row before any gives its second share.

    Args:
        listing: The rows of one split.
        limit: How many rows, at least 1.
        fraction: Which share of the rows, above 0 and up to 1; not together with `limit`.
        seed: From 0 to 2⁶³ - 1; another one draws other rows.

    Raises:
        UsageError: both sizes are given, or a number is out of range.
    """
    if limit is None and fraction is None:
        return listing
    if limit is not None and fraction is not None:
        raise UsageError("--limit and --fraction were both given; a subset has one size, leave one out")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed: found {seed}, expected a number from 0 to {2**63 - 1}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: found {limit}, expected at least 1")
    if fraction is not None and not 0 < fraction <= 1:
        raise UsageError(f"--fraction: found {fraction}, expected more than 0 and at most 1")
    wanted = limit if limit is not None else max(1, round(len(listing) * (fraction or 1.0)))
    if wanted >= len(listing):
        return listing
    turn = np.array([draw_number(path, seed) for path in listing.paths], dtype=np.uint64)
    share = np.empty(len(listing))
    for rows in _rows_by_class(listing.labels):
        share[rows[np.argsort(turn[rows], kind="stable")]] = np.arange(len(rows)) / len(rows)
    chosen = np.sort(np.lexsort((turn, share))[:wanted])
    part = f"limit {limit}" if limit is not None else f"fraction {fraction}"
    return listing.take(chosen, part=f"{part}, seed {seed}" if seed else part)


def draw_number(path: str, seed: int) -> int:
    """Return a 64-bit number that depends on a name and the seed alone, to put names into a seeded order."""
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8, salt=seed.to_bytes(16, "little")).digest()
    return int.from_bytes(digest, "little")


def _rows_by_class(labels: npt.NDArray[np.int64]) -> Sequence[npt.NDArray[np.int64]]:
    """Return the rows of each class that has any, in listing order."""
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.split(order, starts[1:])
