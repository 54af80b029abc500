"""A table of images: a CSV or Parquet file with the columns path and label, and optionally split, clip and subject.

Relative paths are relative to the table. A path may also name a frame of a video, `clips/run1.mp4#000123`, or an image
in a container, `photos.tar#ants/0013.jpg`; then every path of the table does.
"""

import dataclasses
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial

import numpy as np

from featcache.containers import is_member_path, split_member_path
from featcache.errors import DataError
from featcache.files import NAME_PATTERN
from featcache.listing import sheet
from featcache.listing.leftovers import DECODED_SUFFIXES
from featcache.listing.listing import Listing, is_frame_path, video_and_frame
from featcache.listing.paths import readable
from featcache.listing.sheet import Sheet
from featcache.listing.source import describe_splits, note_misspelt_splits, order_splits
from featcache.listing.spellings import find_case_clashes, find_spelling_faults, note_look_alikes, same_name_key
from featcache.listing.table_folds import find_fold_faults, split_by_fold
from featcache.listing.table_recognition import find_separator
from featcache.listing.targets import RowTargets, parse_targets
from featcache.recipe import LABEL, TableData

_NAME_COLUMNS = ("label", "split", "clip", "subject")  # whose names several rows share


class Table:
    """The splits of one table; its rows keep their order. A `DataSource`."""

    has_disjoint_splits = False
    unreadable = ""

    def __init__(self, data: TableData, *, data_set: str, variant: str) -> None:
        self.data, self.data_set, self.variant = data, data_set, variant
        self.path = os.path.abspath(os.path.join(data.root, data.table))

    def splits(self) -> list[str]:
        """Return the splits that the split column names; `train` where the table has no such column.

        Raises:
            DataError: the table is missing, or faulty: every fault is named with its line.
        """
        return order_splits(self._rows_and_splits[1])

    def listing(self, split: str) -> Listing:
        """Return the rows of one split; the classes are those of the whole table, sorted.

        Raises:
            DataError: no such split, a missing table, or a faulty one: every fault is named with its line.
        """
        whole, splits = self._rows_and_splits
        rows = np.flatnonzero(np.array([name == split for name in splits], dtype=bool))
        if not len(rows):
            there = describe_splits(order_splits(splits), instead_of=split)
            raise DataError(f"{self.path}: no row of split {split!r} in it; {there}")
        return dataclasses.replace(whole.take(rows), split=split)

    @cached_property
    def _rows_and_splits(self) -> tuple[Listing, Sequence[str]]:
        """Every row of the table, and the split of each, (rows,)."""
        data = self.data
        optional = {"split": data.split_column, "clip": data.clip_column, "subject": data.subject_column}
        is_of_classes = data.targets == LABEL
        wanted = {"path": data.path_column, **({"label": data.label_column} if is_of_classes else {})}
        wanted |= {} if is_of_classes else {f"target {name}": name for name in data.columns_of_targets}
        wanted |= {role: name for role, name in optional.items() if name is not None}
        wanted |= {} if data.fold_column is None else {"fold": data.fold_column}
        usual = [role for role in optional if role not in wanted]  # read where they are there
        path = [data.path_column] if list(wanted.values()).count(data.path_column) == 1 else []
        table = sheet.read_sheet(self.path, list(wanted.values()), usual, paths=path)
        names = wanted | {role: role for role in usual}
        columns = {role: table.columns[name] for role, name in names.items() if name in table.columns}
        targets = None if is_of_classes else parse_targets(data, table)
        faults = _row_faults(os.path.dirname(self.path), columns, table, () if targets is None else targets.faults)
        spellings = [] if targets is None else [f"{fault}; spell it in one way" for fault in targets.spellings]
        try:
            sheet.refuse_problems(self.path, [*table.problems, *faults, *_spelling_faults(columns, table), *spellings])
        except DataError as error:
            raise self._with_init(error, table) from None
        empty = ("",) * len(table)
        classes = sorted(set(columns["label"])) if targets is None else targets.names
        index = {name: label for label, name in enumerate(classes)}
        listing = Listing(
            data_set=self.data_set,
            variant=self.variant,
            split="",
            root=os.path.dirname(self.path),
            classes=tuple(classes),
            paths=tuple(columns["path"]),
            videos=bool(len(table)) and all(map(_is_frame, columns["path"])),
            members=bool(len(table)) and all(_are_members(os.path.dirname(self.path), columns["path"])),
            labels=np.array([index[name] for name in columns["label"]], dtype=np.int64)
            if targets is None
            else np.zeros(len(table), np.int64),
            clips=tuple(columns.get("clip", empty)),
            subjects=tuple(columns.get("subject", empty)),
            notes=tuple(
                note
                for role in _NAME_COLUMNS
                for note in note_look_alikes(role, columns.get(role, ()))
                if role != "clip"
            )
            + (_note_labels(data, classes) if targets is None else targets.notes)
            + note_misspelt_splits(columns.get("split", ())),
            targets=None if targets is None else RowTargets(data.targets, targets.values),
        )
        splits = columns.get("split", ("train",) * len(table))
        return listing, split_by_fold(data, columns["fold"], splits, self.path) if "fold" in columns else splits

    def _with_init(self, error: DataError, table: Sheet) -> DataError:
        """Return an error with how to name the columns, where no recipe names any and one is missing."""
        data = self.data
        is_named = any(name.endswith("_column") or name == "targets" for name in data.model_fields_set)
        if table.header and not is_named and not {data.path_column, data.label_column} <= {*table.header}:
            error.args = (
                f"{error}\nA table whose columns are called otherwise, or that has several labels or numbers to "
                f"predict, needs a recipe: `featcache init {_quote_table(data)}` writes it.",
            )
        return error


