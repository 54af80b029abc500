"""Drive&Act as it comes: the data set's own annotations (`drive_act_annotations`), and its frames or videos.

A row of the listing is a frame; a line of the CSV is a chunk of 3 s: a clip. A frame that stands in two chunks is two
rows, whatever their labels. Whether a frame is on disk shows when it is read.

Frames are those of the pattern that the recipe names, `frames` or `videos`. Where it names neither, the folders of
frames are used if one is at its usual place, otherwise the videos; where both are there, the recipe must say which.
"""

import os
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, repeat
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.listing.drive_act_annotations import DRIVE_COLUMN, NUMBER_COLUMNS, DriveActAnnotations
from featcache.listing.listing import Listing, frame_path
from featcache.listing.sheet import Sheet
from featcache.listing.source import describe_splits
from featcache.listing.spellings import note_look_alikes
from featcache.recipe import ACTIVITY, FRAMES, VIDEOS, DriveActData

_T = TypeVar("_T")


class DriveAct:
    """The splits of one view, one level and one fold of Drive&Act; a `DataSource`."""

    has_disjoint_splits = False

    def __init__(self, data: DriveActData, *, data_set: str, variant: str) -> None:
        self.data, self.data_set, self.variant = data, data_set, variant
        self.annotations = DriveActAnnotations(data, data_set=data_set)

    def splits(self) -> list[str]:
        """Return the splits of the fold that have an annotation file; train, val and test first.

        Raises:
            DataError: there is none; the message says what there is.
        """
        return self.annotations.splits()

    def listing(self, split: str) -> Listing:
        """Return the frames of one split, in the order of its file; the classes are those of every file of the view.

        Raises:
            UsageError: which column is predicted cannot be told.
            DataError: no such split, or faulty annotations; every fault is named.
        """
        if split not in (names := self.splits()):
            there = describe_splits(names, instead_of=split)
            raise DataError(f"{self.annotations.folder}: fold {self.data.fold} has no split {split!r}; {there}")
        chunks, classes, target = self.annotations.chunks(split), self.annotations.classes, self.annotations.target
        numbers = {column: _parse_numbers(chunks, column) for column in NUMBER_COLUMNS}
        files, names_of_class = chunks.columns[DRIVE_COLUMN], chunks.columns[target]
        clips = list(map("{}/{}/{}".format, files, numbers["annotation_id"].tolist(), numbers["chunk_id"].tolist()))
        first, count = self._select_frames(numbers["frame_start"], numbers["frame_end"])
        index = {name: label for label, name in enumerate(classes)}
        labels = np.array([index[name] for name in names_of_class], dtype=np.int64)
        return Listing(
            data_set=self.data_set,
            variant=self.variant,
            split=split,
            root=os.path.abspath(self.data.root),
            classes=classes,
            paths=self._paths(chunks, numbers, first, count),
            labels=np.repeat(labels, count),
            clips=_repeat(clips, count),
            subjects=_repeat(list(map(str, numbers["participant_id"].tolist())), count),
            notes=(*self.annotations.notes(split), *note_look_alikes(target, classes)),
            videos=self._media == "videos",
        )

    @property
    def unreadable(self) -> str:
        """Why no frame of this data set can be read, as a sentence; "" where some may be."""
        if self._media:
            return ""
        places = " and ".join(self._usual_places(self.annotations.drives[0]))
        return (
            f"{os.path.abspath(self.data.root)}: neither frames nor videos are here; looked for {places}. Name the "
            f"folder that holds one of them with --data DIR or as the root in the recipe (then the annotations too: "
            f"`annotations`), or where they lie below it as `frames` or `videos`."
        )

    def _select_frames(
        self, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return each chunk's first frame and its number of rows, both (chunks,).

        The cap goes before the stride: the rows of any stride are among those of stride 1.
        """
        length = end - start + 1  # both ends belong to the chunk
        if self.data.frames_per_chunk is not None:
            length = np.minimum(length, self.data.frames_per_chunk)
        return start, -(-length // self.data.stride)

    def _paths(
        self,
        chunks: Sheet,
        numbers: dict[str, npt.NDArray[np.int64]],
        first: npt.NDArray[np.int64],
        count: npt.NDArray[np.int64],
    ) -> tuple[str, ...]:
        """Return every row's path, (rows,): the pattern of frames or videos, filled in.

        What stands before and after the frame's number is formatted once a chunk, a number once: a split has 10⁵ rows.
        """
        pattern = self.data.frames or FRAMES
        if self._media == "videos":
            pattern = frame_path(self.data.videos or VIDEOS, "{frame:06d}")
        before, spec, after = re.split(r"\{frame(?::([^{}]*))?\}", pattern)
        fields: dict[str, Sequence[object]] = {
            name: numbers[name].tolist() for name in ("participant_id", "annotation_id", "chunk_id")
        }
        fields[DRIVE_COLUMN] = chunks.columns[DRIVE_COLUMN]
        fields[ACTIVITY] = chunks.columns.get(ACTIVITY, chunks.columns[self.annotations.target])
        rows = (dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True))
        ends = [(before.format(**row, view=self.data.view), after.format(**row, view=self.data.view)) for row in rows]
        begins = np.cumsum(count) - count
        place_in_chunk = np.arange(count.sum()) - np.repeat(begins, count)
        frames, index = np.unique(np.repeat(first, count) + self.data.stride * place_in_chunk, return_inverse=True)
        digits = [format(frame, spec or "d") for frame in frames.tolist()]
        heads, tails = _repeat([head for head, _ in ends], count), _repeat([tail for _, tail in ends], count)
        return tuple(
            head + digits[frame] + tail for head, frame, tail in zip(heads, index.tolist(), tails, strict=True)
        )

    @cached_property
    def _media(self) -> str:
        """What is read, "frames" or "videos"; "" where the recipe does not say, and neither is at its usual place."""
        if self.data.frames is not None or self.data.videos is not None:
            return "frames" if self.data.videos is None else "videos"
        usual = [self._usual_places(drive) for drive in self.annotations.drives]
        frames = [folder for folder, _ in usual if os.path.isdir(folder)]
        videos = [video for _, video in usual if os.path.isfile(video)]
        if frames and videos:
            raise DataError(
                f"{os.path.abspath(self.data.root)}: frames are here ({frames[0]}), and videos too ({videos[0]}); the "
                f'recipe must say which are meant: frames = "{FRAMES}" or videos = "{VIDEOS}"'
            )
        return "frames" if frames else "videos" if videos else ""

    def _usual_places(self, drive: str) -> tuple[str, str]:
        """Return where the folder of a drive's frames, and its video, lie where the recipe names neither."""
        root = os.path.abspath(self.data.root)
        frame, video = (
            os.path.join(root, p.format(file_id=drive, view=self.data.view, frame=0)) for p in (FRAMES, VIDEOS)
        )
        return os.path.dirname(frame), video


def _parse_numbers(chunks: Sheet, column: str) -> npt.NDArray[np.int64]:
    """Return a column of whole numbers, (chunks,)."""
    return np.array(list(map(int, chunks.columns[column])), dtype=np.int64)


def _repeat(values: list[_T], count: npt.NDArray[np.int64]) -> tuple[_T, ...]:
    """Return each chunk's value once for each of its rows, (rows,)."""
    return tuple(chain.from_iterable(map(repeat, values, count.tolist())))
