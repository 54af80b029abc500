"""An Evaluation as a picture: the confusion matrix, and beside each of its rows the recall of that class."""

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.evaluation import Evaluation
from featcache.report import legible_ink
from featcache.report.pictures.style import (
    BLUE,
    GREY,
    LONGEST,
    PALE,
    RUST,
    blank_figure,
    make_legible,
    save_png,
    widest,
)
from featcache.text import counted, percent, percent_number, shorten

if TYPE_CHECKING:  # importing matplotlib takes half a second, which only a picture should pay
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST = 4.5  # points; smaller text is left out
BOLDER = 1.15  # bold text is at most that much wider than plain
TINY = 0.15  # inches; a smaller cell has colour alone, which a frame or a count would hide
BARS = 2.2  # inches that a recall of 1 is long
FIGURES = (0.8, 0.8)  # inches; the columns of recall and support right of the bars


def save_evaluation_png(evaluation: Evaluation, path: Path) -> None:
    """Draw the confusion matrix (colour: share of the row; text: count) and recall per class, as a PNG file.

    Classes stand in their own order, so that the pictures of two heads can be laid side by side. The size
    follows from the number of classes and the length of their names. A class without support is hatched, not
    0. Characters that no font here has stand as their escapes.

    Args:
        evaluation: what is drawn.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .png, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    save_png(lambda: _draw(evaluation), path)


def _draw(evaluation: Evaluation) -> "Figure":
    """Lay the picture out in inches: title; then names, matrix, bars, figures side by side; names below."""
    figure, legible = blank_figure(), make_legible()
    size = len(evaluation.classes)
    side = float(np.clip(6, 0.34 * size, 0.9 * size)) if size <= 100 else 34.0  # of the matrix
    cell = side / size
    letters = 72 * cell * 0.6  # points that a row has room for
    font = float(np.clip(letters, SMALLEST, 10))
    named = slice(0, size, math.ceil(SMALLEST / letters))  # from 300 classes or so on not every one
    names = [shorten(legible(name), LONGEST) for name in evaluation.classes]
    scale = float(np.clip(side / 6, 1, 1.5))  # of the title, which would look lost above a large matrix
    title = [(text, points * scale, colour) for text, points, colour in _title(evaluation, legible)]

    label = widest(figure, names, font)
    upright = label < 0.9 * cell  # the columns' names then need not be turned
    left = max(label, 0.5) + 0.4
    bottom = (0.2 if upright else label) + 0.55
    top = 0.25 * scale * len(title) + 0.65
    right = BARS + sum(FIGURES) + 0.45
    longest = max(widest(figure, [text], points) for text, points, _ in title)
    width = max(left + side + right, longest * BOLDER + 0.5)
    height = top + side + bottom
    figure.set_size_inches(width, height)

    def place(x: float, inches: float) -> "Axes":
        return figure.add_axes((x / width, bottom / height, inches / width, side / height))

    for i, (text, points, colour) in enumerate(title):
        weight = "normal" if i else "bold"
        y = 1 - (0.3 + 0.25 * scale * i) / height
        figure.text(0.25 / width, y, text, fontsize=points, color=colour, fontweight=weight, va="center")
    matrix = place(left, side)
    _draw_matrix(evaluation, matrix, cell, font)
    _draw_names(matrix, names, font, named, upright=upright)
    _draw_bars(evaluation, place(left + side + 0.2, BARS), font, named)
    return figure


def _title(evaluation: Evaluation, legible: Callable[[str], str]) -> list[tuple[str, float, str]]:
    """Return the lines above the picture: text, size in points, colour."""
    names = (evaluation.data_set, evaluation.split, evaluation.handle or evaluation.head)
    over = f"{evaluation.classes_evaluated} of {len(evaluation.classes)} classes"
    lines = [
        f"{counted(evaluation.rows, evaluation.by)}: accuracy "
        f"{percent(evaluation.accuracy)}, macro recall {percent(evaluation.macro_recall)} over {over}"
    ]
    if evaluation.largest_class is not None:
        largest = shorten(legible(evaluation.classes[evaluation.largest_class]), LONGEST)
        lines.append(
            f"always predicting {largest}: accuracy {percent(evaluation.baseline_accuracy)}, "
            f"macro recall {percent(evaluation.baseline_macro_recall)}"
        )
    lines.append("cells: counts, coloured by their share of the row")
    notes = [line for note in evaluation.notes for line in textwrap.wrap(f"note: {legible(note)}", 90)]
    return [
        (" · ".join(shorten(legible(name), LONGEST) for name in names), 13.0, "black"),
        *((line, 10.0, GREY) for line in lines),
        *((line, 10.0, RUST) for line in notes),
    ]


def _draw_matrix(evaluation: Evaluation, axes: "Axes", cell: float, font: float) -> None:
    """Draw the matrix: colours are shares of the row, texts are counts; rows without support are hatched."""
    import matplotlib as mpl
    from matplotlib.patches import Rectangle

    counts, support = evaluation.confusion, evaluation.support
    shares = counts / np.maximum(support, 1)[:, None]
    colours = mpl.colormaps["Blues"]  # one hue that darkens evenly: legible to every eye, and in grey
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    empty: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": "#b8b8b8", "hatch": "////", "linewidth": 0}
    for i in np.flatnonzero(support == 0):
        axes.add_patch(Rectangle((-0.5, i - 0.5), len(counts), 1, **empty))
    if cell < TINY:
        return
    for i in np.flatnonzero(support):
        axes.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=GREY, linewidth=0.6))
    for i, j in np.argwhere(counts):
        text = f"{counts[i, j]}"
        fits = 72 * cell * 0.86 / (0.64 * len(text))  # points; a digit of DejaVu Sans is 0.64 of them wide
        if fits >= SMALLEST:
            colour = legible_ink(*colours(float(shares[i, j]))[:3])
            axes.text(j, i, text, ha="center", va="center_baseline", color=colour, fontsize=min(font, fits))


def _draw_names(axes: "Axes", names: list[str], font: float, named: slice, *, upright: bool) -> None:
    """Write the classes' names beside the rows and below the columns."""
    ticks, shown = range(len(names))[named], names[named]
    axes.set_xticks(ticks, shown, fontsize=font, rotation=0 if upright else 90)
    axes.set_yticks(ticks, shown, fontsize=font)
    axes.tick_params(length=0, pad=4)
    axes.set_xlabel("prediction", fontsize=9, color=GREY)
    _heading(axes, "truth", 0, -4)


