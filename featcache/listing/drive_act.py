"""Drive&Act as it comes: the data set's own annotations, and its frames in folders or in the videos.

    <annotations>/<view>/midlevel.chunks_90.split_<fold>.<split>.csv
    participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id

A row of the listing is a frame; a line of the CSV is a chunk of 3 s: a clip. A frame that stands in two chunks is two
rows, whatever their labels. Whether a frame is on disk shows when it is read.

Frames are those of the pattern that the recipe names, `frames` or `videos`. Where it names neither, the folders of
frames are taken where one is at its usual place, else the videos; where both are, the recipe must say which.
"""

import os
import re
from functools import cached_property, partial
from itertools import chain, repeat
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.listing import sheet
from featcache.listing.listing import Listing, frame_path
from featcache.listing.sheet import Sheet
from featcache.listing.source import in_order
from featcache.listing.spellings import apart_in_case, faults_of_spelling, look_alikes
from featcache.recipe import FRAMES, VIDEOS, DriveActData

ANNOTATIONS = "iccv_activities_3s/activities_3s"
_NUMBERS = ("participant_id", "annotation_id", "frame_start", "frame_end", "chunk_id")
_NAMES = ("file_id", "activity")
_FILE = re.compile(r"midlevel\.chunks_90\.split_([0-9])\.(train|val|test)\.csv")
_WHOLE = re.compile(r"[0-9]{1,7}")  # a week at 15 frames a second, and no memory is spent on nonsense
_T = TypeVar("_T")


class DriveAct:
    """One view and one fold."""

    apart = False

    def __init__(self, data: DriveActData, *, data_set: str, variant: str) -> None:
        self.data, self.data_set, self.variant = data, data_set, variant
        annotations = data.annotations or os.path.join(data.root, *ANNOTATIONS.split("/"))
        self.folder = os.path.join(annotations, data.view)

    def splits(self) -> list[str]:
        """The splits of the fold that have an annotation file.

        Raises:
            DataError: there is none; the message says what there is.
        """
        found = in_order(split for fold, split in self._files if fold == self.data.fold)
        if not found:
            folds = ", ".join(sorted({str(fold) for fold, _ in self._files})) or "none"
            raise DataError(
                f"{self.folder}: no annotations of fold {self.data.fold}; found folds: {folds}; expected "
                f"midlevel.chunks_90.split_{self.data.fold}.train.csv. Name another fold or view in the recipe."
            )
        return found

    def listing(self, split: str) -> Listing:
        """The frames of one split, in the order of its file; the classes are those of every file of the view.

        Raises:
            DataError: no such split, or faulty annotations, every fault named.
        """
        if split not in (names := self.splits()):
            raise DataError(f"{self.folder}: fold {self.data.fold} has no split {split!r}; found {', '.join(names)}")
        chunks = self._sheets[self.data.fold, split]
        name = self._files[self.data.fold, split]
        sheet.refuse(self.folder, [*self._faults, *(f"{name}, {fault}" for fault in _faults(chunks))])
        number = {column: _numbers(chunks, column) for column in _NUMBERS}
        files, activities = chunks.columns["file_id"], chunks.columns["activity"]
        clips = list(map("{}/{}/{}".format, files, number["annotation_id"].tolist(), number["chunk_id"].tolist()))
        first, count = self._frames(number["frame_start"], number["frame_end"])
        index = {activity: label for label, activity in enumerate(self._classes)}
        labels = np.array([index[activity] for activity in activities], dtype=np.int64)
        return Listing(
            data_set=self.data_set,
            variant=self.variant,
            split=split,
            root=os.path.abspath(self.data.root),
            classes=self._classes,
            paths=self._paths(chunks, number, first, count),
            labels=np.repeat(labels, count),
            clips=_each(clips, count),
            subjects=_each(list(map(str, number["participant_id"].tolist())), count),
            notes=tuple(look_alikes("activity", self._classes)),
            videos=self._there == "videos",
        )

    @property
    def absent(self) -> str:
        """Why no frame of this data set can be read, as a sentence; "" where some may be."""
        if self._there:
            return ""
        return (
            f"{os.path.abspath(self.data.root)}: neither frames nor videos are here; looked for "
            f"{' and '.join(self._usual(self._drives[0]))}. Name the folder that holds one of them with "
            f"--data DIR or as the root in the recipe (then the annotations too: `annotations`), or where they lie "
            f"below it as `frames` or `videos`."
        )

    def _frames(
        self, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Each chunk's first frame, and its number of rows, (chunks,).

        The cap goes before the stride: the rows of any stride are among those of stride 1.
        """
        length = end - start + 1  # both ends belong to the chunk
        if self.data.frames_per_chunk is not None:
            length = np.minimum(length, self.data.frames_per_chunk)
        return start, -(-length // self.data.stride)

    def _paths(
        self,
        chunks: Sheet,
        number: dict[str, npt.NDArray[np.int64]],
        first: npt.NDArray[np.int64],
        count: npt.NDArray[np.int64],
    ) -> tuple[str, ...]:
        """The pattern, filled in: its ends once for each chunk, the frame's digits once for each number."""
        pattern = self.data.frames or FRAMES
        if self._there == "videos":
            pattern = frame_path(self.data.videos or VIDEOS, "{frame:06d}")
        before, spec, after = re.split(r"\{frame(?::([^{}]*))?\}", pattern)
        fields = {name: chunks.columns[name] for name in _NAMES} | {
            name: number[name].tolist() for name in ("participant_id", "annotation_id", "chunk_id")
        }
        rows = (dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True))
        ends = [(before.format(**row, view=self.data.view), after.format(**row, view=self.data.view)) for row in rows]
        begins = np.cumsum(count) - count
        place = np.arange(count.sum()) - np.repeat(begins, count)  # of a row in its chunk
        frames, which = np.unique(np.repeat(first, count) + self.data.stride * place, return_inverse=True)
        digits = [format(frame, spec or "d") for frame in frames.tolist()]
        heads, tails = _each([head for head, _ in ends], count), _each([tail for _, tail in ends], count)
        return tuple(
            head + digits[frame] + tail for head, frame, tail in zip(heads, which.tolist(), tails, strict=True)
        )

    @cached_property
    def _there(self) -> str:
        """Which are read, "frames" or "videos"; "" where the recipe does not say, and neither is at its usual place."""
        if self.data.frames is not None or self.data.videos is not None:
            return "frames" if self.data.videos is None else "videos"
        usual = [self._usual(drive) for drive in self._drives]
        frames = [folder for folder, _ in usual if os.path.isdir(folder)]
        videos = [video for _, video in usual if os.path.isfile(video)]
        if frames and videos:
            raise DataError(
                f"{os.path.abspath(self.data.root)}: frames are here ({frames[0]}), and videos too ({videos[0]}); the "
                f'recipe must say which are meant: frames = "{FRAMES}" or videos = "{VIDEOS}"'
            )
        return "frames" if frames else "videos" if videos else ""

    @cached_property
    def _drives(self) -> list[str]:
        """The file_id of every drive of the view, in the order of its files."""
        return list(dict.fromkeys(file for found in self._sheets.values() for file in found.columns.get("file_id", ())))

    def _usual(self, drive: str) -> tuple[str, str]:
        """Where the folder of a drive's frames, and its video, lie where the recipe names neither."""
        root = os.path.abspath(self.data.root)
        frame, video = (
            os.path.join(root, p.format(file_id=drive, view=self.data.view, frame=0)) for p in (FRAMES, VIDEOS)
        )
        return os.path.dirname(frame), video

    @cached_property
    def _files(self) -> dict[tuple[int, str], str]:
        """(fold, split) -> file name, for every annotation file of the view."""
        try:
            names = sorted(os.listdir(self.folder))
        except OSError as error:
            raise DataError(
                f"{self.folder}: the annotations of data set {self.data_set!r} cannot be read: {error.strerror}; "
                f"expected <root>/{ANNOTATIONS}/<view>. Name the data set's folder with --data DIR or the root in the "
                f"recipe, or the folder of the views as `annotations`."
            ) from None
        return {(int(found[1]), found[2]): name for name in names if (found := _FILE.fullmatch(name))}

    @cached_property
    def _sheets(self) -> dict[tuple[int, str], Sheet]:
        return {
            key: sheet.read(os.path.join(self.folder, name), (*_NUMBERS, *_NAMES)) for key, name in self._files.items()
        }

    @cached_property
    def _faults(self) -> list[str]:
        """What keeps any file of the view from being read, or its names from being told apart."""
        faults = [f"{self._files[key]}, {fault}" for key, found in self._sheets.items() for fault in found.problems]
        for what in _NAMES:
            names = [name for found in self._sheets.values() for name in found.columns.get(what, ())]
            faults += faults_of_spelling(what, names, partial(self._place, what))
        classes_of = {file: self._sheets[key].columns.get("activity", ()) for key, file in self._files.items()}
        return faults or apart_in_case("activity", classes_of, partial(self._place, "activity"))

    def _place(self, column: str, name: str) -> str:
        """Where a name stands first: file and line."""
        for key, found in self._sheets.items():
            if name in (cells := found.columns.get(column, ())):
                return f"{self._files[key]}, {found.place(cells.index(name))}"
        raise ValueError(name)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """One list for all folds and splits: a split that lacks a class must not shift those behind it."""
        return tuple(sorted({name for found in self._sheets.values() for name in found.columns["activity"]}))


