"""What the columns of a table are, which nobody has described yet: by their names, and by what stands in them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from featcache.errors import DataError
from featcache.files import suggest_utf8
from featcache.listing import sheet
from featcache.listing.leftovers import IMAGE_SUFFIXES
from featcache.listing.paths import is_text, shown_path
from featcache.recipe import LABEL, LABELS, VALUE

SEPARATORS = ("|", ";", ", ", ",")  # that stand between the labels of a cell
_FOLDS = ("fold", "folds", "fold_id", "kfold")  # columns that say which rows are test: nothing to predict
_YES_OR_NO = frozenset(("0", "1", "0.0", "1.0", "true", "false"))
_ROLES: Mapping[str, Sequence[str]] = {  # of a table's columns: how they are usually called
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "photo"),
    "label": ("label", "class", "category", "species", "target", "label_name", "class_name", "labels", "name"),
    "split": ("split", "set", "subset", "partition"),
    "clip": ("clip", "clip_id", "video", "video_id", "sequence"),
    "subject": (
        "subject", "subject_id", "person", "person_id", "participant", "participant_id", "patient", "patient_id",
        "animal", "animal_id", "individual",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizedTable:
    """The columns of a table, and what its rows have to be predicted."""

    columns: Mapping[str, str] = field(default_factory=dict)  # path, label, split, … -> the column
    targets: str = LABEL  # what the cells of its column of labels, or of its target columns, look like
    target_columns: tuple[str, ...] = ()  # several columns of targets, in place of the one of labels
    separator: str = ""  # what stands between the labels of a cell; "" where a cell has one
    missing: tuple[str, ...] = ()  # path or label, where no column looks like it
    others: tuple[str, ...] = ()  # columns that were taken for nothing
    splits: tuple[str, ...] = ()  # that its column of splits names


def recognize_table(path: str) -> RecognizedTable:
    """Return what the columns of a table are.

    Args:
        path: The table.

    Raises:
        DataError: it cannot be read, or has no columns.
    """
    header = sheet.read_sheet(path, ()).header
    twice = [f"there are two columns {name!r}" for name in dict.fromkeys(header) if header.count(name) > 1]
    foreign = [f"column '{shown_path(name)}' is not UTF-8; {suggest_utf8()}" for name in header if not is_text(name)]
    sheet.refuse_problems(path, [*twice, *foreign])
    if not header:
        raise DataError(f"{path}: this table is empty; expected a line with the names of its columns, then one a row")
    cells = {name: set(column) for name, column in sheet.read_sheet(path, tuple(dict.fromkeys(header))).columns.items()}
    columns = _find_columns(header, cells)
    others = [name for name in header if name not in columns.values()]
    if "label" not in columns and len(others) == 1:
        columns["label"] = others.pop()
    missing = tuple(role for role in ("path", "label") if role not in columns)
    splits = tuple(sorted(cells[columns["split"]])) if "split" in columns else ()
    if "label" in columns:
        targets, separator = _recognize_targets(cells[columns["label"]])
        return RecognizedTable(
            columns=columns, targets=targets, separator=separator, missing=missing, others=tuple(others), splits=splits
        )
    targets, several = _recognize_target_columns(
        {name: cells[name] for name in others if name.strip().casefold() not in _FOLDS}
    )
    return RecognizedTable(
        columns=columns, targets=targets, target_columns=several, others=tuple(others), splits=splits,
        missing=tuple(role for role in missing if role != "label" or not several),
    )  # fmt: skip


def find_separator(cells: Iterable[str]) -> str:
    """Return what stands between the labels of cells that look like several labels each; "" where they do not.

    A | or a ; is in no usual name of a class, a comma is: it divides labels where most of what stands around it occurs
    in other cells too.

    Args:
        cells: Different ones of a column of labels.
    """
    cells = list(cells)
    filled = [cell for cell in cells if cell.strip()]
    if len(list(_numbers(cell.replace(",", ".") for cell in filled))) == len(filled):  # "0,53": a decimal comma
        return ""
    for sign in SEPARATORS[:2]:
        if any(sign in cell for cell in cells):
            return sign
    for sign in SEPARATORS[2:]:
        parts = {cell: {part.strip() for part in cell.split(sign)} for cell in cells}
        counts = Counter(part for of_cell in parts.values() for part in of_cell)
        divided = {part for cell, of_cell in parts.items() if sign in cell for part in of_cell}
        if divided and sum(counts[part] > 1 for part in divided) * 2 >= len(divided):
            return sign
    return ""


def _find_columns(header: Sequence[str], cells: Mapping[str, set[str]]) -> dict[str, str]:
    """Return the column of each role that has one; that of the paths also by the names of images in it."""
    plain = {name.strip().casefold().replace(" ", "_").replace("-", "_"): name for name in reversed(header)}
    named = {role: [plain[usual] for usual in names if usual in plain] for role, names in _ROLES.items()}
    named["path"] += [name for name in header if _are_images(cells[name])]
    columns: dict[str, str] = {}
    for role, names in named.items():
        columns |= dict([(role, name) for name in names if name not in columns.values()][:1])
    return columns


def _are_images(cells: set[str]) -> bool:
    """Return whether all cells of a column are called like images."""
    return bool(cells) and all(cell.lower().endswith(IMAGE_SUFFIXES) for cell in cells)


def _recognize_targets(cells: set[str]) -> tuple[str, str]:
    """Return what cells hold, and what stands between their labels: numbers where all are, and not all are whole."""
    numbers = list(_numbers(cells))
    if len(numbers) == len(cells - {""}):
        return (LABEL if all(map(float.is_integer, numbers)) else VALUE), ""
    separator = find_separator(cells)
    return (LABELS if separator else LABEL), separator


def _recognize_target_columns(cells: Mapping[str, set[str]]) -> tuple[str, tuple[str, ...]]:
    """Return what several columns hold, and which they are: labels, each a column of 0 and 1, or else numbers."""
    labels = [
        name for name, column in cells.items() if column and {cell.strip().lower() for cell in column} <= _YES_OR_NO
    ]
    if len(labels) > 1:
        return LABELS, tuple(labels)
    values = [name for name, column in cells.items() if column and _recognize_targets(column)[0] == VALUE]
    return (VALUE, tuple(values)) if values else (LABEL, ())


def _numbers(cells: Iterable[str]) -> Iterator[float]:
    """Yield the cells that are finite numbers."""
    for cell in cells:
        try:
            number = float(cell)
        except ValueError:
            continue
        if math.isfinite(number):
            yield number
