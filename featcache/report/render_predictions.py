"""Predictions and timelines as a table on the terminal and as CSV."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from featcache.prediction import TOP, Predictions, Timeline
from featcache.recipe import LABEL, LABELS
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows
from featcache.text import clock, percent, printable


def print_predictions(predictions: Predictions, console: Console, count: int = TOP) -> None:
    """Print one row an image: the label, its probability, and what else it could be.

    Args:
        predictions: what is printed.
        console: where; its width decides what fits.
        count: labels of each image, most probable first.
    """
    below = _common_folder(predictions.paths)
    if below:
        console.print(Text(f"in {printable(below)}", style="dim"), soft_wrap=False, overflow="fold")
    if predictions.targets != LABEL:
        console.print(_targets_table(predictions, below, count))
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("image", overflow="fold", ratio=2)
    table.add_column("label", overflow="fold", ratio=1)
    table.add_column("", justify="right", no_wrap=True, min_width=len(percent(1)))
    table.add_column("else", overflow="fold", ratio=2)
    for row, path in enumerate(path.removeprefix(below) for path in predictions.paths):
        if predictions.failed[row]:
            reason = Text(predictions.failed[row])
            table.add_row(Text(printable(path)), Text("no prediction", style="bold red"), "", reason)
            continue
        (label, share), *others = predictions.top(row, count)
        rest = ", ".join(f"{printable(name)} {percent(probability)}" for name, probability in others)
        table.add_row(Text(printable(path)), Text(printable(label), style="bold"), percent(share), Text(rest))
    console.print(table)


def _targets_table(predictions: Predictions, below: str, count: int) -> Table:
    """Return one row an image: the labels that are predicted and the most probable ones, or a column a number."""
    is_labels = predictions.targets == LABELS
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("image", overflow="fold", ratio=2)
    headings = (
        ["labels", "probabilities (threshold)"] if is_labels else [printable(name) for name in predictions.classes]
    )
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="left" if is_labels else "right", ratio=2)
    for row, path in enumerate(path.removeprefix(below) for path in predictions.paths):
        top = predictions.top(row, count)
        if predictions.failed[row]:
            cells = [f"no prediction: {predictions.failed[row]}"]
        elif is_labels:
            labels = " | ".join(map(printable, predictions.labels(row))) or "none"
            thresholds = dict(zip(predictions.classes, predictions.thresholds, strict=True))
            shown = (f"{printable(name)} {percent(share)} ({percent(thresholds[name])})" for name, share in top)
            cells = [labels, ", ".join(shown)]
        else:
            cells = [f"{value:.6g}" for _, value in top]
        table.add_row(*map(Text, (printable(path), *cells)))
    return table


def _targets_rows(predictions: Predictions) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of a table of labels, with the probability of each, or of numbers."""
    is_labels = predictions.targets == LABELS
    names = [printable(name) for name in predictions.classes]
    header = ["path", *(["labels"] if is_labels else []), *([f"probability: {name}" for name in names]
              if is_labels else names), "failed"]  # fmt: skip
    rows: list[list[object]] = []
    for row, path in enumerate(predictions.paths):
        labels = [disarm_formula(" | ".join(predictions.labels(row)))] if is_labels else []
        figures = [blank_if_undefined(value) for value in predictions.probabilities[row].tolist()]
        rows.append([disarm_formula(path), *labels, *figures, disarm_formula(predictions.failed[row])])
    return header, rows


def print_timeline(timeline: Timeline, console: Console) -> None:
    """Print one row for each segment of a video that has one label.

    Args:
        timeline: what is printed.
        console: where; its width decides what fits.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("from", "to", "frames"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("label", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    for segment in timeline.segments():
        table.add_row(
            clock(segment.start), clock(segment.end), f"{segment.first}-{segment.last}",
            Text(printable(segment.label), style="bold"), percent(segment.probability),
        )  # fmt: skip
    console.print(table)


def save_predictions_csv(predictions: Predictions, path: Path, count: int = TOP) -> None:
    """Write one row an image: path, then label_1, probability_1, … and why there is none.

    Of several labels an image the columns are path, labels (" | " between them) and the probability of each label, of
    numbers path and a column for each.

    Names and paths as in `save_evaluation_csv`: one line a row, and none that a spreadsheet would run as a formula.

    Args:
        predictions: what is written.
        path: the file; an existing one is replaced.
        count: labels of each image, most probable first.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    if predictions.targets != LABEL:
        save_rows(*_targets_rows(predictions), path)
        return
    count = min(count, len(predictions.classes))
    headings = [f"{column}_{number}" for number in range(1, count + 1) for column in ("label", "probability")]
    rows = []
    for row, name in enumerate(predictions.paths):
        top = predictions.top(row, count)
        cells = [cell for label, share in top for cell in (disarm_formula(label), blank_if_undefined(share))]
        failed = disarm_formula(predictions.failed[row])
        rows.append([disarm_formula(name), *(cells or [""] * len(headings)), failed])
    save_rows(["path", *headings, "failed"], rows, path)


def save_timeline_csv(timeline: Timeline, path: Path) -> None:
    """Write one row a segment with one label: seconds and frames from and to, the label, its mean probability.

    Args:
        timeline: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: as of `save_predictions_csv`.
        MachineError: as of `save_predictions_csv`.
    """
    header = ["start_seconds", "end_seconds", "first_frame", "last_frame", "label", "probability"]
    rows = [
        (
            f"{segment.start:.3f}", f"{segment.end:.3f}", segment.first, segment.last, disarm_formula(segment.label),
            blank_if_undefined(segment.probability),
        )
        for segment in timeline.segments()
    ]  # fmt: skip
    save_rows(header, rows, path)


def _common_folder(paths: Sequence[str]) -> str:
    """Return the folder that several images have in common, with its slash; shown once, not on every row."""
    folders = {os.path.dirname(path) for path in paths}
    if len(paths) < 2 or len({os.path.isabs(folder) for folder in folders}) > 1:
        return ""
    common = os.path.commonpath(folders)
    prefix = os.path.join(common, "")
    return prefix if common and all(path.startswith(prefix) for path in paths) else ""
