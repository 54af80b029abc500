"""Drive&Act as it comes: the data set's own annotations, and its frames in folders or in the videos.

    <annotations>/<view>/midlevel.chunks_90.split_<fold>.<split>.csv
    participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id

A row of the listing is a frame; a line of the CSV is a chunk of 3 s: a clip. A frame that stands in two chunks is two
rows, whatever their labels. Whether a frame is on disk shows when it is read.

Frames are those of the pattern that the recipe names, `frames` or `videos`. Where it names neither, the folders of
frames are used if one is at its usual place, otherwise the videos; where both are there, the recipe must say which.
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
from featcache.listing.source import describe_splits, order_splits
from featcache.listing.spellings import find_case_clashes, find_spelling_faults, note_look_alikes
from featcache.recipe import FRAMES, VIDEOS, DriveActData

ANNOTATIONS = "iccv_activities_3s/activities_3s"
_NUMBER_COLUMNS = ("participant_id", "annotation_id", "frame_start", "frame_end", "chunk_id")
_NAME_COLUMNS = ("file_id", "activity")
_FILE_NAME = re.compile(r"midlevel\.chunks_90\.split_([0-9])\.(train|val|test)\.csv")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,7}")  # a week at 15 frames a second; larger ones would only cost memory
_T = TypeVar("_T")


class DriveAct:
    """The splits of one view and one fold of Drive&Act; a `DataSource`."""

    has_disjoint_splits = False

    def __init__(self, data: DriveActData, *, data_set: str, variant: str) -> None:
        self.data, self.data_set, self.variant = data, data_set, variant
        annotations = data.annotations or os.path.join(data.root, *ANNOTATIONS.split("/"))
        self.folder = os.path.join(annotations, data.view)

    def splits(self) -> list[str]:
        """Return the splits of the fold that have an annotation file; train, val and test first.

        Raises:
            DataError: there is none; the message says what there is.
        """
        names = order_splits(split for fold, split in self._file_names if fold == self.data.fold)
        if not names:
            folds = ", ".join(sorted({str(fold) for fold, _ in self._file_names})) or "none"
            raise DataError(
                f"{self.folder}: no annotations of fold {self.data.fold}; found folds: {folds}; expected "
                f"midlevel.chunks_90.split_{self.data.fold}.train.csv. Name another fold or view "
                f"(--fold, --view, or in the recipe)."
            )
        return names

    def listing(self, split: str) -> Listing:
        """Return the frames of one split, in the order of its file; the classes are those of every file of the view.

        Raises:
            DataError: no such split, or faulty annotations; every fault is named.
        """
        if split not in (names := self.splits()):
            there = describe_splits(names, instead_of=split)
            raise DataError(f"{self.folder}: fold {self.data.fold} has no split {split!r}; {there}")
        chunks = self._sheets[self.data.fold, split]
        name = self._file_names[self.data.fold, split]
        sheet.refuse_problems(self.folder, [*self._faults, *(f"{name}, {fault}" for fault in _chunk_faults(chunks))])
        numbers = {column: _parse_numbers(chunks, column) for column in _NUMBER_COLUMNS}
        files, activities = chunks.columns["file_id"], chunks.columns["activity"]
        clips = list(map("{}/{}/{}".format, files, numbers["annotation_id"].tolist(), numbers["chunk_id"].tolist()))
        first, count = self._select_frames(numbers["frame_start"], numbers["frame_end"])
        index = {activity: label for label, activity in enumerate(self._classes)}
        labels = np.array([index[activity] for activity in activities], dtype=np.int64)
        return Listing(
            data_set=self.data_set,
            variant=self.variant,
            split=split,
            root=os.path.abspath(self.data.root),
            classes=self._classes,
            paths=self._paths(chunks, numbers, first, count),
            labels=np.repeat(labels, count),
            clips=_repeat(clips, count),
            subjects=_repeat(list(map(str, numbers["participant_id"].tolist())), count),
            notes=tuple(note_look_alikes("activity", self._classes)),
            videos=self._media == "videos",
        )

    @property
    def unreadable(self) -> str:
        """Why no frame of this data set can be read, as a sentence; "" where some may be."""
        if self._media:
            return ""
        return (
            f"{os.path.abspath(self.data.root)}: neither frames nor videos are here; looked for "
            f"{' and '.join(self._usual_places(self._drives[0]))}. Name the folder that holds one of them with "
            f"--data DIR or as the root in the recipe (then the annotations too: `annotations`), or where they lie "
            f"below it as `frames` or `videos`."
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
        fields = {name: chunks.columns[name] for name in _NAME_COLUMNS} | {
            name: numbers[name].tolist() for name in ("participant_id", "annotation_id", "chunk_id")
        }
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
        usual = [self._usual_places(drive) for drive in self._drives]
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
        columns = [chunks.columns.get("file_id", ()) for chunks in self._sheets.values()]
        return list(dict.fromkeys(chain.from_iterable(columns)))

    def _usual_places(self, drive: str) -> tuple[str, str]:
        """Return where the folder of a drive's frames, and its video, lie where the recipe names neither."""
        root = os.path.abspath(self.data.root)
        frame, video = (
            os.path.join(root, p.format(file_id=drive, view=self.data.view, frame=0)) for p in (FRAMES, VIDEOS)
        )
        return os.path.dirname(frame), video

    @cached_property
    def _file_names(self) -> dict[tuple[int, str], str]:
        """(fold, split) -> file name, for every annotation file of the view."""
        try:
            names = sorted(os.listdir(self.folder))
        except OSError as error:
            views = _other_views(os.path.dirname(self.folder))
            raise DataError(
                f"{self.folder}: the annotations of data set {self.data_set!r} cannot be read: {error.strerror}; "
                f"expected <root>/{ANNOTATIONS}/<view>{views}. Name the data set's "
                f"folder with --data DIR or the root in the recipe, or the folder of the views as `annotations`."
            ) from None
        return {(int(match[1]), match[2]): name for name in names if (match := _FILE_NAME.fullmatch(name))}

    @cached_property
    def _sheets(self) -> dict[tuple[int, str], Sheet]:
        """(fold, split) -> the chunks in its annotation file, for every file of the view."""
        columns = (*_NUMBER_COLUMNS, *_NAME_COLUMNS)
        return {
            key: sheet.read_sheet(os.path.join(self.folder, name), columns) for key, name in self._file_names.items()
        }

    @cached_property
    def _faults(self) -> list[str]:
        """What keeps any file of the view from being read, or its names from being told apart."""
        faults = [
            f"{self._file_names[key]}, {fault}" for key, chunks in self._sheets.items() for fault in chunks.problems
        ]
        for column in _NAME_COLUMNS:
            names = [name for chunks in self._sheets.values() for name in chunks.columns.get(column, ())]
            faults += find_spelling_faults(column, names, partial(self._first_place, column))
        classes_of = {file: self._sheets[key].columns.get("activity", ()) for key, file in self._file_names.items()}
        return faults or find_case_clashes("activity", classes_of, partial(self._first_place, "activity"))

    def _first_place(self, column: str, name: str) -> str:
        """Return the file and line where a column first has a name."""
        for key, chunks in self._sheets.items():
            if name in (cells := chunks.columns.get(column, ())):
                return f"{self._file_names[key]}, {chunks.place(cells.index(name))}"
        raise ValueError(name)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """The activities of all folds and splits, sorted: a split that lacks one must not shift those after it."""
        return tuple(sorted({name for chunks in self._sheets.values() for name in chunks.columns["activity"]}))