def _quote_table(data: TableData) -> str:
    """Return the path of a table as a command takes it."""
    return shlex.quote(os.path.normpath(os.path.join(data.root, data.table)))


def _note_labels(data: TableData, classes: Sequence[str]) -> tuple[str, ...]:
    """Return a note where the classes of a table look like several labels each."""
    sign = find_separator(classes) if "targets" not in data.model_fields_set else ""
    if not sign:
        return ()
    example = next(name for name in classes if sign in name)
    lines = 'targets = "labels"' + ("" if sign == data.separator else f" and label_separator = {json.dumps(sign)}")
    return (
        f"{example!r} is taken for one class; if it is several labels, write {lines} into [data] of a recipe, as "
        f'`featcache init {_quote_table(data)}` does; if it is one class, targets = "label" ends this note',
    )


def _row_faults(
    folder: str, columns: Mapping[str, Sequence[str]], table: Sheet, of_targets: Sequence[tuple[int, str]] = ()
) -> list[str]:
    """Return what is wrong with single rows, each with its line, in the order of the lines."""
    if not len(table):
        return [] if table.problems else ["no row below the header"]
    faults = list(of_targets)
    for role in ("path", "label", "split"):
        column = columns.get(role, ())
        bad = {value: f"no {role}" for value in set(column) if not value.strip() or not same_name_key(value)}
        if role == "split":
            bad |= {
                value: f"split {value!r} would name a file of the cache; expected letters, digits, '.', '_' and '-'"
                for value in set(column) - set(bad)
                if not re.fullmatch(NAME_PATTERN, value)
            }
        faults += [(row, bad[value]) for row, value in enumerate(column) if value in bad] if bad else []
    for role in ("clip", "subject"):
        column = columns.get(role, ())
        blank = {value for value in set(column) if value and not same_name_key(value)}
        reason = f"a blank {role}; leave the cell empty where there is none"
        faults += [(row, reason) for row, value in enumerate(column) if value in blank] if blank else []
    faults += find_fold_faults(columns["fold"], columns.get("split", ())) if "fold" in columns else ()
    paths = columns.get("path", ())
    frames, members = list(map(_is_frame, paths)), _are_members(folder, paths)
    for kinds, others in ((frames, "frames of videos"), (members, "images in containers")):
        if any(kinds) and not all(kinds):
            faults.append((kinds.index(False), f"an image, where other rows name {others}: make two tables of them"))
    files = [
        video_and_frame(path)[0] if is_frame else split_member_path(path).container if is_member else path
        for path, is_frame, is_member in zip(paths, frames, members, strict=True)
    ]
    faults += _missing_faults(folder, files)
    if "path" in columns and any(role.startswith(("label", "target ")) for role in columns):
        faults += [(row, f"the same row as {table.place(before)}") for row, before in _repeated_rows(columns)]
    return [f"{table.place(row)}: {fault}" for row, fault in sorted(faults)]


