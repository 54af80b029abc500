"""The reliability diagram of the page, as SVG."""

from markupsafe import Markup

from featcache.metrics import Calibration
from featcache.report.page.charts import svg_number
from featcache.text import percent

SPARSE = 10  # predictions; a bin with fewer is drawn hollow
_LEFT, _TOP, _SIDE, _FOOT = 44.0, 12.0, 300.0, 46.0


def is_sparse(calibration: Calibration, part: int) -> bool:
    """Return whether a bin has too few predictions, or groups, to be drawn full.

    Args:
        calibration: the diagram.
        part: the number of the bin.
    """
    return int(calibration.count[part]) < SPARSE or calibration.intervals[part] is None


def draw_reliability(calibration: Calibration) -> Markup:
    """Return the reliability diagram: how often predictions are right by confidence, and below how many there are.

    A whisker is the interval of a bin; a sparse bin is hollow. The figures stand beside the diagram as a table.

    Args:
        calibration: the bins.
    """
    size = f"{svg_number(_LEFT + _SIDE + 14)} {svg_number(_TOP + _SIDE + _FOOT + 42)}"
    parts = [f'<svg class="panel square" viewBox="0 0 {size}" role="img" '
             f'aria-label="Reliability diagram: the share of right predictions by confidence">']  # fmt: skip
    for tick in (0, 0.5, 1):
        x, y, label = svg_number(_LEFT + _SIDE * tick), _TOP + _SIDE * (1 - tick), percent(tick, 0)
        below = svg_number(_TOP + _SIDE + _FOOT + 18)
        parts.append(f'<path class="grid" d="M{svg_number(_LEFT)} {svg_number(y)}h{svg_number(_SIDE)}"/>'
                     f'<text class="tick end" x="{svg_number(_LEFT - 6)}" y="{svg_number(y + 3.5)}">{label}</text>'
                     f'<text class="tick mid" x="{x}" y="{below}">{label}</text>')  # fmt: skip
    parts += [_bin(calibration, part) for part in calibration.count.nonzero()[0].tolist()]
    left, floor, right = (svg_number(place) for place in (_LEFT, _TOP + _SIDE, _LEFT + _SIDE))
    middle, foot = svg_number(_LEFT + _SIDE / 2), svg_number(_TOP + _SIDE + _FOOT + 34)
    parts.append(f'<path class="ideal" d="M{left} {floor}L{right} {svg_number(_TOP)}"/>')
    parts.append(f'<text class="tick mid" x="{middle}" y="{foot}">confidence; below: predictions</text></svg>')
    return Markup("".join(parts))  # noqa: S704 (figures alone)


def _bin(calibration: Calibration, part: int) -> str:
    """Return the bar of a bin, its whisker, and below how many predictions it has."""
    cell = _SIDE / len(calibration.count)
    height, x = _SIDE * float(calibration.right[part]), _LEFT + cell * part + 1
    tall = max((_FOOT - 10) * int(calibration.count[part]) / int(calibration.count.max()), 0.6)
    kind = "hollow" if is_sparse(calibration, part) else "fill"
    bars = [(kind, _TOP + _SIDE - height, height), ("count", _TOP + _SIDE + _FOOT - tall, tall)]
    left, wide = svg_number(x), svg_number(cell - 2)
    drawn = "".join(
        f'<rect class="{name}" x="{left}" y="{svg_number(y)}" width="{wide}" height="{svg_number(high)}"/>'
        for name, y, high in bars
    )
    interval = calibration.intervals[part]
    if interval is None:
        return drawn
    top, bottom = (_TOP + _SIDE * (1 - end) for end in (interval.high, interval.low))
    middle = svg_number(x + cell / 2 - 1)
    return f'{drawn}<path class="whisker" d="M{middle} {svg_number(top)}V{svg_number(bottom)}"/>'
