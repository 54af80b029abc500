"""What the rows of a table have to be predicted, where that is not one class: several labels, or numbers."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from featcache.arguments import suggest_name
from featcache.listing.sheet import Sheet
from featcache.listing.spellings import find_spelling_faults
from featcache.listing.table_recognition import find_separator
from featcache.recipe import LABELS, VALUE, TableData

_YES_OR_NO = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0, "true": 1.0, "false": 0.0}
_LARGEST = float(np.finfo(np.float32).max)  # of a number: heads compute in float32


@dataclass(frozen=True, slots=True, eq=False)
class RowTargets:
    """The targets of some rows, beside the names of their columns, which stand where else the classes do."""

    kind: str  # LABELS or VALUE
    values: npt.NDArray[np.float64]  # (rows, outputs): 1 where a row has a label, else 0; or numbers, all finite

    def __post_init__(self) -> None:
        if self.kind not in (LABELS, VALUE) or self.values.ndim != 2:
            raise ValueError(f"targets of kind {self.kind!r} with {self.values.ndim} dimensions")
        is_good = np.isfinite(self.values) if self.kind == VALUE else np.isin(self.values, (0, 1))
        if not is_good.all():
            raise ValueError("a target is no finite number" if self.kind == VALUE else "a label is neither 0 nor 1")

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: npt.NDArray[np.int64]) -> "RowTargets":
        """Return the targets of the rows at these indices, in this order.

        Args:
            rows: (n,), indices of rows.
        """
        return RowTargets(self.kind, self.values[rows])

    def support(self) -> npt.NDArray[np.int64]:
        """Return how many rows each label has; of numbers, how many rows there are; (outputs,)."""
        rows = np.full(self.values.shape[1], len(self.values), np.int64)
        return self.values.sum(axis=0).astype(np.int64) if self.kind == LABELS else rows

    def describe(self, names: Sequence[str], row: int) -> str:
        """Return the targets of one row in words: "red | round", "none", "0.31", or "brightness 0.31, ratio 1.5".

        Args:
            names: of the labels or numbers.
            row: which one.
        """
        return describe_targets(self.kind, names, self.values[row].tolist())

    def codes(self) -> npt.NDArray[np.int64]:
        """Return a number for each row, (rows,), equal where two rows have the same targets."""
        _, codes = np.unique(self.values, axis=0, return_inverse=True)
        return codes.reshape(-1).astype(np.int64)


def describe_targets(kind: str, names: Sequence[str], values: Sequence[float]) -> str:
    """Return the targets of one row in words, as `RowTargets.describe`.

    Args:
        kind: LABELS or VALUE.
        names: of the labels or numbers.
        values: of the row.
    """
    pairs = zip(names, values, strict=True)
    if kind == LABELS:
        return " | ".join(name for name, value in pairs if value) or "none"
    return f"{values[0]:.6g}" if len(names) == 1 else ", ".join(f"{name} {value:.6g}" for name, value in pairs)


@dataclass(frozen=True, slots=True, eq=False)
class ParsedTargets:
    """The targets of a whole table."""

    names: tuple[str, ...]  # of the labels or numbers
    values: npt.NDArray[np.float64]  # (rows, outputs); what could not be read is 0
    faults: tuple[tuple[int, str], ...]  # (row, what is wrong with it)
    spellings: tuple[str, ...] = ()  # two spellings of one label, a sentence each
    notes: tuple[str, ...] = ()


def parse_targets(data: TableData, table: Sheet) -> ParsedTargets:
    """Return the targets that a table has for its rows, and what is wrong with them.

    Args:
        data: The recipe's section; its targets are several labels, or numbers.
        table: The sheet, with the columns of the targets; where one is missing there is nothing to parse.
    """
    columns = {name: table.columns[name] for name in data.columns_of_targets if name in table.columns}
    if data.targets == LABELS and data.target_columns is None:
        return _parse_cells(data, columns.get(data.label_column, ()), table)
    parse = _parse_number if data.targets == VALUE else _parse_yes_or_no
    values = np.zeros((len(table), len(columns)))
    faults: list[tuple[int, str]] = []
    for place, (name, cells) in enumerate(columns.items()):
        parsed = {cell: parse(name, cell) for cell in set(cells)}
        values[:, place] = [0.0 if isinstance(parsed[cell], str) else parsed[cell] for cell in cells]
        faults += [(row, text) for row, cell in enumerate(cells) if isinstance(text := parsed[cell], str)]
    names = tuple(columns)
    return ParsedTargets(names, values, tuple(faults), notes=_notes(data, names, values))


def _parse_cells(data: TableData, cells: Sequence[str], table: Sheet) -> ParsedTargets:
    """Return the labels of cells that hold several."""
    labels_of = {cell: [label.strip() for label in cell.split(data.separator)] for cell in set(cells)}
    labels_of = {cell: [label for label in labels if label] for cell, labels in labels_of.items()}
    occurring = {label for labels in labels_of.values() for label in labels}
    if not occurring and data.label_names is None and len(cells):
        fault = f"no row has a label in column {data.label_column!r}; give some, or name another label_column"
        return ParsedTargets((), np.zeros((len(cells), 0)), ((0, fault),))
    names = tuple(sorted(occurring)) if data.label_names is None else data.label_names
    index = {name: place for place, name in enumerate(names)}
    values = np.zeros((len(cells), len(names)))
    for row, cell in enumerate(cells):
        values[row, [index[label] for label in labels_of[cell] if label in index]] = 1
    unknown = {
        cell: [label for label in labels if label not in index]
        for cell, labels in labels_of.items()
        if not index.keys() >= set(labels)
    }
    faults = tuple(
        (
            row,
            f"label {unknown[cell][0]!r} is none of the recipe's label_names; {suggest_name(unknown[cell][0], names)}",
        )
        for row, cell in enumerate(cells)
        if cell in unknown
    )
    spellings = tuple(find_spelling_faults("label", occurring, partial(_first_place, table, cells, labels_of)))
    return ParsedTargets(
        names, values, faults, spellings, (*_notes(data, names, values), *_note_separator(data, cells))
    )


def _note_separator(data: TableData, cells: Sequence[str]) -> Iterator[str]:
    """Yield a note where cells look as if another sign than the recipe's stood between their labels."""
    different = set(cells)
    sign = "" if any(data.separator in cell for cell in different) else find_separator(different)
    if sign:
        example = next(cell for cell in cells if sign in cell)
        yield (
            f"no cell of column {data.label_column!r} has a {data.separator!r}, and {example!r} is one label; "
            f"write label_separator = {json.dumps(sign)} into [data] of the recipe if it is several"
        )


