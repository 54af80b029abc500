"""A comparison of two heads on several labels or numbers, on the terminal; in any width, legible without colour."""

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from featcache.evaluation import PairedTargets
from featcache.listing import title_data_set
from featcache.metrics import LOWER_IS_BETTER, TOO_FEW, Interval
from featcache.recipe import LABELS
from featcache.report.console import print_parts
from featcache.report.name_table import name_table
from featcache.report.render_targets import sentence_on_resampling
from featcache.text import METRIC_WORDS, UNDEFINED, counted, metric_text, printable, shorten

HEADINGS = ("A", "B", "A - B", "95 %")


def print_target_pair(pair: PairedTargets, console: Console) -> None:
    """Print what differs between two heads, label by label or number by number.

    Args:
        pair: what is printed.
        console: where; its width decides what fits.
    """
    print_parts(target_pair_parts(pair, console.width), console)


def target_pair_parts(pair: PairedTargets, width: int) -> list[RenderableType]:
    """Return the figures of both heads, the verdict, and the differences with their intervals; A's losses first."""
    first, second = pair.first, pair.second
    heads = [Text(printable(f"{letter}: {side.sentence}")) for letter, side in (("A", first), ("B", second))]
    title = " · ".join(printable(name) for name in (title_data_set(first.data_set, first.variant), first.split))
    notes = dict.fromkeys((*first.notes, *second.notes))
    return [
        Group(Text(shorten(title, width), style="bold"), *heads, Text(counted(first.rows, first.predictions.by))),
        *(Text(f"note: {printable(note)}", style="bold red") for note in notes),
        Group(_metrics(pair, width), Text(verdict_on_targets(pair))),
        Group(_outputs(pair, width), Text("*: the interval of the difference does not contain 0", style="dim")),
        Text(sentence_on_resampling(pair.intervals), style="dim"),
    ]


def verdict_on_targets(pair: PairedTargets) -> str:
    """Return which head is better by the chief metric, or that these rows do not tell, as a sentence.

    Args:
        pair: the two heads.
    """
    name, intervals = pair.first.metric_names[0], pair.intervals
    return verdict(METRIC_WORDS[name], pair.leads, intervals.overall[0], counted(intervals.groups, intervals.unit))


def verdict(metric: str, leads: str, interval: Interval | None, rows: str) -> str:
    """Return what an interval of a difference says of two heads, as a sentence.

    Args:
        metric: in words.
        leads: the better head, "A" or "B"; "" where the interval holds 0.
        interval: of the difference; None where there is none.
        rows: what was drawn again, with its count.
    """
    if leads:
        return f"{leads} is better by {metric}: the interval of the difference does not contain 0"
    if interval is None:
        return f"no verdict: {rows} are {TOO_FEW} for an interval of the difference in {metric}"
    return f"no verdict: by {metric}, {rows} do not tell which is better; the interval of the difference contains 0"


def _metrics(pair: PairedTargets, width: int) -> Table:
    """Return one line a metric: of either head, and the difference with its interval."""
    first, second, names = pair.first, pair.second, pair.first.metric_names
    rows = [
        difference_cells(name, first.metrics[name], second.metrics[name], interval)
        for name, interval in zip(names, pair.intervals.overall, strict=True)
    ]
    heading = "in %" if first.kind == LABELS else ""
    return name_table(heading, [METRIC_WORDS[name] for name in names], HEADINGS, rows, width)


def _outputs(pair: PairedTargets, width: int) -> Table:
    """Return one line a label or number, by its first figure, what A loses most first."""
    name = pair.first.output_names[0]
    column = pair.outputs[:, 0] * (-1 if name in LOWER_IS_BETTER else 1)
    order = np.argsort(column, kind="stable").tolist()
    rows = [
        difference_cells(
            name, float(pair.first.outputs[place, 0]), float(pair.second.outputs[place, 0]),
            pair.output_intervals(place)[0],
        )
        for place in order
    ]  # fmt: skip
    what = (
        f"{METRIC_WORDS[name]} of a label, in %" if pair.first.kind == LABELS else f"{METRIC_WORDS[name]} of a number"
    )
    return name_table(what, [pair.first.names[place] for place in order], HEADINGS, rows, width)


def difference_cells(name: str, first: float, second: float, interval: Interval | None) -> list[str]:
    """Return two figures, their difference, and its interval with an asterisk where it leaves out 0.

    Args:
        name: of the figure; shares are in per cent.
        first: of the one head; nan where it is undefined.
        second: of the other.
        interval: of the difference; None where there is none.
    """
    figures = [metric_text(name, value).removesuffix(" %") for value in (first, second)]
    difference = first - second
    if interval is None:
        between = UNDEFINED if np.isnan(difference) else TOO_FEW
    else:
        between = " to ".join(_signed(name, end) for end in (interval.low, interval.high))
    leaves_out_zero = interval is not None and not interval.low <= 0 <= interval.high
    return [*figures, _signed(name, difference), between + (" *" if leaves_out_zero else "  ")]


def _signed(name: str, value: float) -> str:
    text = metric_text(name, value).removesuffix(" %")
    if not text.strip("-0."):  # nothing is left of it once it is rounded
        return text.removeprefix("-")
    return f"+{text}" if value > 0 else text
