"""An Evaluation on the terminal: rich renderables for a given width, legible without colour."""

import math
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from featcache.evaluation import Evaluation, is_too_few, recall_intervals
from featcache.metrics import TOO_FEW, Interval, Intervals, largest_confusions, too_few_means
from featcache.report.text import bar, ink, printable, shorten

NARROW = 80  # columns; under it words and gaps are shorter
SHORT = 5  # cells; class names up to here can head the columns of the matrix
LEAST_LABEL = 13  # cells; with less than that for a row's number and name they cannot be told apart
UNDEFINED = "–"
BLUES = ((222, 235, 247), (8, 48, 107))  # right answers, from none of a class to all of it
ORANGES = ((254, 230, 206), (166, 54, 3))  # mistakes; blue and orange differ to every eye


def render_evaluation(evaluation: Evaluation, console: Console, *, written: bool = False) -> None:
    """Print the report, an empty line between its parts. Styles vanish where the console is no terminal.

    `written`: the matrix is written to a file, so where it does not fit, nobody is told how to have it written.
    """
    for number, part in enumerate(render(evaluation, console.width, written=written)):
        if number:
            console.print()
        console.print(part)


def render(evaluation: Evaluation, width: int, *, written: bool = False) -> list[RenderableType]:
    """The parts of the report, top to bottom, each at most `width` columns wide."""
    parts: list[RenderableType] = [_headline(evaluation, width)]
    parts += [Text(f"note: {printable(note)}", style="bold red") for note in evaluation.notes]
    parts.append(_classes(evaluation, width))
    if evaluation.intervals is not None:
        parts.append(drawn_again(evaluation.intervals))
    if evaluation.rows:
        parts += [_confusions(evaluation, width), _matrix(evaluation, width, written=written)]
    return parts


def _headline(evaluation: Evaluation, width: int) -> RenderableType:
    title = " · ".join(printable(name) for name in (evaluation.data_set, evaluation.split, evaluation.head))
    lines = [Text(shorten(title, width), style="bold")]
    if evaluation.chosen:
        lines.append(Text(printable(evaluation.chosen)))
    elif evaluation.selected_by:
        lines.append(Text(f"chosen by {printable(evaluation.selected_by)}"))
    lines.append(Text(_counted(evaluation.rows, evaluation.by) + _left_out(evaluation)))

    scores = _scores(evaluation, width)
    baselines = [Text(sentence, style="dim") for sentence in _baselines(evaluation, width)]
    return Group(*lines, Text(), scores, *baselines)


def _baselines(evaluation: Evaluation, width: int) -> list[str]:
    """Which class the baseline answers: one sentence; one for each unit where their largest classes differ."""
    units = [unit for unit in (evaluation, evaluation.beside) if unit is not None and unit.largest_class is not None]
    several = len({unit.largest_class for unit in units}) > 1
    sentences = []
    for unit in units if several else units[:1]:
        before = f"baseline{f' by {unit.by}' if several else ''}: always answering "
        after = ", the largest class"
        name = unit.classes[unit.largest_class or 0]
        sentences.append(before + _worded(name, width - len(before + after)) + after)
    return sentences


def _scores(evaluation: Evaluation, width: int) -> Table:
    """The figures beside the baseline, with their intervals; by image and by clip, each named, where there are both."""
    narrow = width < NARROW
    sure = evaluation.intervals
    scores = Table.grid(padding=(0, 1 if narrow and sure else 3))
    heads = ["", "this head", *([f"{100 * sure.level:.0f} %"] if sure else []), "baseline"]
    for place in range(len(heads)):
        scores.add_column(justify="right" if place else "left", no_wrap=bool(place))
    scores.columns[1].style = "bold"
    scores.add_row(*heads)
    for unit in (evaluation, evaluation.beside):
        if unit is None:
            continue
        if evaluation.beside is not None:
            scores.add_row(Text(f"{unit.unit}: {_counted(unit.rows, unit.by)}"))
        evaluated = f"{unit.classes_evaluated} of {len(unit.classes)}"
        over = f"macro recall, {evaluated}" if narrow and sure else f"macro recall over {evaluated} classes"
        found = unit.intervals
        for name, value, interval, baseline in (
            ("accuracy", unit.accuracy, found.accuracy if found else None, unit.baseline_accuracy),
            (over, unit.macro_recall, found.macro_recall if found else None, unit.baseline_macro_recall),
        ):
            scores.add_row(name, percent(value), *([span(value, interval)] if sure else []), percent(baseline))
    return scores


