"""Annotation files of one view and level of Drive&Act: their chunks, the column that is predicted, their faults.

    <annotations>/<view>/<level>.chunks_90.split_<fold>.<split>.csv
    participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id

The files of midlevel and tasklevel have one column to predict, `activity`. Those of objectlevel have several (published
ones have activity, object and location); every column that is none of the others is one.
"""

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, partial
from typing import NoReturn

from featcache.arguments import nearest_name
from featcache.errors import DataError, UsageError
from featcache.listing import sheet
from featcache.listing.drive_act_files import ANNOTATIONS, FILE_NAME, describe_other_views, list_levels
from featcache.listing.sheet import Sheet
from featcache.listing.source import order_splits
from featcache.listing.spellings import find_case_clashes, find_spelling_faults
from featcache.recipe import ACTIVITY, LEVELS, DriveActData
from featcache.text import counted, enumerate_words

NUMBER_COLUMNS = ("participant_id", "annotation_id", "frame_start", "frame_end", "chunk_id")
DRIVE_COLUMN = "file_id"
_WHOLE_NUMBER = re.compile(r"[0-9]{1,7}")  # a week at 15 frames a second; larger ones would only cost memory


class DriveActAnnotations:
    """The annotation files of one view and one level. They are read when they are needed, each once."""

    def __init__(self, data: DriveActData, *, data_set: str) -> None:
        self.data, self.data_set = data, data_set
        annotations = data.annotations or os.path.join(data.root, *ANNOTATIONS.split("/"))
        self.folder = os.path.join(annotations, data.view)

    def splits(self) -> list[str]:
        """Return the splits of the fold that have a file; train, val and test first.

        Raises:
            DataError: there is none; the message says what there is.
        """
        names = order_splits(split for fold, split in self.file_names if fold == self.data.fold)
        if names:
            return names
        if not self.file_names and self._levels:
            self._refuse_level()
        folds = ", ".join(sorted({str(fold) for fold, _ in self.file_names})) or "none"
        raise DataError(
            f"{self.folder}: no annotations of fold {self.data.fold}; found folds: {folds}; expected "
            f"{self.data.level}.chunks_90.split_{self.data.fold}.train.csv. Name another fold or view "
            f"(--fold, --view, or in the recipe)."
        )

    def chunks(self, split: str) -> Sheet:
        """Return the chunks of one split that have a value of the target.

        Args:
            split: One of `splits`.

        Raises:
            DataError: the annotations are faulty; every fault is named.
        """
        chunks, name = self.sheets[self.data.fold, split], self.file_names[self.data.fold, split]
        chunks = self._take_labelled(chunks)
        faults = [f"{name}, {fault}" for fault in find_chunk_faults(chunks, self.target)]
        sheet.refuse_problems(self.folder, [*self._faults, *faults])
        return chunks

    def notes(self, split: str) -> list[str]:
        """Return what a person should know of what was taken from a split's file, as sentences."""
        if self.data.level == LEVELS[0] and self.data.target is None:
            return []
        others = [column for column in self.targets if column != self.target]
        more = f"; {enumerate_words(others)} can be predicted too (--target)" if others else ""
        chunks = self.sheets[self.data.fold, split]
        left_out = len(chunks) - len(self._take_labelled(chunks))
        empty = [f"{counted(left_out, 'chunk')} of {split!r} without {self.target} left out"] if left_out else []
        return [f"{self.data.level}: the classes are those of the column {self.target!r}{more}", *empty]

    @cached_property
    def target(self) -> str:
        """The column that is predicted.

        Raises:
            UsageError: it is none of the columns that can be predicted, or none is named where there are several.
        """
        if self.data.target is None and has_one_target(self.data.level):
            return ACTIVITY
        if self.data.target is None and len(self.targets) == 1:
            return self.targets[0]
        if self.data.target in self.targets:
            return self.data.target
        return self._refuse_target()

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The columns that can be predicted, in the order of the files: every one that is none of the others."""
        headers = [sheet.read_sheet(os.path.join(self.folder, name), ()).header for name in self.file_names.values()]
        columns = dict.fromkeys(column for header in headers for column in header)
        return tuple(column for column in columns if column not in (*NUMBER_COLUMNS, DRIVE_COLUMN))

    @cached_property
    def drives(self) -> list[str]:
        """The file_id of every drive of the view, in the order of its files."""
        columns = [chunks.columns.get(DRIVE_COLUMN, ()) for chunks in self.sheets.values()]
        return list(dict.fromkeys(drive for column in columns for drive in column))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of all folds and splits, sorted: a split that lacks one must not shift those after it."""
        return tuple(sorted(set(self._target_cells()) - ({""} if self._may_be_empty else set())))

    @cached_property
    def file_names(self) -> dict[tuple[int, str], str]:
        """(fold, split) -> file name, for every annotation file of the view and level."""
        matches = [match for name in self._names_in_folder if (match := FILE_NAME.fullmatch(name))]
        return {(int(match[2]), match[3]): match[0] for match in matches if match[1] == self.data.level}

    @cached_property
    def sheets(self) -> dict[tuple[int, str], Sheet]:
        """(fold, split) -> the chunks in its annotation file, for every file of the view and level."""
        columns = (*NUMBER_COLUMNS, DRIVE_COLUMN, self.target)
        optional = () if self.target == ACTIVITY else (ACTIVITY,)  # it may stand in the path of a frame
        return {
            key: sheet.read_sheet(os.path.join(self.folder, name), columns, optional)
            for key, name in self.file_names.items()
        }

    @cached_property
    def _names_in_folder(self) -> list[str]:
        try:
            return sorted(os.listdir(self.folder))
        except OSError as error:
            views = describe_other_views(os.path.dirname(self.folder))
            raise DataError(
                f"{self.folder}: the annotations of data set {self.data_set!r} cannot be read: {error.strerror}; "
                f"expected <root>/{ANNOTATIONS}/<view>{views}. Name the data set's "
                f"folder with --data DIR or the root in the recipe, or the folder of the views as `annotations`."
            ) from None

    @property
    def _levels(self) -> list[str]:
        """The levels that have a file in this view."""
        return list_levels(self._names_in_folder)

    @property
    def _may_be_empty(self) -> bool:
        """Whether a cell of the target may be empty: where a chunk has several, it need not have each."""
        return not has_one_target(self.data.level) and len(self.targets) > 1

    @cached_property
    def _faults(self) -> list[str]:
        """What keeps any file of the view from being read, or its names from being told apart."""
        faults = [
            f"{self.file_names[key]}, {fault}" for key, chunks in self.sheets.items() for fault in chunks.problems
        ]
        for column in (DRIVE_COLUMN, self.target):
            names = [name for chunks in self.sheets.values() for name in chunks.columns.get(column, ())]
            faults += find_spelling_faults(column, names, partial(self._first_place, column))
        classes_of = {file: self.sheets[key].columns.get(self.target, ()) for key, file in self.file_names.items()}
        return faults or find_case_clashes(self.target, classes_of, partial(self._first_place, self.target))

    def _target_cells(self) -> Iterable[str]:
        return (cell for chunks in self.sheets.values() for cell in chunks.columns[self.target])

    def _take_labelled(self, chunks: Sheet) -> Sheet:
        """Return the chunks without those that have no value of the target, where a chunk need not have one."""
        cells = chunks.columns.get(self.target, ())
        if not self._may_be_empty or "" not in cells:
            return chunks
        rows = [row for row, cell in enumerate(cells) if cell]
        columns = {name: [column[row] for row in rows] for name, column in chunks.columns.items()}
        return replace(chunks, columns=columns, lines=[chunks.lines[row] for row in rows])

    def _first_place(self, column: str, name: str) -> str:
        """Return the file and line where a column first has a name."""
        for key, chunks in self.sheets.items():
            if name in (cells := chunks.columns.get(column, ())):
                return f"{self.file_names[key]}, {chunks.place(cells.index(name))}"
        raise ValueError(name)

    def _refuse_level(self) -> NoReturn:
        """Refuse a level that has no file, where another one has."""
        level, levels = self.data.level, self._levels
        raise DataError(
            f"{self.folder}: no annotations of the level {level}; found {enumerate_words(levels)}, expected "
            f"{level}.chunks_90.split_{self.data.fold}.train.csv. Name another level (--level, or in the recipe), or "
            f"put the files there."
        ).correct("--level", levels[0])

    def _refuse_target(self) -> NoReturn:
        """Refuse a column that cannot be predicted, or that none is named of several."""
        level, target, targets = self.data.level, self.data.target, self.targets
        if not targets:
            raise DataError(f"{self.folder}: the files of {level} have no column that can be predicted")
        close = targets[0] if target is None else nearest_name(target, targets)
        if target is None:
            message = (
                f"{level} has {len(targets)} columns that can be predicted: {enumerate_words(targets)}. Name one, as "
                f'--target {close} or target = "{close}" in the recipe.'
            )
        else:
            meant = f"did you mean {close}? " if close else ""
            message = f"--target: {level} has no column {target!r}; {meant}found {enumerate_words(targets)}"
        raise UsageError(message).correct("--target", close or targets[0])


