"""What a head answers on rows with several labels or numbers, as a table for other tools: CSV or Parquet."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.evaluation import TargetPredictions, TargetSets
from featcache.files import arrow_text
from featcache.listing import describe_targets
from featcache.recipe import LABELS
from featcache.report.destination import save_bytes
from featcache.report.prediction_table import check_table
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows
from featcache.text import printable

_COLUMNS = ("path", "truth", "prediction", "clip", "subject")  # before those of the figures


def save_target_predictions(
    predictions: TargetPredictions | Mapping[int, TargetPredictions], path: Path, sets: TargetSets | None = None
) -> None:  # fmt: skip
    """Write one row an image (or clip): path, truth, prediction, clip, subject, then a column a label or number.

    Of labels `truth` and `prediction` have the names with " | " between them, and the further columns the
    probabilities; of numbers they are `truth: NAME` and `prediction: NAME`. Of several folds, the first column is
    `fold`. With conformal sets the last one is `set`; with intervals, `low: NAME` and `high: NAME`. In CSV, names are
    not run as a formula by a spreadsheet; in Parquet they are as they are.

    Args:
        predictions: what is written; of several folds by the fold's number.
        path: the file, .csv or .parquet; an existing one is replaced.
        sets: the conformal sets or intervals of the same rows; None where there are none.

    Raises:
        UsageError: another suffix, no such folder, a folder, or .parquet without pyarrow.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_table(path, "--predictions")
    parts = predictions if isinstance(predictions, Mapping) else {None: predictions}
    if path.suffix.lower() == ".csv":
        save_rows(_header(parts, sets), _csv_rows(parts, sets), path)
    else:
        save_bytes(path, _parquet_bytes(parts, sets))


def _header(parts: Mapping[Any, TargetPredictions], sets: TargetSets | None) -> list[str]:
    first = next(iter(parts.values()))
    names = [printable(name) for name in first.names]
    if first.kind == LABELS:
        figures = [f"probability: {name}" for name in names] + ["set"] * (sets is not None)
    else:
        kinds = ("truth", "prediction", *(("low", "high") if sets is not None else ()))
        figures = [f"{kind}: {name}" for name in names for kind in kinds]
    return [*([] if None in parts else ["fold"]), *_COLUMNS, *figures]


def _csv_rows(parts: Mapping[Any, TargetPredictions], sets: TargetSets | None) -> Iterator[list[object]]:
    for fold, part in parts.items():
        columns, words = _texts(part), _set_words(part, sets)
        for row, figures in enumerate(_figures(part, sets).tolist()):
            texts = [disarm_formula(column[row]) for column in columns]
            cells: list[object] = [
                *texts,
                *map(blank_if_undefined, figures),
                *(disarm_formula(of[row]) for of in words),
            ]
            yield cells if fold is None else [fold, *cells]


def _parquet_bytes(parts: Mapping[Any, TargetPredictions], sets: TargetSets | None) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as pq

    folds, every = list(parts), list(parts.values())
    rows = [len(part.truth) for part in every]
    columns = [] if None in parts else [pa.array(np.repeat(np.array(folds, dtype=np.int64), rows))]
    texts = zip(*map(_texts, every), strict=True)
    columns += [arrow_text([text for part in of_parts for text in part]) for of_parts in texts]
    figures = np.concatenate([_figures(part, sets) for part in every])
    columns += [pa.array(column, from_pandas=True) for column in figures.T]  # nan is a missing value
    columns += [arrow_text(list(words)) for part in every for words in _set_words(part, sets)]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=_header(parts, sets)), file)
    return file.getvalue()


def _texts(part: TargetPredictions) -> list[Sequence[str]]:
    """Return the columns of names, each (rows,)."""
    truth, predicted = (
        [describe_targets(part.kind, part.names, row) for row in values.tolist()]
        for values in (part.truth, part.predicted)
    )
    return [part.paths, truth, predicted, part.clips, part.subjects]


def _figures(part: TargetPredictions, sets: TargetSets | None) -> npt.NDArray[np.float64]:
    """Return the columns of figures, (rows, columns): probabilities, or those of each number, one after the other."""
    if part.kind == LABELS:
        return part.answers
    columns = [part.truth, part.answers]
    if sets is not None:
        columns += [part.answers - sets.limits, part.answers + sets.limits]
    return np.stack(columns, axis=2).reshape(len(part.truth), -1)


def _set_words(part: TargetPredictions, sets: TargetSets | None) -> list[list[str]]:
    """Return the column of conformal sets, (rows,), in a list; an empty list where there are none."""
    if sets is None or part.kind != LABELS:
        return []
    return [[describe_targets(part.kind, part.names, row) for row in sets.members.astype(float).tolist()]]
