"""The labels of a video over time, as a picture."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featcache.prediction import Segment, Timeline
from featcache.report.pictures.style import (
    BLUE,
    GREY,
    LONGEST,
    PALE,
    blank_figure,
    draw_heading,
    make_legible,
    save_png,
    widest,
)
from featcache.text import clock, percent, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG = 9.0  # inches of time
LANE = 0.24  # inches; of one label
CONFIDENCE = 0.9  # inches; of the curve of confidence
TITLE = 80  # letters of a video's or a head's name
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds from tick to tick
TICKS = 9  # at most


def save_strip(timeline: Timeline, path: Path) -> None:
    """Draw a lane for each label that occurs, over time; below them its confidence.

    Args:
        timeline: what is drawn.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .png, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    save_png(lambda: _draw_strip(timeline), path)


def _draw_strip(timeline: Timeline) -> "Figure":
    """Draw the labels in lanes over time, and the head's confidence below them."""
    figure, legible = blank_figure(), make_legible()
    segments = timeline.segments()
    labels = list(dict.fromkeys(segment.label for segment in segments))  # in the order in which they first occur
    names = [shorten(legible(name), LONGEST) for name in labels]
    left, lanes = widest(figure, names, 9) + 0.5, LANE * len(labels)
    notes = [*timeline.notes, *([f"not read to its end: {timeline.failed}"] if timeline.failed else [])]
    named = (os.path.basename(timeline.path), timeline.handle or timeline.head)
    title = " · ".join(shorten(legible(name), TITLE) for name in named)
    top = 0.6 + 0.2 * len(notes)
    wide = max(left + LONG + 0.4, *(widest(figure, [text], 10) * 1.15 + 0.6 for text in (title, *notes)))
    high = top + lanes + 0.25 + CONFIDENCE + 0.6
    figure.set_size_inches(wide, high)
    draw_heading(figure, title, [legible(note) for note in notes], left=0.3, top=0.3)
    above = figure.add_axes((left / wide, 1 - (top + lanes) / high, LONG / wide, lanes / high))
    below = figure.add_axes((left / wide, 0.6 / high, LONG / wide, CONFIDENCE / high))
    step = float(np.diff(timeline.at).min()) if len(timeline.at) > 1 else 1.0
    last = float(timeline.at[-1]) + step
    _draw_lanes(above, segments, labels, names, step)
    _draw_confidence(below, timeline, last)
    _draw_time(above, below, float(timeline.at[0]), last)
    return figure


def _draw_lanes(
    axes: "Axes", segments: Sequence[Segment], labels: Sequence[str], names: Sequence[str], step: float
) -> None:  # fmt: skip
    """Draw each segment as a bar in its label's lane; `step` is the seconds from frame to frame."""
    for segment in segments:
        is_one_frame = segment.end <= segment.start  # the last of all, which is seen as well
        end = segment.start + step if is_one_frame else segment.end
        axes.barh(labels.index(segment.label), end - segment.start, left=segment.start, height=0.72, color=BLUE)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _draw_confidence(axes: "Axes", timeline: Timeline, last: float) -> None:
    """Draw the probability of the label of each frame, to the second `last`."""
    confidence = timeline.probabilities.max(axis=1)
    axes.plot([*timeline.at, last], [*confidence, confidence[-1]], color=BLUE, linewidth=1, drawstyle="steps-post")
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1], ["0", "50", percent(1, 0)], fontsize=9, color=GREY)
    axes.set_ylabel("confidence", fontsize=9, color=GREY)


def _draw_time(above: "Axes", below: "Axes", first: float, last: float) -> None:
    """Give both axes the same seconds, and a grid; the times are written below."""
    ticks, times = _ticks(first, last)
    above.set_xticks(ticks, [""] * len(ticks))
    below.set_xticks(ticks, times, fontsize=9)
    for axes in (above, below):
        axes.set_xlim(first, last)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=2)
        axes.set_axisbelow(True)
        axes.grid(color=PALE, linewidth=0.6)  # from a label to its far lanes


def _ticks(first: float, last: float) -> tuple[list[float], list[str]]:
    """Return round seconds from `first` to `last`, and how they are written: with tenths where they differ by less."""
    step = next(
        (step for step in STEPS if (last - first) / step < TICKS), STEPS[-1] * math.ceil((last - first) / 30_000)
    )
    ticks = [step * number for number in range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)]
    return ticks, [clock(tick) if step < 1 else clock(tick).removesuffix(".0") for tick in ticks]