def _first_place(table: Sheet, cells: Sequence[str], labels_of: Mapping[str, Sequence[str]], label: str) -> str:
    """Return the line on which a label stands first."""
    return table.place(next(row for row, cell in enumerate(cells) if label in labels_of[cell]))


def _parse_number(name: str, cell: str) -> float | str:
    """Return the number of a cell, or what is wrong with it."""
    if not cell.strip():
        return f"no {name}; expected a number: give it, or take the row out"
    try:
        value = float(cell)
    except ValueError:
        return f"{name} is {cell!r}, which is no number; expected one such as 0.25"
    if not math.isfinite(value) or abs(value) > _LARGEST:
        return f"{name} is {cell!r}; expected a finite number: give one, or take the row out"
    return value


def _parse_yes_or_no(name: str, cell: str) -> float | str:
    """Return 1 where a cell says that a row has the label of its column, 0 where not, or what is wrong with it."""
    value = _YES_OR_NO.get(cell.strip().lower())
    return f"{name} is {cell!r}, expected 1 where the image has this label and 0 where not" if value is None else value


def _notes(data: TableData, names: Sequence[str], values: npt.NDArray[np.float64]) -> tuple[str, ...]:
    """Return what a person should know of the targets, as sentences."""
    return tuple(_absent_labels(names, values)) if data.targets == LABELS else ()


def _absent_labels(names: Sequence[str], values: npt.NDArray[np.float64]) -> Iterator[str]:
    """Yield the sentence that names the labels which no row has."""
    absent = [name for name, count in zip(names, values.sum(axis=0), strict=True) if not count]
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        yield f"{', '.join(absent[:5])} {verb} in no row of the table: nothing can be learnt of such a label"