def _missing_faults(folder: str, files: Sequence[str]) -> list[tuple[int, str]]:
    """Return a fault for each row whose file is not there; the first one says where it was looked for."""
    faults = [(row, f"no file {readable(files[row])!r}") for row in _missing_files(folder, files)]
    if faults and not os.path.isabs(files[faults[0][0]]):
        row, sentence = min(faults)
        faults[faults.index((row, sentence))] = row, f"{sentence} in {readable(os.path.abspath(folder))}"
    return faults


def _spelling_faults(columns: Mapping[str, Sequence[str]], table: Sheet) -> list[str]:
    """Return a fault for every two spellings of one name in one column, whatever the split, with their first lines."""
    faults: list[str] = []
    for role in _NAME_COLUMNS:
        column = columns.get(role, ())
        faults += find_spelling_faults(role, column, partial(_first_place, table, column))
    if faults or not {"label", "split"} <= columns.keys():
        return [f"{fault}; spell it in one way" for fault in faults]
    labels: dict[str, set[str]] = {}
    for split, label in set(zip(columns["split"], columns["label"], strict=True)):
        labels.setdefault(split, set()).add(label)
    clashes = find_case_clashes("label", labels, partial(_first_place, table, columns["label"]))
    return [f"{fault}; spell it in one way" for fault in clashes]


def _first_place(table: Sheet, column: Sequence[str], name: str) -> str:
    """Return the line on which a column first has a name."""
    return table.place(column.index(name))


def _repeated_rows(columns: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Yield (row, earlier row) for rows that are equal; an image under two labels, or in two clips, has none."""
    paths = [os.path.normpath(path) if "./" in path or "//" in path else path for path in columns["path"]]
    repeated = {path for path, count in Counter(paths).items() if count > 1}
    others = [column for role, column in columns.items() if role != "path"]
    first: dict[tuple[str, ...], int] = {}
    for row in [row for row, path in enumerate(paths) if path in repeated] if repeated else []:
        before = first.setdefault((paths[row], *(column[row] for column in others)), row)
        if before != row:
            yield row, before


def _is_frame(path: str) -> bool:
    """Return whether a path names a frame of a video."""
    return is_frame_path(path) and video_and_frame(path)[0].lower().endswith(DECODED_SUFFIXES)


def _are_members(folder: str, paths: Sequence[str]) -> list[bool]:
    """Return which paths name images in containers, and no files of such names."""
    may_be = list(map(is_member_path, paths))
    return [
        is_member and not os.path.lexists(os.path.join(folder, path))
        for path, is_member in zip(paths, may_be, strict=True)
    ]


def _missing_files(folder: str, paths: Sequence[str]) -> list[int]:
    """Return the rows whose file does not exist; each folder is listed once, instead of asking for each file."""
    names_in: dict[str, set[str]] = {}
    missing = []
    for row, path in enumerate(paths):
        if not path.strip():
            continue
        above, _, name = path.rpartition("/")
        if above not in names_in:
            names_in[above] = _file_names(os.path.join(folder, above or ("/" if path.startswith("/") else "")))
        # A file may exist under another spelling of its name, where the file system takes both for one.
        if name not in names_in[above] and not os.path.isfile(os.path.join(folder, path)):
            missing.append(row)
    return missing


def _file_names(folder: str) -> set[str]:
    """Return the names of a folder's files; none where it cannot be read, so that each is asked for by itself."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except OSError:
        return set()
