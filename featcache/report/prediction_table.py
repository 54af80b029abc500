"""What a head predicts on a split, as a table for other tools: one row an image (or a clip), CSV or Parquet."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featcache.evaluation import SplitPredictions
from featcache.files import arrow_text, require_pyarrow
from featcache.report.destination import check_destination, save_bytes
from featcache.report.tables import disarm_formula, save_rows
from featcache.text import printable

TABLE_SUFFIXES = (".csv", ".parquet")
_COLUMNS = ("path", "truth", "prediction", "clip", "subject")  # before those of the probabilities
_BLOCK = 4_096  # rows whose probabilities are text at a time


def check_table(path: Path, flag: str) -> None:
    """Refuse a path that no table of predictions can be written to.

    Args:
        path: where the table is wanted; its suffix is the format.
        flag: how a message names it: "--predictions".

    Raises:
        UsageError: another suffix, no such folder, a folder, or .parquet without pyarrow.
    """
    check_destination(path, *TABLE_SUFFIXES)
    if path.suffix.lower() == ".parquet":
        require_pyarrow(f"{flag} {printable(str(path))}", ".csv")


def save_split_predictions(predictions: SplitPredictions | Mapping[int, SplitPredictions], path: Path) -> None:
    """Write one row an image: path, truth, prediction, clip, subject, then `probability: CLASS` for each class.

    With conformal sets `set` (the names, " | " between them) and `set size` follow.
    By clip a row is a clip, and its path that of its middle image. Of several folds, the first column is `fold`. Where
    a classifier gives no probabilities, their cells are empty. In CSV, names are those of `save_evaluation_csv`: none
    is run as a formula by a spreadsheet. In Parquet, names are as they are, bytes where one is not UTF-8.

    Args:
        predictions: what is written; of several folds by the fold's number.
        path: the file, .csv or .parquet; an existing one is replaced.

    Raises:
        UsageError: another suffix, no such folder, a folder, or .parquet without pyarrow.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_table(path, "--predictions")
    folds = predictions if isinstance(predictions, Mapping) else {None: predictions}
    if path.suffix.lower() == ".csv":
        save_rows(_header(folds), _csv_rows(folds), path)
    else:
        save_bytes(path, _parquet_bytes(folds))


def _header(folds: Mapping[Any, SplitPredictions]) -> list[str]:
    first = next(iter(folds.values()))
    number = [] if None in folds else ["fold"]
    sets = [] if first.sets is None else ["set", "set size"]
    return [*number, *_COLUMNS, *(f"probability: {printable(name)}" for name in first.classes), *sets]


def _csv_rows(folds: Mapping[Any, SplitPredictions]) -> Iterator[list[object]]:
    for fold, part in folds.items():
        number = [] if fold is None else [fold]
        classes = [disarm_formula(name) for name in part.classes]
        labels = zip(part.truth.tolist(), part.predicted.tolist(), strict=True)
        names = zip(part.paths, part.clips, part.subjects, strict=True)
        sets = _sets(part)
        for (path, clip, subject), (truth, predicted), figures in zip(names, labels, _figures(part), strict=True):
            words = [disarm_formula(path), classes[truth], classes[predicted], disarm_formula(clip)]
            yield [*number, *words, disarm_formula(subject), *figures, *_set_cells(sets)]


def _set_cells(sets: Iterator[tuple[str, int]]) -> list[object]:
    """Return the cells of the next row's set; none where there are no sets."""
    cells = next(sets, None)
    return [] if cells is None else [disarm_formula(cells[0]), cells[1]]


def _sets(part: SplitPredictions) -> Iterator[tuple[str, int]]:
    """Yield the classes of each row's set in one cell, "ants | bees", and how many they are; nothing without sets."""
    for row in () if part.sets is None else part.sets:
        names = [part.classes[label] for label in np.flatnonzero(row)]
        yield " | ".join(names), len(names)


def _figures(part: SplitPredictions) -> Iterator[Sequence[str]]:
    """Yield the probabilities of each row as the shortest text that reads back to the same number; empty if unknown."""
    empty = [""] * len(part.classes)
    for start in range(0, len(part.truth), _BLOCK):
        block = part.probabilities[start : start + _BLOCK]
        if not part.has_probabilities:
            yield from [empty] * len(block)
            continue
        text = block.astype(str)
        text[~np.isfinite(block)] = ""
        yield from text.tolist()


def _parquet_bytes(folds: Mapping[Any, SplitPredictions]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as pq

    parts = list(folds.values())
    rows = [len(part.truth) for part in parts]
    columns = [] if None in folds else [pa.array(np.repeat(np.array(list(folds), dtype=np.int64), rows))]
    columns += [arrow_text([name for part in parts for name in _texts(part, column)]) for column in _COLUMNS]
    shares = np.concatenate([_known(part) for part in parts])
    columns += [pa.array(share, from_pandas=True) for share in shares.T]  # nan is a missing value
    sets = [cells for part in parts for cells in _sets(part)]
    if parts[0].sets is not None:
        columns += [arrow_text([names for names, _ in sets]), pa.array([size for _, size in sets], pa.int64())]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=_header(folds)), file)
    return file.getvalue()


def _texts(part: SplitPredictions, column: str) -> Sequence[str]:
    """Return one column of names, (rows,)."""
    if column in ("truth", "prediction"):
        labels = part.truth if column == "truth" else part.predicted
        return [part.classes[label] for label in labels.tolist()]
    return {"path": part.paths, "clip": part.clips, "subject": part.subjects}[column]


def _known(part: SplitPredictions) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """Return the probabilities, (rows, classes); nan where there are none."""
    return part.probabilities if part.has_probabilities else np.full_like(part.probabilities, np.nan)
