"""The average over folds as a CSV file: each figure of every fold beside its average."""

from collections.abc import Iterator
from pathlib import Path

from featcache.evaluation import FoldsEvaluation, is_too_few
from featcache.metrics import TOO_FEW, Interval
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows


def save_folds_csv(folds: FoldsEvaluation, path: Path) -> None:
    """Write the rows macro_recall, accuracy, then recall and support of each class; a column for each fold.

    The columns are figure, class, average, low, high, interval (low and high are those of the average's 95 % interval;
    `interval` says "too few" where there can be none, and nothing else), then `fold 0`, `fold 1`, … Shares are in
    0 … 1 at full precision, undefined ones empty; the file and its names are as `save_evaluation_csv` writes them.

    Args:
        folds: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    header = ["figure", "class", "average", "low", "high", "interval", *(f"fold {number}" for number in folds.numbers)]
    save_rows(header, _rows(folds), path)


def _rows(folds: FoldsEvaluation) -> Iterator[list[object]]:
    parts, intervals = folds.folds, folds.intervals
    yield ["macro_recall", "", *_average(folds.macro_recall, intervals.macro_recall), *(p.macro_recall for p in parts)]
    yield ["accuracy", "", *_average(folds.accuracy, intervals.accuracy), *(part.accuracy for part in parts)]
    names = [disarm_formula(name) for name in parts[0].classes]
    for label, name in enumerate(names):
        average = _average(float(folds.recall[label]), intervals.recall[label])
        yield ["recall", name, *average, *(blank_if_undefined(float(part.recall[label])) for part in parts)]
    for label, name in enumerate(names):
        yield ["support", name, "", "", "", "", *(int(part.support[label]) for part in parts)]


def _average(value: float, interval: Interval | None) -> list[object]:
    """Return an average, the ends of its interval, and "too few" where it has none though it is defined."""
    ends: list[object] = ["", ""] if interval is None else [interval.low, interval.high]
    return [blank_if_undefined(value), *ends, TOO_FEW if is_too_few(value, interval) else ""]