def drawn_again(found: Intervals) -> RenderableType:
    """Where the intervals come from, in a sentence."""
    groups = f"{found.groups:,} {found.unit}{'' if found.groups == 1 else 's'}"
    return Text(
        f"intervals: {100 * found.level:.0f} %, {found.resamples:,} resamples of {groups}; {found.method}; a class "
        f"that a resample lacks is left out of its macro recall; {too_few_means(found.unit)}",
        style="dim",
    )


def _left_out(evaluation: Evaluation) -> str:
    if not evaluation.failed:
        return ""
    verb = "is" if evaluation.failed == 1 else "are"
    return f"; {evaluation.failed:,} more could not be embedded and {verb} left out"


def _classes(evaluation: Evaluation, width: int) -> RenderableType:
    """One row a class, lowest recall first, classes without support last."""
    narrow = width < NARROW
    sure = evaluation.intervals is not None
    heads = ("support", "recall", *(["95 %"] if sure else []), "", "prec." if narrow else "precision", "F1")
    between = "{:.0f}-{:.0f}" if narrow else "{:.1f}-{:.1f}"
    spans = [span(evaluation.recall[i], each, between) for i, each in enumerate(recall_intervals(evaluation))]
    absent = f"no {evaluation.by}s"
    cells = max(8 if narrow else 16, len(absent))
    order = np.argsort(evaluation.recall, kind="stable")  # nan sorts last
    rows = [
        (
            f"{evaluation.support[i]:,}",
            _hundredths(evaluation.recall[i]),
            *([spans[i]] if sure else []),
            bar(evaluation.recall[i], cells) if evaluation.support[i] else absent,
            _hundredths(evaluation.precision[i]),
            _hundredths(evaluation.f1[i]),
        )
        for i in order
    ]
    padding = 0 if narrow else 1  # and the box sets one column between any two
    taken = sum(max(map(len, column)) + 1 + padding for column in zip(heads, *rows, strict=True))

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, padding, 0, 0))
    table.add_column("class", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for i, row in zip(order, rows, strict=True):
        name = Text(shorten(printable(evaluation.classes[i]), max(8, width - taken)))
        table.add_row(name, *(Text(cell) for cell in row), style="" if evaluation.support[i] else "dim")

    title = Text("per class, lowest recall first; recall, precision, F1 in %", style="bold")
    parts: list[RenderableType] = [title, table]
    if np.isnan([evaluation.recall, evaluation.precision]).any():
        parts.append(Text(f"{UNDEFINED}: undefined, for want of {evaluation.by}s or of predictions", style="dim"))
    return Group(*parts)


def _confusions(evaluation: Evaluation, width: int) -> RenderableType:
    """The largest confusions, a sentence each; one that is too long is broken before its verb."""
    found = largest_confusions(evaluation.confusion)
    if not found:
        return Text("no confusions: every answer is right")
    lines = [Text("largest confusions", style="bold")]
    for one in found:
        truth, taken = evaluation.classes[one.truth], evaluation.classes[one.predicted]
        counts = f"  {one.count:,} of {evaluation.support[one.truth]:,} "
        verb = f"{'was' if one.count == 1 else 'were'} taken for "
        share = f" ({100 * one.share:.0f} %)" if one.share >= 0.01 else " (under 1 %)"
        sentence = f"{counts}{_worded(truth)} {verb}{_worded(taken)}{share}"
        if cell_len(sentence) <= width:
            lines.append(Text(sentence))
        else:
            lines.append(Text(counts + _worded(truth, width - len(counts))))
            lines.append(Text(f"    {verb}{_worded(taken, width - 4 - len(verb + share))}{share}"))
    return Group(*lines)


def _matrix(evaluation: Evaluation, width: int, *, written: bool) -> RenderableType:
    """Counts where they fit, else shares by row, else where to find the matrix."""
    title = Text("confusion matrix", style="bold")
    images = f"{evaluation.by}s"
    for cells, meaning, gap in ((_counts, images, 2), (_counts, images, 1), (_shares, "% of the row", 1)):
        if len(evaluation.classes) * (1 + gap) >= width:
            continue  # not even with cells of one digit
        grid = _grid(evaluation, cells(evaluation), width, gap)
        if grid is not None:
            key = f"rows: truth; columns: prediction; cells: {meaning}; [ ]: right"
            return Group(title, grid, Text(key, style="dim"))
    misfit = f"confusion matrix: {len(evaluation.classes)} classes do not fit {width} columns"
    return Text(misfit if written else f"{misfit}; --png FILE draws it, --csv FILE writes it")


def _counts(evaluation: Evaluation) -> list[list[str]]:
    return [[str(count) if count else "·" for count in row] for row in evaluation.confusion.tolist()]


def _shares(evaluation: Evaluation) -> list[list[str]]:
    return [[f"{100 * share:.0f}" if share else "·" for share in row] for row in _by_row(evaluation).tolist()]


def _by_row(evaluation: Evaluation) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Shares of each row of the matrix, (classes, classes); 0 in the rows of classes without support."""
    return evaluation.confusion / np.maximum(evaluation.support, 1)[:, None]


def _grid(evaluation: Evaluation, cells: Sequence[Sequence[str]], width: int, gap: int) -> Text | None:
    """The matrix as lines of equal columns, or None where it is wider than `width`.

    Columns are headed by the class names where all are short, else by the numbers that stand before the rows'
    names. The brackets of the diagonal stand in the gaps between the columns, so they cost no width.
    """
    names = [printable(name) for name in evaluation.classes]
    heads = names if max(map(cell_len, names)) <= SHORT else [str(i + 1) for i in range(len(names))]
    rows = (
        names
        if heads is names
        else [f"{head:>{len(heads[-1])}} {name}" for head, name in zip(heads, names, strict=True)]
    )
    column = max(map(cell_len, (*heads, *(cell for row in cells for cell in row))))
    room = width - len(names) * (column + gap) - 1
    longest = max(map(cell_len, rows))
    if room < min(longest, LEAST_LABEL):
        return None
    label = min(longest, room)

    shares = _by_row(evaluation)
    lines = [Text(" " * label + "".join(" " * (gap + column - cell_len(head)) + head for head in heads), style="dim")]
    for i, row in enumerate(cells):
        name = shorten(rows[i], label)
        line = Text(name + " " * (label - cell_len(name)))
        for j, cell in enumerate(row):
            line.append("[".rjust(gap) if i == j else "]".ljust(gap) if i == j - 1 else " " * gap)
            line.append(f"{cell:>{column}}", _shade(shares[i, j], right=i == j) if shares[i, j] else None)
        line.append("]" if i == len(cells) - 1 else "")
        lines.append(line)
    return Text("\n").join(lines)


def _shade(share: float, *, right: bool) -> Style:
    """A background that deepens with the share, blue for right answers and orange for mistakes."""
    low, high = BLUES if right else ORANGES
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(low, high, strict=True))
    return Style(color=ink(red / 255, green / 255, blue / 255), bgcolor=f"rgb({red},{green},{blue})")


def _worded(name: str, width: int = 10_000) -> str:
    """A class name in a sentence, in at most `width` cells (but 8): quoted unless it reads as a word."""
    shown = printable(name)
    return shorten(shown if shown[:1].isalpha() else f"“{shown}”", max(8, width))


def _counted(rows: int, unit: str) -> str:
    return f"{rows:,} {unit}{'' if rows == 1 else 's'}"


def span(value: float, interval: Interval | None, between: str = "{:.1f} to {:.1f}") -> str:
    """A figure's interval in per cent, "too few" where none can be stated, a dash where the figure is undefined."""
    if interval is None:
        return TOO_FEW if is_too_few(value, interval) else UNDEFINED
    return between.format(100 * interval.low, 100 * interval.high)


def percent(share: float) -> str:
    """In per cent, to a tenth; a dash where it is undefined."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:.1f} %"


def _hundredths(share: float) -> str:
    return UNDEFINED if math.isnan(share) else f"{100 * share:.1f}"
