"""A table that names images: a CSV or Parquet file with a path and a label column, and, where it has them, columns
for split, clip and subject. Relative paths are relative to the table.
"""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial

import numpy as np

from featcache.errors import DataError
from featcache.files import NAME_PATTERN
from featcache.listing import sheet
from featcache.listing.listing import Listing
from featcache.listing.paths import readable
from featcache.listing.sheet import Sheet
from featcache.listing.source import in_order
from featcache.listing.spellings import apart_in_case, faults_of_spelling, look_alikes, same_name_key
from featcache.recipe import TableData

_NAMES = ("label", "split", "clip", "subject")  # columns that name something that other rows name too


class Table:
    """One table; its rows keep their order."""

    apart = False
    absent = ""

    def __init__(self, data: TableData, *, data_set: str, variant: str) -> None:
        self.data, self.data_set, self.variant = data, data_set, variant
        self.path = os.path.abspath(os.path.join(data.root, data.table))

    def splits(self) -> list[str]:
        """The splits that its split column names; `train` where it has none.

        Raises:
            DataError: the table is missing, or faulty: every fault is named with its line.
        """
        return in_order(self._read[1])

    def listing(self, split: str) -> Listing:
        """The rows of one split; the classes are those of the whole table, sorted.

        Raises:
            DataError: no such split, a missing table, or a faulty one: every fault is named with its line.
        """
        whole, where = self._read
        rows = np.flatnonzero(np.array([name == split for name in where], dtype=bool))
        if not len(rows):
            raise DataError(f"{self.path}: no row of split {split!r} in it; found {', '.join(in_order(where))}")
        return dataclasses.replace(whole.take(rows), split=split)

    @cached_property
    def _read(self) -> tuple[Listing, Sequence[str]]:
        """Every row, and the split of each."""
        data = self.data
        given = {"split": data.split_column, "clip": data.clip_column, "subject": data.subject_column}
        wanted = {"path": data.path_column, "label": data.label_column}
        wanted |= {what: name for what, name in given.items() if name is not None}
        usual = [what for what in given if what not in wanted]  # taken where they are there
        path = [data.path_column] if list(wanted.values()).count(data.path_column) == 1 else []
        found = sheet.read(self.path, list(wanted.values()), usual, paths=path)
        names = wanted | {what: what for what in usual}
        columns = {what: found.columns[name] for what, name in names.items() if name in found.columns}
        faults = _faults(os.path.dirname(self.path), columns, found)
        sheet.refuse(self.path, [*found.problems, *faults, *_spellings(columns, found)])
        empty = ("",) * len(found)
        classes = sorted(set(columns["label"]))
        index = {name: label for label, name in enumerate(classes)}
        listing = Listing(
            data_set=self.data_set,
            variant=self.variant,
            split="",
            root=os.path.dirname(self.path),
            classes=tuple(classes),
            paths=tuple(columns["path"]),
            labels=np.array([index[name] for name in columns["label"]], dtype=np.int64),
            clips=tuple(columns.get("clip", empty)),
            subjects=tuple(columns.get("subject", empty)),
            notes=tuple(note for what in _NAMES for note in look_alikes(what, columns.get(what, ())) if what != "clip"),
        )
        return listing, columns.get("split", ("train",) * len(found))


def _faults(folder: str, columns: Mapping[str, Sequence[str]], found: Sheet) -> list[str]:
    """What is wrong with single rows, by line; whatever columns there are."""
    if not len(found):
        return [] if found.problems else ["no row below the header"]
    faults: list[tuple[int, str]] = []
    for what in ("path", "label", "split"):
        column = columns.get(what, ())
        bad = {value: f"no {what}" for value in set(column) if not value.strip() or not same_name_key(value)}
        if what == "split":
            bad |= {
                value: f"split {value!r} would name a file of the cache; expected letters, digits, '.', '_' and '-'"
                for value in set(column) - set(bad)
                if not re.fullmatch(NAME_PATTERN, value)
            }
        faults += [(row, bad[value]) for row, value in enumerate(column) if value in bad] if bad else []
    for what in ("clip", "subject"):
        column = columns.get(what, ())
        blank = {value for value in set(column) if value and not same_name_key(value)}
        reason = f"a blank {what}; leave the cell empty where there is none"
        faults += [(row, reason) for row, value in enumerate(column) if value in blank] if blank else []
    faults += [(row, f"no file {readable(columns['path'][row])!r}") for row in _absent(folder, columns.get("path", ()))]
    if {"path", "label"} <= columns.keys():
        faults += [(row, f"the same row as {found.place(before)}") for row, before in _repeated(columns)]
    return [f"{found.place(row)}: {fault}" for row, fault in sorted(faults)]


def _spellings(columns: Mapping[str, Sequence[str]], found: Sheet) -> list[str]:
    """Two spellings of one name in one column, whatever the split, each with its first line."""
    faults: list[str] = []
    for what in _NAMES:
        column = columns.get(what, ())
        faults += faults_of_spelling(what, column, partial(_first, found, column))
    if faults or not {"label", "split"} <= columns.keys():
        return [f"{fault}; spell it in one way" for fault in faults]
    labels: dict[str, set[str]] = {}
    for split, label in set(zip(columns["split"], columns["label"], strict=True)):
        labels.setdefault(split, set()).add(label)
    apart = apart_in_case("label", labels, partial(_first, found, columns["label"]))
    return [f"{fault}; spell it in one way" for fault in apart]


def _first(sheet: Sheet, column: Sequence[str], name: str) -> str:
    """Where a name stands first."""
    return sheet.place(column.index(name))


def _repeated(columns: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int]]:
    """(row, earlier row) of rows that say the same; an image under two labels, or in two clips, is no such row."""
    paths = [os.path.normpath(path) if "./" in path or "//" in path else path for path in columns["path"]]
    often = {path for path, count in Counter(paths).items() if count > 1}
    others = [column for what, column in columns.items() if what != "path"]
    first: dict[tuple[str, ...], int] = {}
    for row in [row for row, path in enumerate(paths) if path in often] if often else []:
        before = first.setdefault((paths[row], *(column[row] for column in others)), row)
        if before != row:
            yield row, before


def _absent(folder: str, paths: Sequence[str]) -> list[int]:
    """The rows whose file is not there; every folder is looked into once, not every file."""
    there: dict[str, set[str]] = {}
    absent = []
    for row, path in enumerate(paths):
        if not path.strip():
            continue
        above, _, name = path.rpartition("/")
        if above not in there:
            there[above] = _names(os.path.join(folder, above or ("/" if path.startswith("/") else "")))
        # A name may be found under another spelling of it, where the file system takes both for one.
        if name not in there[above] and not os.path.isfile(os.path.join(folder, path)):
            absent.append(row)
    return absent


def _names(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as found:
            return {entry.name for entry in found if not entry.is_dir()}
    except OSError:  # each of its files is asked for, and is not there
        return set()
