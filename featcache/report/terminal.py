"""An Evaluation on the terminal: rich renderables for a given width, legible without colour."""

from collections.abc import Sequence

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from featcache.evaluation import Evaluation
from featcache.listing import title_data_set
from featcache.report.console import print_parts
from featcache.report.ink import legible_ink
from featcache.report.name_table import NARROW, name_table
from featcache.report.render_calibration import calibration_sentences
from featcache.report.render_conformal import conformal_parts
from featcache.report.render_intervals import describe_resampling, interval_text
from featcache.text import UNDEFINED, bar, counted, percent, percent_number, printable, shorten

SHORT = 5  # cells; class names up to here can head the columns of the matrix
LEAST_LABEL = 13  # cells; with less than that for a row's number and name they cannot be told apart
BLUES = ((222, 235, 247), (8, 48, 107))  # right predictions, from none of a class to all of it
ORANGES = ((254, 230, 206), (166, 54, 3))  # mistakes; blue and orange differ to every eye


def print_evaluation(evaluation: Evaluation, console: Console, *, written: bool = False) -> None:
    """Print the report, an empty line between its parts.

    Args:
        evaluation: what is printed.
        console: where; its width decides what fits.
        written: whether the matrix is written to a file: where it does not fit, nobody is told how to have it written.
    """
    print_parts(evaluation_parts(evaluation, console.width, written=written), console)


def evaluation_parts(evaluation: Evaluation, width: int, *, written: bool = False) -> list[RenderableType]:
    """Return the parts of the report, top to bottom, each at most `width` columns wide."""
    parts: list[RenderableType] = [_headline(evaluation, width)]
    parts += [Text(f"note: {printable(note)}", style="bold red") for note in evaluation.notes]
    parts.append(_classes(evaluation, width))
    if evaluation.intervals is not None:
        parts.append(describe_resampling(evaluation.intervals))
    if evaluation.conformal is not None and evaluation.rows:
        parts.append(conformal_parts(evaluation.conformal, width))
    if evaluation.rows:
        parts += [_confusions(evaluation, width), _matrix(evaluation, width, written=written)]
    return parts


def _headline(evaluation: Evaluation, width: int) -> RenderableType:
    """Return whose evaluation it is, and its figures."""
    data_set = title_data_set(evaluation.data_set, evaluation.variant)
    title = " · ".join(printable(name) for name in (data_set, evaluation.split))
    lines = [Text(shorten(title, width), style="bold"), Text(printable(evaluation.sentence))]
    lines.append(Text(counted(evaluation.rows, evaluation.by) + _left_out(evaluation)))

    scores = _scores(evaluation, width)
    calibration = [Text(sentence) for sentence in calibration_sentences(evaluation)]
    baselines = [Text(sentence, style="dim") for sentence in _baselines(evaluation, width)]
    return Group(*lines, Text(), scores, *baselines, *calibration)


def _baselines(evaluation: Evaluation, width: int) -> list[str]:
    """Return which class the baseline predicts: one sentence; one for each unit where their largest classes differ."""
    units = [unit for unit in (evaluation, evaluation.beside) if unit is not None and unit.largest_class is not None]
    several = len({unit.largest_class for unit in units}) > 1
    sentences = []
    for unit in units if several else units[:1]:
        before = f"baseline{f' by {unit.by}' if several else ''}: always predicting "
        after = ", the largest class"
        name = unit.classes[unit.largest_class or 0]
        sentences.append(before + _worded(name, width - len(before + after)) + after)
    if evaluation.is_like_guessing:
        sentences.append(
            f"macro recall may be no better than guessing: {counted(evaluation.rows, evaluation.by)} cannot tell it "
            f"from {percent(evaluation.baseline_macro_recall)}"
        )
    return sentences


def _scores(evaluation: Evaluation, width: int) -> Table:
    """Return the figures beside the baseline, with their intervals; by image and by clip where there are both."""
    narrow = width < NARROW
    intervals = evaluation.intervals
    scores = Table.grid(padding=(0, 1 if narrow and intervals else 3))
    headings = ["", "this head", *([percent(intervals.level, 0)] if intervals else []), "baseline"]
    for column in range(len(headings)):
        scores.add_column(justify="right" if column else "left", no_wrap=bool(column))
    scores.columns[1].style = "bold"
    scores.add_row(*headings)
    for unit in (evaluation, evaluation.beside):
        if unit is None:
            continue
        if evaluation.beside is not None:
            scores.add_row(Text(f"{unit.unit}: {counted(unit.rows, unit.by)}"))
        evaluated = f"{unit.classes_evaluated} of {len(unit.classes)}"
        over = f"macro recall, {evaluated}" if narrow and intervals else f"macro recall over {evaluated} classes"
        own = unit.intervals
        for name, value, interval, baseline in (
            ("accuracy", unit.accuracy, own.accuracy if own else None, unit.baseline_accuracy),
            (over, unit.macro_recall, own.macro_recall if own else None, unit.baseline_macro_recall),
        ):
            between = [interval_text(value, interval)] if intervals else []
            scores.add_row(name, percent(value), *between, percent(baseline))
    return scores


