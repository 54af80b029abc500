"""A comparison of two heads, and an average over folds, on the terminal; in any width, legible without colour."""

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from featcache.evaluation import FoldsEvaluation, PairedEvaluation
from featcache.listing import title_data_set
from featcache.metrics import Interval
from featcache.report.console import print_parts
from featcache.report.name_table import LEAST_NAME, NARROW
from featcache.report.render_intervals import describe_resampling, interval_text
from featcache.report.render_target_pair import verdict
from featcache.text import counted, percent, percent_number, printable, shorten


def print_pair(pair: PairedEvaluation, console: Console) -> None:
    """Print what differs between two heads, class by class.

    Args:
        pair: what is printed.
        console: where; its width decides what fits.
    """
    print_parts(pair_parts(pair, console.width), console)


def print_folds(folds: FoldsEvaluation, console: Console) -> None:
    """Print the average of folds, and each fold.

    Args:
        folds: what is printed.
        console: where; its width decides what fits.
    """
    print_parts(folds_parts(folds, console.width), console)


def pair_parts(pair: PairedEvaluation, width: int) -> list[RenderableType]:
    """Return the figures of both heads, and the differences with their intervals; classes with the worst first."""
    first, second, intervals = pair.first, pair.second, pair.intervals
    heads = [Text(printable(f"{letter}: {side.sentence}")) for letter, side in (("A", first), ("B", second))]
    data_set = title_data_set(first.data_set, first.variant)
    title = " · ".join(printable(name) for name in (data_set, first.split, first.unit))
    figures = _table(("", "A", "B", "A - B", "95 %"))
    for name, values, interval in (
        ("accuracy", (first.accuracy, second.accuracy, pair.accuracy), intervals.accuracy),
        ("macro recall", (first.macro_recall, second.macro_recall, pair.macro_recall), intervals.macro_recall),
    ):
        figures.add_row(Text(name), *_cells(*values, interval))
    classes = _table(("class", "A", "B", "A - B", "95 %"))
    for i in np.argsort(pair.recall, kind="stable").tolist():
        cells = _cells(float(first.recall[i]), float(second.recall[i]), float(pair.recall[i]), intervals.recall[i])
        classes.add_row(_class_name(first.classes[i], width), *cells)
    key = Text("*: the interval of the difference does not contain 0", style="dim")
    return [
        Group(Text(shorten(title, width), style="bold"), *heads),
        *_notes((*first.notes, *second.notes)),
        Group(figures, Text(_verdict(pair))),
        Group(Text("recall by class in %, A's largest losses first", style="bold"), classes, key),
        describe_resampling(intervals),
    ]


def folds_parts(folds: FoldsEvaluation, width: int) -> list[RenderableType]:
    """Return the average, each fold's own figures with its head, and the average recall of each class."""
    first = folds.folds[0]
    numbered = list(zip(folds.numbers, folds.folds, strict=True))
    data_set = title_data_set(first.data_set, first.variant, all_folds=True)
    title = f"{printable(data_set)} · {printable(first.split)} · {first.unit} · {len(numbered)} folds"
    figures = _table(("", "macro recall", "95 %", "accuracy", f"{first.by}s"))
    for number, fold in numbered:
        interval = fold.intervals.macro_recall if fold.intervals else None
        macro_recall = percent(fold.macro_recall), interval_text(fold.macro_recall, interval)
        row = (f"fold {number}", *macro_recall, percent(fold.accuracy), f"{fold.rows:,}")
        figures.add_row(*map(Text, row))
    figures.add_row(
        Text("average"),
        Text(percent(folds.macro_recall)),
        Text(interval_text(folds.macro_recall, folds.intervals.macro_recall)),
        Text(percent(folds.accuracy)),
        Text(""),
        style="bold",
    )
    heads = [Text(printable(f"fold {number}: {fold.sentence}")) for number, fold in numbered]
    classes = _table(("class", "recall", "95 %"))
    for i in np.argsort(folds.recall, kind="stable").tolist():
        recall = float(folds.recall[i])
        cells = (percent_number(recall), interval_text(recall, folds.intervals.recall[i]))
        classes.add_row(_class_name(first.classes[i], width), *map(Text, cells))
    return [
        Group(Text(shorten(title, width), style="bold"), *heads),
        *_notes(folds.notes),
        figures,
        Group(Text("recall by class in %, averaged over the folds that have it", style="bold"), classes),
        describe_resampling(folds.intervals),
    ]


def _verdict(pair: PairedEvaluation) -> str:
    """Return which head is better by macro recall, or that these rows do not tell, as a sentence."""
    intervals = pair.intervals
    interval = intervals.macro_recall
    holds_zero = interval is None or interval.low <= 0 <= interval.high
    leads = "" if holds_zero else "A" if pair.macro_recall > 0 else "B"
    return verdict("macro recall", leads, interval, counted(intervals.groups, intervals.unit))


def _notes(notes: Sequence[str]) -> list[Text]:
    """Return the notes, each once."""
    return [Text(f"note: {printable(note)}", style="bold red") for note in dict.fromkeys(notes)]


def _table(headings: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="right" if column else "left", no_wrap=True)
    return table


def _cells(first: float, second: float, difference: float, interval: Interval | None) -> list[Text]:
    """Return two figures, their difference, and its interval with an asterisk where it leaves out 0."""
    leaves_out_zero = interval is not None and not interval.low <= 0 <= interval.high
    between = interval_text(difference, interval, signed=True) + (" *" if leaves_out_zero else "  ")
    figures = (percent_number(first), percent_number(second), percent_number(difference, signed=True))
    return [Text(cell) for cell in (*figures, between)]


def _class_name(name: str, width: int) -> Text:
    return Text(shorten(printable(name), max(LEAST_NAME, width - (50 if width >= NARROW else 44))))
