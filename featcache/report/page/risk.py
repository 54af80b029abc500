"""The curve of risk against coverage on the page, as SVG."""

import math

import numpy as np
from markupsafe import Markup

from featcache.metrics import RiskCoverage
from featcache.report.page.charts import svg_number
from featcache.text import percent

_POINTS = 200  # of the curve
_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 460.0, 250.0, 44.0, 14.0, 40.0


def draw_risk(risk: RiskCoverage) -> Markup:
    """Return the share of wrong predictions by how many of them, the surest first, are made.

    Args:
        risk: the curve, of at least one row.
    """
    right, floor = _WIDTH - 14, _HEIGHT - _FOOT
    high = max(math.ceil(20 * float(risk.risk.max())) / 20, 0.05)

    def x(coverage: float) -> float:
        return _LEFT + (right - _LEFT) * coverage

    def y(share: float) -> float:
        return floor - (floor - _TOP) * share / high

    parts = [f'<svg class="panel risk" viewBox="0 0 {svg_number(_WIDTH)} {svg_number(_HEIGHT)}" role="img" '
             f'aria-label="Risk against coverage: the share of wrong predictions among the surest">']  # fmt: skip
    for share in (0.0, high / 2, high):
        level, label = svg_number(y(share)), percent(share, 0 if round(100 * share, 6).is_integer() else 1)
        end, baseline = svg_number(_LEFT - 6), svg_number(y(share) + 3.5)
        parts.append(f'<path class="grid" d="M{svg_number(_LEFT)} {level}H{svg_number(right)}"/>'
                     f'<text class="tick end" x="{end}" y="{baseline}">{label}</text>')  # fmt: skip
    parts += [
        f'<text class="tick mid" x="{svg_number(x(share))}" y="{svg_number(floor + 16)}">{percent(share, 0)}</text>'
        for share in (0.0, 0.5, 1.0)
    ]
    parts.append(f'<text class="tick mid" x="{svg_number((_LEFT + right) / 2)}" y="{svg_number(floor + 33)}">'
                 "coverage: predictions that are made, the surest first</text>")  # fmt: skip
    shown = np.unique(np.linspace(0, len(risk.risk) - 1, min(_POINTS, len(risk.risk))).round().astype(int))
    points = [f"{svg_number(x(float(risk.coverage[i])))} {svg_number(y(float(risk.risk[i])))}" for i in shown]
    parts.append(f'<path class="chosen" d="M{"L".join(points)}"/></svg>')
    return Markup("".join(parts))  # noqa: S704 (figures alone)
