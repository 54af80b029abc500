"""Predictions as pictures: a contact sheet of images, and the labels of a video over time."""

import io
import math
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.files import read_file
from featcache.media import BadImageError, decode_preview
from featcache.prediction import Predictions, Timeline
from featcache.report.figure import BLUE, DPI, GREY, LONGEST, PALE, RUST, legible_names, style_of_pictures, widest
from featcache.report.predictions import clock
from featcache.report.tables import check_destination, save_bytes
from featcache.report.text import shorten

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


def save_sheet(found: Predictions, path: Path) -> int:
    """Draw the first `MOST` images, each with its most probable labels; how many were drawn.

    An image that gave no answer stands there with its reason, one that can no longer be read as an empty frame.

    Raises:
        UsageError: the path does not end in .png, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".png")
    with style_of_pictures():
        save_bytes(path, _png(_sheet(found)))
    return min(MOST, len(found.paths))


def save_strip(found: Timeline, path: Path) -> None:
    """Draw a lane for each label that occurs, over time; below them how sure the head was.

    Raises:
        UsageError, MachineError: as `save_sheet`.
    """
    check_destination(path, ".png")
    with style_of_pictures():
        save_bytes(path, _png(_strip(found)))


def _png(figure: "Figure") -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


def _figure() -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    return figure


def _sheet(found: Predictions) -> "Figure":
    """Cells of one size in rows: the image, its name, then a line a label with its probability as a bar.

    Names are not cut to fit: the longest one makes the cells wide, and many wide cells make the sheet wide.
    """
    figure, legible = _figure(), legible_names()
    rows = range(min(MOST, len(found.paths)))
    pictures = [_picture(path) for path in found.paths[: len(rows)]]
    tops = [[(shorten(legible(name), LONGEST), share) for name, share in found.top(row, SHOWN)] for row in rows]
    names = [shorten(legible(os.path.basename(found.paths[row])), LONGEST) for row in rows]
    percent = widest(figure, ["100.0 %"], POINTS) + 0.1
    labels = [name for top in tops for name, _ in top]
    cell = max(2.0, widest(figure, names, POINTS), widest(figure, labels, POINTS) * 1.15 + percent)  # bold is wider
    lines = max(min(SHOWN, len(found.classes)) + 1, 4 * any(found.failed))  # a reason is longer than a label
    shapes = [min(1.0, picture.shape[0] / picture.shape[1]) for picture in pictures if picture is not None]
    high_image = cell * max(shapes, default=0.75)  # no more room than the pictures take
    tall = high_image + lines * LINE + GAP
    slide = math.ceil(math.sqrt(SLIDE * len(rows) * tall / (cell + GAP)))
    columns = max(1, min(len(rows), max(slide, int((WIDE + GAP) / (cell + GAP)))))
    deep = math.ceil(len(rows) / columns)
    left_out = len(found.paths) - len(rows)
    title = f"{shorten(legible(found.head), LONGEST)} · {found.trunk}"
    below = [*found.notes, *([f"{left_out:,} more images are not shown"] if left_out else [])]
    wide = max(columns * (cell + GAP) + GAP, *(widest(figure, [text], 10) * 1.15 + 2 * GAP for text in (title, *below)))
    top = 0.45 + 0.2 * len(below)
    high = top + deep * tall + GAP / 2
    figure.set_size_inches(wide, high)
    figure.text(GAP / wide, 1 - 0.25 / high, title, fontsize=10, fontweight="bold", va="center")
    for number, text in enumerate(below):
        figure.text(GAP / wide, 1 - (0.47 + 0.2 * number) / high, text, fontsize=9, color=RUST, va="center")
    for row in rows:
        x, y = GAP + row % columns * (cell + GAP), top + row // columns * tall  # inches from the left and the top
        place = figure.add_axes((x / wide, 1 - (y + high_image) / high, cell / wide, high_image / high))
        place.set_axis_off()
        picture = pictures[row]
        if picture is None:
            place.imshow(np.full((1, 1, 3), 0.92), aspect="auto")
        else:
            place.imshow(picture, aspect="equal", interpolation="bilinear")

        def write(line: int, at: float, text: str, x: float = x, y: float = y, **style: Any) -> None:
            figure.text((x + at) / wide, 1 - (y + high_image + (line + 0.6) * LINE) / high, text, va="center",
                        fontsize=POINTS, **style)  # fmt: skip

        write(0, 0, names[row], color=GREY)
        if found.failed[row]:
            reason = textwrap.wrap(f"no answer: {legible(found.failed[row])}", _fitting(figure, cell))
            for line, text in enumerate(reason[:lines], start=1):
                write(line, 0, text, color=RUST)
        for line, (name, share) in enumerate(tops[row], start=1):
            at = y + high_image + (line + 0.98) * LINE
            for length, colour in ((cell, PALE), (cell * (0.0 if math.isnan(share) else share), BLUE)):
                figure.add_artist(_line(x / wide, (x + length) / wide, 1 - at / high, colour))
            write(line, 0, name, fontweight="bold" if line == 1 else "normal")
            write(line, cell, f"{100 * share:.1f} %", ha="right", color=GREY)
    return figure


def _fitting(figure: "Figure", inches: float) -> int:
    """How many letters of a sentence fit."""
    return int(inches / widest(figure, ["no answer: damaged or cut off"], POINTS) * 29)


def _line(start: float, end: float, y: float, colour: str) -> "Line2D":
    from matplotlib.lines import Line2D

    return Line2D([start, end], [y, y], color=colour, linewidth=1.2, solid_capstyle="butt")


def _picture(path: str) -> "np.ndarray | None":
    try:
        return decode_preview(read_file(path, LARGEST, follow_links=True), EDGE)
    except (OSError, BadImageError):
        return None


def _strip(found: Timeline) -> "Figure":
    figure, legible = _figure(), legible_names()
    segments = found.segments()
    seen: list[str] = list(dict.fromkeys(one.label for one in segments))  # in the order in which they first occur
    names = [shorten(legible(name), LONGEST) for name in seen]
    left = widest(figure, names, 9) + 0.5
    long, lanes, sure = 9.0, LANE * len(seen), 0.9
    notes = [*found.notes, *([f"not read to its end: {found.failed}"] if found.failed else [])]
    title = f"{shorten(legible(os.path.basename(found.path)), TITLE)} · {shorten(legible(found.head), TITLE)}"
    top = 0.6 + 0.2 * len(notes)
    wide = max(left + long + 0.4, *(widest(figure, [text], 10) * 1.15 + 0.6 for text in (title, *notes)))
    high = top + lanes + 0.25 + sure + 0.6
    figure.set_size_inches(wide, high)
    figure.text(0.3 / wide, 1 - 0.3 / high, title, fontsize=10, fontweight="bold", va="center")
    for number, text in enumerate(notes):
        figure.text(0.3 / wide, 1 - (0.52 + 0.2 * number) / high, legible(text), fontsize=9, color=RUST, va="center")
    above = figure.add_axes((left / wide, 1 - (top + lanes) / high, long / wide, lanes / high))
    below = figure.add_axes((left / wide, 0.6 / high, long / wide, sure / high))
    step = float(np.diff(found.at).min()) if len(found.at) > 1 else 1.0
    for one in segments:
        end = one.end if one.end > one.start else one.start + step  # the last frame of all is seen as well
        above.barh(seen.index(one.label), end - one.start, left=one.start, height=0.72, color=BLUE)
    above.set_yticks(range(len(names)), names, fontsize=9)
    above.set_ylim(len(names) - 0.5, -0.5)
    last = float(found.at[-1]) + step
    sure_of = found.probabilities.max(axis=1)
    below.plot([*found.at, last], [*sure_of, sure_of[-1]], color=BLUE, linewidth=1, drawstyle="steps-post")
    below.set_ylim(0, 1.02)
    below.set_yticks([0, 0.5, 1], ["0", "50", "100 %"], fontsize=9, color=GREY)
    below.set_ylabel("how sure", fontsize=9, color=GREY)
    ticks, labels = _ticks(float(found.at[0]), last)
    above.set_xticks(ticks, [""] * len(ticks))
    below.set_xticks(ticks, labels, fontsize=9)
    for axes in (above, below):
        axes.set_xlim(float(found.at[0]), last)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=2)
        axes.set_axisbelow(True)
        axes.grid(color=PALE, linewidth=0.6)  # from a label to its far lanes
    return figure


def _ticks(first: float, last: float) -> tuple[list[float], list[str]]:
    """Round seconds from `first` to `last`, as minutes and seconds; tenths only where they differ by less than one."""
    step = next(
        (step for step in STEPS if (last - first) / step < TICKS), STEPS[-1] * math.ceil((last - first) / 30_000)
    )
    ticks = [step * number for number in range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)]
    return ticks, [clock(tick) if step < 1 else clock(tick).removesuffix(".0") for tick in ticks]
