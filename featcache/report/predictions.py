"""Predictions and timelines as a table on the terminal and as CSV."""

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from featcache.prediction import TOP, Predictions, Timeline
from featcache.report.tables import check_destination, inert, save_bytes
from featcache.report.text import printable


def render_predictions(found: Predictions, console: Console, count: int = TOP) -> None:
    """One row an image: the answer, how sure it is, and what else it could be."""
    below = _common(found.paths)
    if below:
        console.print(Text(f"in {printable(below)}", style="dim"), soft_wrap=False, overflow="fold")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("image", overflow="fold", ratio=2)
    table.add_column("label", overflow="fold", ratio=1)
    table.add_column("", justify="right", no_wrap=True, min_width=len("100.0 %"))
    table.add_column("else", overflow="fold", ratio=2)
    for row, path in enumerate(path.removeprefix(below) for path in found.paths):
        if found.failed[row]:
            table.add_row(Text(printable(path)), Text("no answer", style="bold red"), "", Text(found.failed[row]))
            continue
        (label, share), *others = found.top(row, count)
        rest = ", ".join(f"{printable(name)} {_percent(probability)}" for name, probability in others)
        table.add_row(Text(printable(path)), Text(printable(label), style="bold"), _percent(share), Text(rest))
    console.print(table)


def render_timeline(found: Timeline, console: Console) -> None:
    """One row a stretch with one label."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("from", "to", "frames"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("label", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    for one in found.segments():
        table.add_row(
            clock(one.start), clock(one.end), f"{one.first}-{one.last}", Text(printable(one.label), style="bold"),
            _percent(one.probability),
        )  # fmt: skip
    console.print(table)


def save_predictions_csv(found: Predictions, path: Path, count: int = TOP) -> None:
    r"""Write one row an image: path, then label_1, probability_1, … and why there is none.

    Names and paths as in `tables.save_csv`: one line a row, and none that a spreadsheet would run as a formula.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".csv")
    count = min(count, len(found.classes))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    headings = [f"{what}_{place}" for place in range(1, count + 1) for what in ("label", "probability")]
    table.writerow(["path", *headings, "failed"])
    for row, name in enumerate(found.paths):
        cells = [cell for label, share in found.top(row, count) for cell in (inert(label), _number(share))]
        table.writerow([inert(name), *(cells or [""] * len(headings)), inert(found.failed[row])])
    save_bytes(path, text.getvalue().encode())


def save_timeline_csv(found: Timeline, path: Path) -> None:
    """Write one row a stretch with one label: seconds and frames from and to, the label, its mean probability.

    Raises:
        UsageError, MachineError: as `save_csv`.
    """
    check_destination(path, ".csv")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["start_seconds", "end_seconds", "first_frame", "last_frame", "label", "probability"])
    for one in found.segments():
        table.writerow(
            [f"{one.start:.3f}", f"{one.end:.3f}", one.first, one.last, inert(one.label), _number(one.probability)]
        )
    save_bytes(path, text.getvalue().encode())


def _common(paths: Sequence[str]) -> str:
    """The folder that several images have in common, with its slash; said once, not on every row."""
    folders = {os.path.dirname(path) for path in paths}
    if len(paths) < 2 or len({os.path.isabs(folder) for folder in folders}) > 1:
        return ""
    found = os.path.commonpath(folders)
    return os.path.join(found, "") if found and all(path.startswith(os.path.join(found, "")) for path in paths) else ""


def clock(seconds: float) -> str:
    """Minutes and seconds of a video, to a tenth."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _number(share: float) -> float | str:
    return "" if math.isnan(share) else share
