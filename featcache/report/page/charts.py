"""The drawings of the page, as SVG: colours come from the style sheet, for the page's policy forbids inline style."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from featcache.metrics import Interval
from featcache.text import percent

POINTS = 240  # of a curve; a longer one is thinned
LABELLED = 12  # curves that have their labels; of more only the chosen one has
_LONGEST = 24  # characters of a label
_GAP = 12.0  # between two labels at the ends of curves


@dataclass(frozen=True, slots=True)
class Curve:
    """One head's history."""

    label: str  # what tells it from the others of its sweep: "lr 0.003"
    chosen: bool
    epochs: tuple[int, ...]
    columns: dict[str, tuple[float, ...]]  # "val_loss" -> (epochs,); a column without values is left out


def recall_bar(share: float, interval: Interval | None) -> Markup:
    """Return a recall as a bar of at most 100, with its interval as a whisker. The figures stand beside it as text."""
    parts = ['<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">',
             '<rect class="rail" width="100" height="10"/>']  # fmt: skip
    if not np.isnan(share):
        parts.append(f'<rect class="fill" width="{svg_number(100 * share)}" height="10"/>')
    if interval is not None:
        low, high = 100 * interval.low, 100 * interval.high
        parts.append(
            f'<rect class="whisker" x="{svg_number(low)}" y="4" width="{svg_number(max(high - low, 0.4))}" height="2"/>'
        )
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 (figures alone)


def share_bar(share: float, kind: str) -> Markup:
    """Return a thin bar: a class's share, against the largest; `kind` is its class in the style sheet."""
    width = svg_number(100 * share)
    return Markup(  # noqa: S704 (figures alone)
        f'<svg class="bar thin" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" width="{width}" height="10"/></svg>'
    )


def draw_panels(curves: Sequence[Curve], columns: Sequence[tuple[str, bool, str]]) -> list[Markup]:
    """Return a panel for each column of the history that any head has.

    Args:
        curves: of every head of the sweep.
        columns: of each its name, whether its values are shares, and its title; see `draw_curves`.
    """
    drawn = [draw_curves(curves, column, share=share, title=title) for column, share, title in columns]
    return [panel for panel in drawn if panel is not None]