def _left_out(evaluation: Evaluation) -> str:
    """Return how many rows are missing, as the end of a sentence; "" where none is."""
    if not evaluation.failed:
        return ""
    verb = "is" if evaluation.failed == 1 else "are"
    return f"; {evaluation.failed:,} more could not be embedded and {verb} left out"


def _classes(evaluation: Evaluation, width: int) -> RenderableType:
    """Return one row a class, lowest recall first, classes without support last."""
    narrow = width < NARROW
    has_intervals = evaluation.intervals is not None
    headings = ("support", "recall", *(["95 %"] if has_intervals else []), "", "prec." if narrow else "precision", "F1")
    columns = zip(evaluation.recall.tolist(), evaluation.recall_intervals, strict=True)
    spans = [interval_text(recall, interval, 0 if narrow else 1, joint="-") for recall, interval in columns]
    absent = f"no {evaluation.by}s"
    cells = max(8 if narrow else 16, len(absent))
    order = np.argsort(evaluation.recall, kind="stable")  # nan sorts last
    rows = [
        (
            f"{evaluation.support[i]:,}",
            percent_number(evaluation.recall[i]),
            *([spans[i]] if has_intervals else []),
            bar(evaluation.recall[i], cells) if evaluation.support[i] else absent,
            percent_number(evaluation.precision[i]),
            percent_number(evaluation.f1[i]),
        )
        for i in order
    ]
    table = name_table("class", [evaluation.classes[i] for i in order], headings, rows, width)
    title = Text("per class, lowest recall first; recall, precision, F1 in %", style="bold")
    parts: list[RenderableType] = [title, table]
    if np.isnan([evaluation.recall, evaluation.precision]).any():
        parts.append(
            Text(f"{UNDEFINED}: undefined: no {evaluation.by} of the class, or none predicted as it", style="dim")
        )
    return Group(*parts)


def _confusions(evaluation: Evaluation, width: int) -> RenderableType:
    """Return the largest confusions, a sentence each; one that is too long is broken before its verb."""
    confusions = evaluation.largest_confusions
    if not confusions:
        return Text("no confusions: every prediction is right")
    lines = [Text("largest confusions", style="bold")]
    for cell in confusions:
        truth, taken = evaluation.classes[cell.truth], evaluation.classes[cell.predicted]
        counts = f"  {cell.count:,} of {evaluation.support[cell.truth]:,} "
        verb = f"{'was' if cell.count == 1 else 'were'} taken for "
        share = f" ({percent(cell.share, 0)})" if cell.share >= 0.01 else f" (under {percent(0.01, 0)})"
        sentence = f"{counts}{_worded(truth)} {verb}{_worded(taken)}{share}"
        if cell_len(sentence) <= width:
            lines.append(Text(sentence))
        else:
            lines.append(Text(counts + _worded(truth, width - len(counts))))
            lines.append(Text(f"    {verb}{_worded(taken, width - 4 - len(verb + share))}{share}"))
    return Group(*lines)


def _matrix(evaluation: Evaluation, width: int, *, written: bool) -> RenderableType:
    """Return counts where they fit, else shares by row, else where to find the matrix."""
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
    """Return the cells as counts."""
    return [[str(count) if count else "·" for count in row] for row in evaluation.confusion.tolist()]


def _shares(evaluation: Evaluation) -> list[list[str]]:
    """Return the cells as shares of their row, in per cent."""
    return [[percent_number(share, 0) if share else "·" for share in row] for row in _by_row(evaluation).tolist()]


def _by_row(evaluation: Evaluation) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the shares of each row of the matrix, (classes, classes); 0 in the rows of classes without support."""
    return evaluation.confusion / np.maximum(evaluation.support, 1)[:, None]


def _grid(evaluation: Evaluation, cells: Sequence[Sequence[str]], width: int, gap: int) -> Text | None:
    """Return the matrix as lines of equal columns, or None where it is wider than `width`.

    Columns are headed by the class names where all are short, else by the numbers that stand before the rows'
    names. The brackets of the diagonal stand in the gaps between the columns, so they cost no width.
    """
    names = [printable(name) for name in evaluation.classes]
    headings = names if max(map(cell_len, names)) <= SHORT else [str(i + 1) for i in range(len(names))]
    rows = (
        names
        if headings is names
        else [f"{number:>{len(headings[-1])}} {name}" for number, name in zip(headings, names, strict=True)]
    )
    column = max(map(cell_len, (*headings, *(cell for row in cells for cell in row))))
    room = width - len(names) * (column + gap) - 1
    longest = max(map(cell_len, rows))
    if room < min(longest, LEAST_LABEL):
        return None
    label = min(longest, room)

    shares = _by_row(evaluation)
    top = "".join(" " * (gap + column - cell_len(heading)) + heading for heading in headings)
    lines = [Text(" " * label + top, style="dim")]
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
    """Return a background that deepens with the share, blue for right predictions and orange for mistakes."""
    low, high = BLUES if right else ORANGES
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(low, high, strict=True))
    return Style(color=legible_ink(red / 255, green / 255, blue / 255), bgcolor=f"rgb({red},{green},{blue})")


def _worded(name: str, width: int = 10_000) -> str:
    """Return a class name for a sentence, in at most `width` cells (but 8): quoted unless it reads as a word."""
    shown = printable(name)
    return shorten(shown if shown[:1].isalpha() else f"“{shown}”", max(8, width))
