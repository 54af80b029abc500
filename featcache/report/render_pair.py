"""A comparison of two heads, and an average over folds, on the terminal; in any width, legible without colour."""

import math
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from featcache.evaluation import Evaluation, Folds, Paired
from featcache.metrics import Interval
from featcache.report.terminal import NARROW, UNDEFINED, drawn_again, percent, span
from featcache.report.text import printable, shorten


def render_paired(found: Paired, console: Console) -> None:
    """Print what differs between two heads, class by class."""
    _print(paired_parts(found, console.width), console)


def render_folds(found: Folds, console: Console) -> None:
    """Print the average of folds, and each fold."""
    _print(folds_parts(found, console.width), console)


def paired_parts(found: Paired, width: int) -> list[RenderableType]:
    """The figures of both, the differences with their intervals; classes by difference, the worst first."""
    one, other, sure = found.one, found.other, found.intervals
    heads = [_who(f"{letter}: ", side, width) for letter, side in (("A", one), ("B", other))]
    title = " · ".join(printable(name) for name in (one.data_set, one.split, one.unit))
    table = _table(("", "A", "B", "A - B", "95 %"))
    for name, values, interval in (
        ("accuracy", (one.accuracy, other.accuracy, found.accuracy), sure.accuracy),
        ("macro recall", (one.macro_recall, other.macro_recall, found.macro_recall), sure.macro_recall),
    ):
        table.add_row(Text(name), *_cells(values, interval))
    classes = _table(("class", "A", "B", "A - B", "95 %"))
    for i in np.argsort(found.recall, kind="stable").tolist():
        cells = _cells((float(one.recall[i]), float(other.recall[i]), float(found.recall[i])), sure.recall[i])
        classes.add_row(_name(one.classes[i], width), *cells)
    notes = [Text(f"note: {printable(note)}", style="bold red") for note in dict.fromkeys((*one.notes, *other.notes))]
    said = Text("*: the interval of the difference does not hold 0", style="dim")
    return [
        Group(Text(shorten(title, width), style="bold"), *heads),
        *notes,
        table,
        Group(Text("recall by class, where A loses most first; in %", style="bold"), classes, said),
        drawn_again(sure),
    ]


def folds_parts(found: Folds, width: int) -> list[RenderableType]:
    """The average, each fold's own figures with its head, and the average recall of each class."""
    first = found.folds[0]
    title = f"{printable(first.data_set)} · {printable(first.split)} · {first.unit} · {len(found.folds)} folds"
    table = _table(("", "macro recall", "95 %", "accuracy", f"{first.by}s"))
    for number, fold in zip(found.numbers, found.folds, strict=True):
        sure = fold.intervals.macro_recall if fold.intervals else None
        cells = (percent(fold.macro_recall), span(fold.macro_recall, sure), percent(fold.accuracy))
        table.add_row(Text(f"fold {number}"), *map(Text, cells), Text(f"{fold.rows:,}"))
    table.add_row(
        Text("average"), Text(percent(found.macro_recall)),
        Text(span(found.macro_recall, found.intervals.macro_recall)),
        Text(percent(found.accuracy)), Text(""), style="bold",
    )  # fmt: skip
    heads = [_who(f"fold {number}: ", fold, width) for number, fold in zip(found.numbers, found.folds, strict=True)]
    notes = dict.fromkeys(note for fold in found.folds for note in fold.notes)
    classes = _table(("class", "recall", "95 %"))
    for i in np.argsort(found.recall, kind="stable").tolist():
        share = float(found.recall[i])
        recall = UNDEFINED if math.isnan(share) else f"{100 * share:.1f}"
        classes.add_row(_name(first.classes[i], width), Text(recall), Text(span(share, found.intervals.recall[i])))
    return [
        Group(Text(shorten(title, width), style="bold"), *heads),
        *(Text(f"note: {printable(note)}", style="bold red") for note in notes),
        table,
        Group(Text("recall by class, average of the folds that have it; in %", style="bold"), classes),
        drawn_again(found.intervals),
    ]


def _who(before: str, side: Evaluation, width: int) -> Text:
    """Which head stands on a side; where a word stood for it, why it is that one."""
    return Text(before + printable(side.chosen) if side.chosen else shorten(before + printable(side.head), width))


def _print(parts: Sequence[RenderableType], console: Console) -> None:
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    return table


def _cells(values: Sequence[float], interval: Interval | None) -> list[Text]:
    figures = [UNDEFINED if math.isnan(value) else f"{100 * value:.1f}" for value in values[:2]]
    difference = UNDEFINED if math.isnan(values[2]) else f"{100 * values[2]:+.1f}"
    away = interval is not None and not interval.low <= 0 <= interval.high
    between = span(values[2], interval, "{:+.1f} to {:+.1f}") + (" *" if away else "  ")
    return [Text(cell) for cell in (*figures, difference, between)]


def _name(name: str, width: int) -> Text:
    return Text(shorten(printable(name), max(8, width - (50 if width >= NARROW else 44))))
