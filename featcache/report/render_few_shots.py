"""Macro recall against the number of labels, on the terminal: a table that is its own picture.

Of labels it is the mean average precision, of numbers R2, against the number of images.
"""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from featcache.evaluation import FewShotCurve, FewShotPoint
from featcache.report.console import print_parts
from featcache.report.metrics_in_words import metric_interval_text
from featcache.text import METRIC_WORDS, counted, metric_text, printable

NARROW = 80  # columns; under it the lowest and the highest draw are left out
LEAST_PICTURE, MOST_PICTURE = 16, 40  # cells


def print_few_shots(curve: FewShotCurve, console: Console) -> None:
    """Print one row a number of labels, with its mean, its interval and both as a picture.

    Args:
        curve: what is printed.
        console: where; its width decides what fits.
    """
    title = Text(few_shot_title(curve), style="bold")
    key = [Text(sentence, style="dim") for sentence in curve.sentences]
    print_parts([Group(title, _table(curve, console.width), *key)], console)


def few_shot_title(curve: FewShotCurve) -> str:
    """Return what a curve is of: "photos · test: macro recall over 73 images, by labels of train"; or "by images".

    Args:
        curve: it.
    """
    scored = counted(len(curve.answers.scored.y), curve.row)
    what, by = METRIC_WORDS[curve.metric], "labels" if curve.is_of_classes else f"{curve.row}s"
    return f"{printable(curve.data_set)} · {printable(curve.split)}: {what} over {scored}, by {by} of train"


def shots_text(point: FewShotPoint) -> str:
    """Return a number of labels of each class: "16", "all".

    Args:
        point: of so many labels.
    """
    return "all" if point.shots is None else f"{point.shots:,}"


def spread_text(point: FewShotPoint) -> str:
    """Return the lowest and the highest draw: "61.2 to 80.4", of shares in per cent; "" of a single one.

    Args:
        point: whose draws are meant.
    """
    if len(point.draws) < 2:
        return ""
    return " to ".join(
        metric_text(point.metric, end).removesuffix(" %") for end in (min(point.draws), max(point.draws))
    )


def mean_text(point: FewShotPoint) -> str:
    """Return the mean over the draws: "75.5 %", "0.3664".

    Args:
        point: whose draws are meant.
    """
    return metric_text(point.metric, point.mean)


def point_interval_text(point: FewShotPoint) -> str:
    """Return the interval of the mean: "63.4 to 87.3"; "too few" where it has none.

    Args:
        point: whose draws are meant.
    """
    return metric_interval_text(point.metric, point.mean, point.interval)


def _table(curve: FewShotCurve, width: int) -> Table:
    """Return the table, whose last column is the picture."""
    is_wide = width >= NARROW
    counts = ["a class", "labels"] if curve.is_of_classes else [f"{curve.row}s"]
    headings = [*counts, "mean", "95 %", *(["lowest to highest draw"] if is_wide else [])]
    rows = [
        [
            *([shots_text(point)] if curve.is_of_classes else []), f"{point.labels:,}", mean_text(point),
            point_interval_text(point), *([spread_text(point)] if is_wide else []),
        ]
        for point in curve.points
    ]  # fmt: skip
    taken = sum(max(map(len, column)) + 2 for column in zip(headings, *rows, strict=True))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    cells = min(MOST_PICTURE, width - taken)
    if cells >= LEAST_PICTURE:
        floor = picture_floor(curve.points)
        start, end = scale_text(curve.metric, floor), scale_text(curve.metric, 1)
        table.add_column(f"{start}{end.rjust(cells - len(start))}", no_wrap=True)
    for row, point in zip(rows, curve.points, strict=True):
        picture = [draw_interval(point, floor, cells)] if cells >= LEAST_PICTURE else []
        table.add_row(*map(Text, [*row, *picture]))
    return table


def picture_floor(points: Sequence[FewShotPoint]) -> float:
    """Return where a picture of points begins, in -1 … 0.9: the tenth below all that it shows.

    What is below -1, an R2 of a head on a handful of images, stands at the edge.

    Args:
        points: one or more.
    """
    lowest = min(point.interval.low if point.interval else point.mean for point in points)
    return 0.0 if math.isnan(lowest) else min(0.9, max(-1.0, math.floor(10 * lowest) / 10))


def scale_text(metric: str, value: float) -> str:
    """Return a value of a metric as it stands at a picture: "60 %", "82.5 %", "-0.3".

    Args:
        metric: its name.
        value: where in the picture.
    """
    return metric_text(metric, value).replace(".0 %", " %")


def draw_interval(point: FewShotPoint, floor: float, cells: int) -> str:
    """Return a point as a dot in its interval: "  ├──●──┤".

    Args:
        point: it; where it has no interval, the dot stands alone.
        floor: the share that the first cell stands for; the last one stands for 1.
        cells: of the picture.
    """

    def cell(share: float) -> int:
        return min(cells - 1, max(0, round((share - floor) / (1 - floor) * (cells - 1))))

    if math.isnan(point.mean):
        return ""
    drawn = [" "] * cells
    if point.interval is not None:
        low, high = cell(point.interval.low), cell(point.interval.high)
        drawn[low : high + 1] = ["─"] * (high - low + 1)
        drawn[low], drawn[high] = "├", "┤"
    drawn[cell(point.mean)] = "●"
    return "".join(drawn).rstrip()