def _draw_bars(evaluation: Evaluation, axes: "Axes", font: float, named: slice) -> None:
    """Draw recall as bars on the rows of the matrix, intervals as lines, and the figures to their right."""
    recall, support = evaluation.recall, evaluation.support
    rows = np.arange(len(recall))
    axes.barh(rows, support > 0, color=PALE, height=0.72)
    axes.barh(rows, np.nan_to_num(recall), color=BLUE, height=0.72)
    for i, interval in enumerate(evaluation.recall_intervals):
        if interval is not None:
            axes.plot([interval.low, interval.high], [i, i], color="black", linewidth=1.2, solid_capstyle="butt")
    if evaluation.rows:
        axes.axvline(evaluation.macro_recall, color="black", linewidth=1, linestyle=(0, (3, 2)))
    # The right edges of the two columns of figures, in the unit of the axes, which are BARS inches wide.
    first, second = 1 + FIGURES[0] / BARS, 1 + sum(FIGURES) / BARS
    style: dict[str, Any] = {"va": "center_baseline", "fontsize": font}
    for i in rows[named]:
        if support[i]:
            axes.text(first, i, percent_number(recall[i]), ha="right", **style)
        else:
            axes.text(first, i, f"no {evaluation.by}s", ha="right", color=GREY, **style)
        axes.text(second, i, f"{support[i]:,}", ha="right", **style)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(recall) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1], ["0", "50", "100"], fontsize=9, color=GREY)
    axes.tick_params(length=2, color=GREY)
    key = "\nlines: 95 % intervals; none: too few" if evaluation.intervals else ""
    axes.set_xlabel(f"recall, % (dashed: macro recall){key}", fontsize=9, color=GREY)
    _heading(axes, "recall, %", first)
    _heading(axes, "support", second)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _heading(axes: "Axes", text: str, right: float, points: float = 0) -> None:
    """Write a word above the axes; `right` is where it ends, in shares of their width, moved by `points`."""
    axes.annotate(
        text, (right, 1), (points, 6), xycoords="axes fraction", textcoords="offset points",
        ha="right", va="bottom", fontsize=9, color=GREY,
    )  # fmt: skip