def draw_curves(curves: Sequence[Curve], column: str, *, share: bool, title: str) -> Markup | None:
    """Return one panel: a column of the history of every head; None where no head has it.

    Args:
        curves: of every head of the sweep.
        column: the one that is drawn: "val_loss".
        share: whether its values are shares, drawn from 0 to 100 %; others are drawn from 0 up.
        title: stands above the panel.
    """
    drawn = [curve for curve in curves if len(_finite(curve.columns.get(column, ())))]
    if not drawn:
        return None
    values = np.concatenate([_finite(curve.columns[column]) for curve in drawn])
    last = max(max(curve.epochs) for curve in drawn)
    highest = float(np.quantile(values, 0.995))
    high = 1.0 if share or highest <= 0 else highest
    ticks = _ticks(0.0, high)
    panel = _Panel(last, max(high, ticks[-1]), right=_margin(drawn))
    size = f"{svg_number(panel.width)} {svg_number(panel.height)}"
    parts = [f'<svg class="panel" viewBox="0 0 {size}" role="img" aria-label="{escape(title)}">',
             f'<text class="title" x="0" y="14">{escape(title)}</text>']  # fmt: skip
    parts += [panel.grid_line(tick, percent(tick, 0) if share else f"{tick:g}") for tick in ticks]
    parts += [
        f'<text class="tick mid" x="{svg_number(panel.x(epoch))}" y="{svg_number(panel.height - 10)}">{epoch}</text>'
        for epoch in sorted({1, (1 + last) // 2, last})
    ]
    ends = []
    for number, curve in sorted(enumerate(drawn), key=lambda pair: pair[1].chosen):
        points = [(epoch, value) for epoch, value in zip(curve.epochs, curve.columns[column], strict=True)
                  if np.isfinite(value)]  # fmt: skip
        step = max(1, len(curve.epochs) // POINTS)
        thinned = points[:-1:step] + points[-1:]
        parts.append(panel.line(thinned, "chosen" if curve.chosen else f"other d{number % 4}"))
        if curve.chosen or len(drawn) <= LABELLED:
            ends.append((panel.y(points[-1][1]), curve))
    parts += [panel.label(y, curve) for y, curve in _spread_labels(ends, panel.top, panel.height - panel.bottom)]
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 (what is a name is escaped)


def _margin(curves: Sequence[Curve]) -> float:
    """Return the width that the labels of curves take."""
    return max(96.0, 28 + 6.4 * max(len(_shorten(curve.label)) for curve in curves))


def _shorten(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


@dataclass(frozen=True, slots=True)
class _Panel:
    """Where epochs and values lie in a panel of curves."""

    last: int  # epoch
    high: float  # value; the lowest is 0
    right: float  # for the labels at the ends of the curves
    width: float = 460.0
    height: float = 250.0
    left: float = 44.0
    top: float = 30.0
    bottom: float = 28.0

    def x(self, epoch: float) -> float:
        return self.left + (self.width - self.left - self.right) * (epoch - 1) / max(self.last - 1, 1)

    def y(self, value: float) -> float:
        return self.top + (self.height - self.top - self.bottom) * (1 - min(max(value, 0.0), self.high) / self.high)

    def grid_line(self, tick: float, label: str) -> str:
        y, right = self.y(tick), svg_number(self.width - self.right)
        x, baseline = svg_number(self.left - 6), svg_number(y + 3.5)
        return (f'<path class="grid" d="M{svg_number(self.left)} {svg_number(y)}H{right}"/>'
                f'<text class="tick end" x="{x}" y="{baseline}">{label}</text>')  # fmt: skip

    def line(self, points: Sequence[tuple[int, float]], kind: str) -> str:
        if len(points) == 1:
            ((epoch, value),) = points
            return (
                f'<circle class="{kind} dot" cx="{svg_number(self.x(epoch))}" cy="{svg_number(self.y(value))}" r="3"/>'
            )
        path = "L".join(f"{svg_number(self.x(epoch))} {svg_number(self.y(value))}" for epoch, value in points)
        return f'<path class="{kind}" d="M{path}"/>'

    def label(self, y: float, curve: Curve) -> str:
        mark = " ●" if curve.chosen else ""
        kind = "label chosen" if curve.chosen else "label"
        return (f'<text class="{kind}" x="{svg_number(self.width - self.right + 7)}" y="{svg_number(y + 3.5)}">'
                f"{escape(_shorten(curve.label))}{mark}</text>")  # fmt: skip


def _finite(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the values without nan and inf."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high` or just above, about five."""
    rough = (high - low) / 4
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(float(size * factor) for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    return [float(tick) for tick in np.arange(low, high + step * 0.999, step)]


def _spread_labels(ends: list[tuple[float, Curve]], top: float, bottom: float) -> list[tuple[float, Curve]]:
    """Return the labels at the ends of curves, moved so that no two lie on each other; in the panel while they fit."""
    placed: list[tuple[float, Curve]] = []
    for end, curve in sorted(ends, key=lambda pair: pair[0]):
        placed.append((max(end, placed[-1][0] + _GAP) if placed else max(end, top), curve))
    for i in range(len(placed) - 1, -1, -1):
        limit = bottom if i == len(placed) - 1 else placed[i + 1][0] - _GAP
        placed[i] = (min(placed[i][0], limit), placed[i][1])
    return placed


def svg_number(value: float) -> str:
    """Return a number as SVG needs it: two decimals at most, the same on every machine.

    Args:
        value: a place or a length; 0 stands for nan.
    """
    return f"{value:.2f}".rstrip("0").rstrip(".") if value == value else "0"