def has_one_target(level: str) -> bool:
    """Return whether the published files of a level have one column to predict, `activity`.

    Args:
        level: One of `LEVELS`.
    """
    return level != "objectlevel"


def refuse_unnamed_target(data: DriveActData, *, data_set: str) -> None:
    """Refuse a recipe that names none of several columns that can be predicted, where the annotations are here.

    Args:
        data: The recipe's `data` section.
        data_set: The data set's name.

    Raises:
        UsageError: it does, or names one that is none of them.
    """
    if data.target is None and has_one_target(data.level):
        return
    with contextlib.suppress(DataError):  # reading the annotations says what is wrong with them
        _ = DriveActAnnotations(data, data_set=data_set).target


def find_chunk_faults(chunks: Sheet, target: str) -> list[str]:
    """Return the faults of lines: a number that is none, an end before the start, a name that would leave the root.

    Args:
        chunks: Of one file.
        target: The column that is predicted.
    """
    faults: list[str] = []
    first_class: dict[tuple[str, str, str], tuple[str, str]] = {}  # clip -> its class, and on which line
    columns = (*NUMBER_COLUMNS, DRIVE_COLUMN, target)
    if any(name not in chunks.columns for name in columns):  # the sheet's own problems name it
        return faults
    if not len(chunks) and not chunks.problems:
        return ["line 2: no chunk in it"]
    for number, values in enumerate(zip(*(chunks.columns[name] for name in columns), strict=True)):
        row, place = dict(zip(columns, values, strict=True)), chunks.place(number)
        bad = [name for name in NUMBER_COLUMNS if not _WHOLE_NUMBER.fullmatch(row[name])]
        faults += [f"{place}: {name} is {row[name]!r}, expected a whole number of at most 7 digits" for name in bad]
        if not bad and int(row["frame_end"]) < int(row["frame_start"]):
            faults.append(f"{place}: frame_end {row['frame_end']} lies before frame_start {row['frame_start']}")
        for name in (DRIVE_COLUMN, target):  # both may stand in the path of a frame
            if any(part in ("", ".", "..") for part in row[name].split("/")):
                faults.append(f"{place}: {name} is {row[name]!r}, expected a name without empty parts, '.' and '..'")
        clip = (row["file_id"], row["annotation_id"], row["chunk_id"])
        label, first_place = first_class.setdefault(clip, (row[target], place))
        if label != row[target]:
            faults.append(f"{place}: a chunk under {row[target]!r} that stands under {label!r} on {first_place}")
    return faults
