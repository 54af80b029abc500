"""Predictions as a picture: a contact sheet of images."""

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.containers import find_member, read_member
from featcache.files import read_file
from featcache.files.objects import is_remote, read_remote
from featcache.media import BadImageError, decode_preview
from featcache.prediction import Predictions
from featcache.report.pictures.style import (
    BLUE,
    GREY,
    LONGEST,
    PALE,
    RUST,
    blank_figure,
    draw_heading,
    make_legible,
    save_png,
    widest,
)
from featcache.text import percent, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MOST = 60  # images on a sheet
WIDE = 14.0  # inches; as many columns as fit, and more where the sheet would be higher than a slide
SLIDE = 4 / 3  # width by height
LARGEST = 2**28  # bytes of an image file that is read for it
EDGE = 300  # pixels of an image's longer edge
SHOWN = 3  # labels below an image
LINE = 0.17  # inches from line to line
GAP = 0.3  # inches between cells
POINTS = 8.0


def save_sheet(predictions: Predictions, path: Path) -> int:
    """Draw the first `MOST` images, each with its most probable labels.

    An image that gave no prediction stands there with its reason, one that can no longer be read as an empty frame.

    Args:
        predictions: what is drawn.
        path: the file; an existing one is replaced.

    Returns:
        How many images were drawn.

    Raises:
        UsageError: the path does not end in .png, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    save_png(lambda: _draw_sheet(predictions), path)
    return min(MOST, len(predictions.paths))


@dataclass(frozen=True, slots=True)
class _Layout:
    """The sizes of a sheet in inches; every cell has the same."""

    cell: float  # the width of a cell
    image: float  # the height of its image
    lines: int  # of text below an image
    columns: int
    top: float  # the height of the title and the notes
    wide: float  # the sheet
    high: float

    def corner(self, row: int) -> tuple[float, float]:
        """Return where the cell of a row begins, from the left and from the top."""
        return (
            GAP + row % self.columns * (self.cell + GAP),
            self.top + row // self.columns * (self.image + self.lines * LINE + GAP),
        )


def _draw_sheet(predictions: Predictions) -> "Figure":
    """Draw cells of one size in rows: the image, its name, then a line a label with its probability as a bar.

    Names are not cut to fit: the longest one makes the cells wide, and many wide cells make the sheet wide.
    """
    figure, legible = blank_figure(), make_legible()
    rows = range(min(MOST, len(predictions.paths)))
    pictures = [_picture(path) for path in predictions.paths[: len(rows)]]
    tops = [[(shorten(legible(name), LONGEST), share) for name, share in predictions.top(row, SHOWN)] for row in rows]
    names = [shorten(legible(os.path.basename(predictions.paths[row])), LONGEST) for row in rows]
    left_out = len(predictions.paths) - len(rows)
    title = f"{shorten(legible(predictions.handle or predictions.head), LONGEST)} · {predictions.trunk}"
    notes = [*predictions.notes, *([f"{left_out:,} more images are not shown"] if left_out else [])]
    labels = [name for top in tops for name, _ in top]
    reason_lines = 4 * any(predictions.failed)  # longer than a label
    lines = max(min(SHOWN, len(predictions.classes)) + 1, reason_lines)
    layout = _lay_out(figure, pictures, names, labels, [title, *notes], lines)
    figure.set_size_inches(layout.wide, layout.high)
    draw_heading(figure, title, notes, left=GAP, top=0.25)
    for row in rows:
        _draw_image(figure, layout, row, pictures[row])
        failed = f"no prediction: {legible(predictions.failed[row])}" if predictions.failed[row] else ""
        _draw_labels(figure, layout, row, names[row], tops[row], failed)
    return figure


def _lay_out(
    figure: "Figure", pictures: Sequence["np.ndarray | None"], names: Sequence[str], labels: Sequence[str],
    heading: Sequence[str], lines: int,
) -> _Layout:  # fmt: skip
    """Return the sizes: cells as wide as the longest name, a sheet about as wide as a slide.

    Args:
        figure: which measures texts.
        pictures: one for each cell.
        names: of the images.
        labels: of all cells.
        heading: the title, then the notes.
        lines: of text below an image.
    """
    percent_width = widest(figure, [percent(1)], POINTS) + 0.1
    label_width = widest(figure, labels, POINTS) * 1.15  # bold is wider
    cell = max(2.0, widest(figure, names, POINTS), label_width + percent_width)
    shapes = [min(1.0, picture.shape[0] / picture.shape[1]) for picture in pictures if picture is not None]
    image = cell * max(shapes, default=0.75)  # no more room than the pictures take
    tall = image + lines * LINE + GAP
    as_a_slide = math.ceil(math.sqrt(SLIDE * len(pictures) * tall / (cell + GAP)))
    columns = max(1, min(len(pictures), max(as_a_slide, int((WIDE + GAP) / (cell + GAP)))))
    deep = math.ceil(len(pictures) / columns)
    wide = max(columns * (cell + GAP) + GAP, *(widest(figure, [text], 10) * 1.15 + 2 * GAP for text in heading))
    top = 0.45 + 0.2 * (len(heading) - 1)
    return _Layout(cell, image, lines, columns, top, wide, top + deep * tall + GAP / 2)


def _draw_image(figure: "Figure", layout: _Layout, row: int, picture: "np.ndarray | None") -> None:
    """Draw the image of a row; a grey frame where it can no longer be read."""
    x, y = layout.corner(row)
    wide, high = layout.wide, layout.high
    axes = figure.add_axes((x / wide, 1 - (y + layout.image) / high, layout.cell / wide, layout.image / high))
    axes.set_axis_off()
    if picture is None:
        axes.imshow(np.full((1, 1, 3), 0.92), aspect="auto")
    else:
        axes.imshow(picture, aspect="equal", interpolation="bilinear")


def _draw_labels(
    figure: "Figure", layout: _Layout, row: int, name: str, top: Sequence[tuple[str, float]], failed: str
) -> None:
    """Write below the image of a row its name, then its labels with their probabilities, or why there is none."""
    x, y = layout.corner(row)
    wide, high = layout.wide, layout.high

    def write(line: int, left: float, text: str, **style: Any) -> None:
        height = 1 - (y + layout.image + (line + 0.6) * LINE) / high
        figure.text((x + left) / wide, height, text, va="center", fontsize=POINTS, **style)

    write(0, 0, name, color=GREY)
    reason = textwrap.wrap(failed, _fitting(figure, layout.cell)) if failed else []
    for line, text in enumerate(reason[: layout.lines], start=1):
        write(line, 0, text, color=RUST)
    for line, (label, share) in enumerate(top, start=1):
        bar_y = y + layout.image + (line + 0.98) * LINE
        filled = layout.cell * (0.0 if math.isnan(share) else share)
        for length, colour in ((layout.cell, PALE), (filled, BLUE)):
            figure.add_artist(_line(x / wide, (x + length) / wide, 1 - bar_y / high, colour))
        write(line, 0, label, fontweight="bold" if line == 1 else "normal")
        write(line, layout.cell, percent(share), ha="right", color=GREY)


def _fitting(figure: "Figure", inches: float) -> int:
    """Return how many letters of a sentence fit."""
    return int(inches / widest(figure, ["no prediction: damaged or cut off"], POINTS) * 29)


def _line(start: float, end: float, y: float, colour: str) -> "Line2D":
    from matplotlib.lines import Line2D

    return Line2D([start, end], [y, y], color=colour, linewidth=1.2, solid_capstyle="butt")


def _picture(path: str) -> "np.ndarray | None":
    """Return the pixels of an image, small; None where it can no longer be read."""
    try:
        member = find_member(path)
        if member is None and is_remote(path):
            return decode_preview(read_remote(path, LARGEST)[0], EDGE)
        data = read_file(path, LARGEST, follow_links=True) if member is None else read_member(member, LARGEST)
        return decode_preview(data, EDGE)
    except (OSError, BadImageError):
        return None