def find_views(annotations: str) -> list[str]:
    """Return the views that have annotations in a folder of Drive&Act's, sorted; none where there is no such folder.

    Args:
        annotations: The folder of the views.
    """
    try:
        views = sorted(os.listdir(annotations))
        return [view for view in views if any(map(_FILE_NAME.fullmatch, _file_names(os.path.join(annotations, view))))]
    except OSError:
        return []


def _file_names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # a file, or a folder that may not be read
        return []


def _other_views(annotations: str) -> str:
    """Return which views there are, for the end of a message; "" where there is none."""
    views = find_views(annotations)
    return f"; the views that are here: {', '.join(views)} (--view)" if views else ""


def _chunk_faults(chunks: Sheet) -> list[str]:
    """Return the faults of lines: a number that is none, an end before the start, a name that would leave the root."""
    faults: list[str] = []
    first_activity: dict[tuple[str, str, str], tuple[str, str]] = {}  # clip -> its activity, and on which line
    columns = (*_NUMBER_COLUMNS, *_NAME_COLUMNS)
    if any(name not in chunks.columns for name in columns):  # the sheet's own problems name it
        return faults
    if not len(chunks) and not chunks.problems:
        return ["line 2: no chunk in it"]
    for number, values in enumerate(zip(*(chunks.columns[name] for name in columns), strict=True)):
        row, place = dict(zip(columns, values, strict=True)), chunks.place(number)
        bad = [name for name in _NUMBER_COLUMNS if not _WHOLE_NUMBER.fullmatch(row[name])]
        faults += [f"{place}: {name} is {row[name]!r}, expected a whole number of at most 7 digits" for name in bad]
        if not bad and int(row["frame_end"]) < int(row["frame_start"]):
            faults.append(f"{place}: frame_end {row['frame_end']} lies before frame_start {row['frame_start']}")
        for name in _NAME_COLUMNS:  # both may stand in the path of a frame
            if any(part in ("", ".", "..") for part in row[name].split("/")):
                faults.append(f"{place}: {name} is {row[name]!r}, expected a name without empty parts, '.' and '..'")
        clip = (row["file_id"], row["annotation_id"], row["chunk_id"])
        activity, first_place = first_activity.setdefault(clip, (row["activity"], place))
        if activity != row["activity"]:
            faults.append(f"{place}: a chunk under {row['activity']!r} that stands under {activity!r} on {first_place}")
    return faults


def _parse_numbers(chunks: Sheet, column: str) -> npt.NDArray[np.int64]:
    """Return a column of whole numbers, (chunks,)."""
    return np.array(list(map(int, chunks.columns[column])), dtype=np.int64)


def _repeat(values: list[_T], count: npt.NDArray[np.int64]) -> tuple[_T, ...]:
    """Return each chunk's value once for each of its rows, (rows,)."""
    return tuple(chain.from_iterable(map(repeat, values, count.tolist())))
