"""Predictions as pictures: a contact sheet of images, and the labels of a video over time."""

import math
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.files import read_file
from featcache.media import BadImageError, decode_preview
from featcache.prediction import Predictions, Timeline
from featcache.report import check_destination, clock, percent, save_bytes, shorten
from featcache.report.pictures.style import (
    BLUE,
    GREY,
    LONGEST,
    PALE,
    RUST,
    blank_figure,
    encode_png,
    make_legible,
    picture_style,
    widest,
)

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
LANE = 0.24  # inches; of one label in a timeline
TITLE = 80  # letters of a video's or a head's name
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds from tick to tick
TICKS = 9  # at most


def save_sheet(predictions: Predictions, path: Path) -> int:
    """Draw the first `MOST` images, each with its most probable labels.

    An image that gave no answer stands there with its reason, one that can no longer be read as an empty frame.

    Args:
        predictions: what is drawn.
        path: the file; an existing one is replaced.

    Returns:
        How many images were drawn.

    Raises:
        UsageError: the path does not end in .png, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".png")
    with picture_style():
        save_bytes(path, encode_png(_draw_sheet(predictions)))
    return min(MOST, len(predictions.paths))


def save_strip(timeline: Timeline, path: Path) -> None:
    """Draw a lane for each label that occurs, over time; below them its confidence.

    Args:
        timeline: what is drawn.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: as of `save_sheet`.
        MachineError: as of `save_sheet`.
    """
    check_destination(path, ".png")
    with picture_style():
        save_bytes(path, encode_png(_draw_strip(timeline)))


def _draw_sheet(predictions: Predictions) -> "Figure":
    """Draw cells of one size in rows: the image, its name, then a line a label with its probability as a bar.

    Names are not cut to fit: the longest one makes the cells wide, and many wide cells make the sheet wide.
    """
    figure, legible = blank_figure(), make_legible()
    rows = range(min(MOST, len(predictions.paths)))
    pictures = [_picture(path) for path in predictions.paths[: len(rows)]]
    tops = [[(shorten(legible(name), LONGEST), share) for name, share in predictions.top(row, SHOWN)] for row in rows]
    names = [shorten(legible(os.path.basename(predictions.paths[row])), LONGEST) for row in rows]
    percent_width = widest(figure, ["100.0 %"], POINTS) + 0.1
    labels = [name for top in tops for name, _ in top]
    label_width = widest(figure, labels, POINTS) * 1.15  # bold is wider
    cell = max(2.0, widest(figure, names, POINTS), label_width + percent_width)
    reason_lines = 4 * any(predictions.failed)  # longer than a label
    lines = max(min(SHOWN, len(predictions.classes)) + 1, reason_lines)
    shapes = [min(1.0, picture.shape[0] / picture.shape[1]) for picture in pictures if picture is not None]
    high_image = cell * max(shapes, default=0.75)  # no more room than the pictures take
    tall = high_image + lines * LINE + GAP
    slide = math.ceil(math.sqrt(SLIDE * len(rows) * tall / (cell + GAP)))
    columns = max(1, min(len(rows), max(slide, int((WIDE + GAP) / (cell + GAP)))))
    deep = math.ceil(len(rows) / columns)
    left_out = len(predictions.paths) - len(rows)
    title = f"{shorten(legible(predictions.head), LONGEST)} · {predictions.trunk}"
    below = [*predictions.notes, *([f"{left_out:,} more images are not shown"] if left_out else [])]
    wide = max(columns * (cell + GAP) + GAP, *(widest(figure, [text], 10) * 1.15 + 2 * GAP for text in (title, *below)))
    top = 0.45 + 0.2 * len(below)
    high = top + deep * tall + GAP / 2
    figure.set_size_inches(wide, high)
    figure.text(GAP / wide, 1 - 0.25 / high, title, fontsize=10, fontweight="bold", va="center")
    for number, text in enumerate(below):
        figure.text(GAP / wide, 1 - (0.47 + 0.2 * number) / high, text, fontsize=9, color=RUST, va="center")
    for row in rows:
        x, y = GAP + row % columns * (cell + GAP), top + row // columns * tall  # inches from the left and the top
        axes = figure.add_axes((x / wide, 1 - (y + high_image) / high, cell / wide, high_image / high))
        axes.set_axis_off()
        picture = pictures[row]
        if picture is None:
            axes.imshow(np.full((1, 1, 3), 0.92), aspect="auto")
        else:
            axes.imshow(picture, aspect="equal", interpolation="bilinear")

        def write(line: int, left: float, text: str, x: float = x, y: float = y, **style: Any) -> None:
            figure.text((x + left) / wide, 1 - (y + high_image + (line + 0.6) * LINE) / high, text, va="center",
                        fontsize=POINTS, **style)  # fmt: skip

        write(0, 0, names[row], color=GREY)
        if predictions.failed[row]:
            reason = textwrap.wrap(f"no answer: {legible(predictions.failed[row])}", _fitting(figure, cell))
            for line, text in enumerate(reason[:lines], start=1):
                write(line, 0, text, color=RUST)
        for line, (name, share) in enumerate(tops[row], start=1):
            bar_y = y + high_image + (line + 0.98) * LINE
            for length, colour in ((cell, PALE), (cell * (0.0 if math.isnan(share) else share), BLUE)):
                figure.add_artist(_line(x / wide, (x + length) / wide, 1 - bar_y / high, colour))
            write(line, 0, name, fontweight="bold" if line == 1 else "normal")
            write(line, cell, percent(share), ha="right", color=GREY)
    return figure


def _fitting(figure: "Figure", inches: float) -> int:
    """Return how many letters of a sentence fit."""
    return int(inches / widest(figure, ["no answer: damaged or cut off"], POINTS) * 29)


def _line(start: float, end: float, y: float, colour: str) -> "Line2D":
    from matplotlib.lines import Line2D

    return Line2D([start, end], [y, y], color=colour, linewidth=1.2, solid_capstyle="butt")


def _picture(path: str) -> "np.ndarray | None":
    """Return the pixels of an image, small; None where it can no longer be read."""
    try:
        return decode_preview(read_file(path, LARGEST, follow_links=True), EDGE)
    except (OSError, BadImageError):
        return None


def _draw_strip(timeline: Timeline) -> "Figure":
    """Draw the labels in lanes over time, and the head's confidence below them."""
    figure, legible = blank_figure(), make_legible()
    segments = timeline.segments()
    labels: list[str] = list(
        dict.fromkeys(segment.label for segment in segments)
    )  # in the order in which they first occur
    names = [shorten(legible(name), LONGEST) for name in labels]
    left = widest(figure, names, 9) + 0.5
    long, lanes, confidence_height = 9.0, LANE * len(labels), 0.9
    notes = [*timeline.notes, *([f"not read to its end: {timeline.failed}"] if timeline.failed else [])]
    title = f"{shorten(legible(os.path.basename(timeline.path)), TITLE)} · {shorten(legible(timeline.head), TITLE)}"
    top = 0.6 + 0.2 * len(notes)
    wide = max(left + long + 0.4, *(widest(figure, [text], 10) * 1.15 + 0.6 for text in (title, *notes)))
    high = top + lanes + 0.25 + confidence_height + 0.6
    figure.set_size_inches(wide, high)
    figure.text(0.3 / wide, 1 - 0.3 / high, title, fontsize=10, fontweight="bold", va="center")
    for number, text in enumerate(notes):
        figure.text(0.3 / wide, 1 - (0.52 + 0.2 * number) / high, legible(text), fontsize=9, color=RUST, va="center")
    above = figure.add_axes((left / wide, 1 - (top + lanes) / high, long / wide, lanes / high))
    below = figure.add_axes((left / wide, 0.6 / high, long / wide, confidence_height / high))
    step = float(np.diff(timeline.at).min()) if len(timeline.at) > 1 else 1.0
    for segment in segments:
        end = (
            segment.end if segment.end > segment.start else segment.start + step
        )  # the last frame of all is seen as well
        above.barh(labels.index(segment.label), end - segment.start, left=segment.start, height=0.72, color=BLUE)
    above.set_yticks(range(len(names)), names, fontsize=9)
    above.set_ylim(len(names) - 0.5, -0.5)
    last = float(timeline.at[-1]) + step
    confidence = timeline.probabilities.max(axis=1)
    below.plot([*timeline.at, last], [*confidence, confidence[-1]], color=BLUE, linewidth=1, drawstyle="steps-post")
    below.set_ylim(0, 1.02)
    below.set_yticks([0, 0.5, 1], ["0", "50", "100 %"], fontsize=9, color=GREY)
    below.set_ylabel("confidence", fontsize=9, color=GREY)
    ticks, labels = _ticks(float(timeline.at[0]), last)
    above.set_xticks(ticks, [""] * len(ticks))
    below.set_xticks(ticks, labels, fontsize=9)
    for axes in (above, below):
        axes.set_xlim(float(timeline.at[0]), last)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=2)
        axes.set_axisbelow(True)
        axes.grid(color=PALE, linewidth=0.6)  # from a label to its far lanes
    return figure


def _ticks(first: float, last: float) -> tuple[list[float], list[str]]:
    """Return round seconds from `first` to `last`, and how they are written: with tenths where they differ by less."""
    step = next(
        (step for step in STEPS if (last - first) / step < TICKS), STEPS[-1] * math.ceil((last - first) / 30_000)
    )
    ticks = [step * number for number in range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)]
    return ticks, [clock(tick) if step < 1 else clock(tick).removesuffix(".0") for tick in ticks]
