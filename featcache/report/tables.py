"""An Evaluation as a CSV file, and how every file of a report comes to lie where it was asked for."""

import csv
import io
import math
import os
import uuid
from pathlib import Path

from featcache.errors import MachineError, UsageError
from featcache.evaluation import Evaluation, recall_intervals, recall_is_too_few
from featcache.files import describe_target
from featcache.metrics import TOO_FEW
from featcache.report.text import printable


def save_evaluation_csv(evaluation: Evaluation, path: Path) -> None:
    r"""Write one row a class: class, support, recall with its interval, precision, f1, then a count a prediction.

    `recall_interval` says "too few" where a class's groups are too few for one, and nothing else.

    UTF-8 without a byte order mark, lines end in \n, shares in 0 … 1 at full precision, undefined ones empty.
    A name is written as `printable` shows it, so a row is a line whatever a class is called; one that a
    spreadsheet would run as a formula (it starts with = + - @) has an apostrophe before it.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".csv")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    predicted = [f"predicted: {printable(name)}" for name in evaluation.classes]
    sure = ["recall", "recall_low", "recall_high", "recall_interval"]
    table.writerow(["class", "support", *sure, "precision", "f1", *predicted])
    columns = zip(
        evaluation.classes,
        evaluation.support.tolist(),
        evaluation.recall.tolist(),
        recall_intervals(evaluation),
        recall_is_too_few(evaluation),
        evaluation.precision.tolist(),
        evaluation.f1.tolist(),
        evaluation.confusion.tolist(),
        strict=True,
    )
    for name, support, recall, interval, too_few, precision, f1, counts in columns:
        ends = (interval.low, interval.high) if interval else (math.nan, math.nan)
        shares = ["" if math.isnan(share) else share for share in (recall, *ends, precision, f1)]
        table.writerow([inert(name), support, *shares[:3], TOO_FEW if too_few else "", *shares[3:], *counts])
    save_bytes(path, text.getvalue().encode())


def inert(name: str) -> str:
    """A name that a spreadsheet shows and does not evaluate; `printable` disarms a leading tab or CR."""
    shown = printable(name)
    return f"'{shown}" if shown.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else shown


def check_destination(path: Path, suffix: str) -> None:
    """Refuse a path that no file can be written to; a command asks this before it works, not after.

    Raises:
        UsageError: the path does not end in `suffix`, its folder does not exist, or it is a folder.
    """
    shown = printable(str(path))
    if path.suffix.lower() != suffix:
        raise UsageError(
            f"{shown}: ends in {printable(path.suffix) or 'no suffix'}, expected {suffix}. "
            f"Name a file that ends in {suffix}."
        )
    if not path.parent.is_dir():
        folder = printable(str(path.parent))
        raise UsageError(f"{shown}: there is no folder {folder}. Make it (mkdir -p), or name another file.")
    if path.is_dir():
        raise UsageError(f"{shown}: is a folder, expected a file. Name a file in it, or another one.")
    if problem := describe_target(path):
        raise UsageError(f"{shown}: {problem}. Name another file.")


def save_bytes(path: Path, content: bytes) -> None:
    """Write the whole file or nothing: a scratch file beside it, flushed to the disk, renamed.

    Raises:
        MachineError: it cannot be written; what was there before is untouched.
    """
    # The scratch name does not contain the file's: that may already be as long as the file system allows.
    scratch = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise MachineError(
            f"{printable(str(path))}: cannot be written ({error.strerror or error}). "
            f"Name a file in a folder that you can write to."
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