def _faults(chunks: Sheet) -> list[str]:
    """Every line that cannot be: a number that is none, an end before the start, a name that leaves the root."""
    faults: list[str] = []
    labels: dict[tuple[str, str, str], tuple[str, str]] = {}
    columns = (*_NUMBERS, *_NAMES)
    if any(name not in chunks.columns for name in columns):  # said already
        return faults
    if not len(chunks) and not chunks.problems:
        return ["line 2: no chunk in it"]
    for number, values in enumerate(zip(*(chunks.columns[name] for name in columns), strict=True)):
        row, place = dict(zip(columns, values, strict=True)), chunks.place(number)
        bad = [name for name in _NUMBERS if not _WHOLE.fullmatch(row[name])]
        faults += [f"{place}: {name} is {row[name]!r}, expected a whole number of at most 7 digits" for name in bad]
        if not bad and int(row["frame_end"]) < int(row["frame_start"]):
            faults.append(f"{place}: frame_end {row['frame_end']} lies before frame_start {row['frame_start']}")
        for name in _NAMES:  # both may stand in the path of a frame
            if any(part in ("", ".", "..") for part in row[name].split("/")):
                faults.append(f"{place}: {name} is {row[name]!r}, expected a name without empty parts, '.' and '..'")
        clip = (row["file_id"], row["annotation_id"], row["chunk_id"])
        known, where = labels.setdefault(clip, (row["activity"], place))
        if known != row["activity"]:
            faults.append(f"{place}: a chunk under {row['activity']!r} that stands under {known!r} on {where}")
    return faults


def _numbers(chunks: Sheet, column: str) -> npt.NDArray[np.int64]:
    return np.array(list(map(int, chunks.columns[column])), dtype=np.int64)


def _each(values: list[_T], count: npt.NDArray[np.int64]) -> tuple[_T, ...]:
    """Every chunk's value, once a row."""
    return tuple(chain.from_iterable(map(repeat, values, count.tolist())))
