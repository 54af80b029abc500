"""CSV files: what all of them share, and an Evaluation as one."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.report.destination import check_destination, save_bytes
from featcache.text import printable

if TYPE_CHECKING:
    from featcache.evaluation import Evaluation


def save_rows(header: Sequence[str], rows: Iterable[Sequence[object]], path: Path) -> None:
    r"""Write a CSV file: UTF-8 without a byte order mark, lines end in \n.

    Args:
        header: the names of the columns.
        rows: the cells of each row; names have gone through `disarm_formula`, figures through `blank_if_undefined`.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".csv")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    save_bytes(path, text.getvalue().encode())


def disarm_formula(name: str) -> str:
    """Return a name that a spreadsheet shows and does not evaluate; `printable` disarms a leading tab or CR."""
    shown = printable(name)
    return f"'{shown}" if shown.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else shown


def blank_if_undefined(value: float) -> float | str:
    """Return a figure at full precision, an empty cell where it is nan or infinite."""
    return value if math.isfinite(value) else ""


def save_evaluation_csv(evaluation: "Evaluation", path: Path) -> None:
    r"""Write one row a class: class, support, recall with its interval, precision, f1, then a count a prediction.

    `recall_interval` says "too few" where a class's groups are too few for one, and nothing else.

    UTF-8 without a byte order mark, lines end in \n, shares in 0 … 1 at full precision, undefined ones empty.
    A name is written as `printable` shows it, so a row is a line whatever a class is called; one that a
    spreadsheet would run as a formula (it starts with = + - @) has an apostrophe before it.

    Args:
        evaluation: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    from featcache.metrics import TOO_FEW  # with SciPy, which an evaluation has imported

    predicted = [f"predicted: {printable(name)}" for name in evaluation.classes]
    recall_columns = ["recall", "recall_low", "recall_high", "recall_interval"]
    columns = zip(
        evaluation.classes,
        evaluation.support.tolist(),
        evaluation.recall.tolist(),
        evaluation.recall_intervals,
        evaluation.recall_is_too_few,
        evaluation.precision.tolist(),
        evaluation.f1.tolist(),
        evaluation.confusion.tolist(),
        strict=True,
    )
    rows = []
    for name, support, recall, interval, too_few, precision, f1, counts in columns:
        ends = (interval.low, interval.high) if interval else (math.nan, math.nan)
        shares = [blank_if_undefined(share) for share in (recall, *ends, precision, f1)]
        words = disarm_formula(name), TOO_FEW if too_few else ""
        rows.append([words[0], support, *shares[:3], words[1], *shares[3:], *counts])
    save_rows(["class", "support", *recall_columns, "precision", "f1", *predicted], rows, path)
