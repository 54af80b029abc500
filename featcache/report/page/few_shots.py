"""The page of a metric against the number of labels, or images: the curve with its intervals, and its figures."""

from pathlib import Path

from markupsafe import Markup

from featcache.evaluation import FewShotCurve, FewShotPoint
from featcache.report import (
    check_destination,
    few_shot_title,
    mean_text,
    picture_floor,
    point_interval_text,
    save_bytes,
    scale_text,
    shots_text,
    spread_text,
)
from featcache.report.page.charts import svg_number
from featcache.report.page.page import hash_source, make_environment, read_part
from featcache.text import METRIC_WORDS

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 560.0, 300.0, 44.0, 14.0, 44.0


def save_few_shots_html(curve: FewShotCurve, path: Path) -> None:
    """Write the page as one HTML file, which needs no network and no server.

    Args:
        curve: what it shows.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    style = read_part("style.css")
    html = (
        make_environment()
        .get_template("few_shots.html")
        .render(
            curve=curve,
            title=few_shot_title(curve),
            picture=draw_few_shots(curve),
            metric=METRIC_WORDS[curve.metric],
            unit=", %" if mean_text(curve.points[0]).endswith("%") else "",
            rows=[(point, shots_text(point), *map(_figure, _texts(point))) for point in curve.points],
            policy=f"default-src 'none'; style-src {hash_source(style)}; base-uri 'none'; form-action 'none'",
            style=Markup(style),  # noqa: S704 (ours)
        )
    )
    save_bytes(path, html.encode())


def draw_few_shots(curve: FewShotCurve) -> Markup:
    """Return the points with their intervals as whiskers, evenly spaced, joined by a line.

    Args:
        curve: of at least one point.
    """
    right, bottom, low = _WIDTH - 20, _HEIGHT - _FOOT, picture_floor(curve.points)
    step = (right - _LEFT - 40) / max(1, len(curve.points) - 1)

    def x(number: int) -> float:
        return _LEFT + 20 + step * number

    def y(share: float) -> float:
        return bottom - (bottom - _TOP) * (max(share, low) - low) / (1 - low)

    what, of = METRIC_WORDS[curve.metric], "labels of each class" if curve.is_of_classes else f"{curve.row}s"
    parts = [f'<svg class="panel" viewBox="0 0 {svg_number(_WIDTH)} {svg_number(_HEIGHT)}" role="img" '
             f'aria-label="{what[0].upper()}{what[1:]} by the number of {of}">']  # fmt: skip
    for share in (low, (low + 1) / 2, 1.0):
        level = svg_number(y(share))
        parts.append(f'<path class="grid" d="M{svg_number(_LEFT)} {level}H{svg_number(right)}"/>'
                     f'<text class="tick end" x="{svg_number(_LEFT - 6)}" y="{svg_number(y(share) + 3.5)}">'
                     f"{scale_text(curve.metric, share)}</text>")  # fmt: skip
    line = "L".join(f"{svg_number(x(i))} {svg_number(y(point.mean))}" for i, point in enumerate(curve.points))
    parts.append(f'<path class="chosen" d="M{line}"/>')
    for number, point in enumerate(curve.points):
        parts.append(_draw_point(point, x(number), y(point.mean), [y(end) for end in _ends(point)]))
        parts.append(f'<text class="tick mid" x="{svg_number(x(number))}" y="{svg_number(bottom + 17)}">'
                     f"{shots_text(point)}</text>")  # fmt: skip
    centre = svg_number((_LEFT + right) / 2)
    parts.append(f'<text class="tick mid" x="{centre}" y="{svg_number(bottom + 35)}">{of}</text></svg>')
    return Markup("".join(parts))  # noqa: S704 (figures alone)


def _draw_point(point: FewShotPoint, x: float, y: float, ends: list[float]) -> str:
    """Return a point as a dot, with its interval as a whisker; its figure is its title."""
    whisker = (
        f'<path class="whisker" d="M{svg_number(x)} {svg_number(ends[0])}V{svg_number(ends[1])}"/>' if ends else ""
    )
    dot = f'<circle class="dot chosen" cx="{svg_number(x)}" cy="{svg_number(y)}" r="4">'
    return f"{whisker}{dot}<title>{mean_text(point)}</title></circle>"


def _texts(point: FewShotPoint) -> tuple[str, str, str]:
    """Return a point's mean, its interval, and its lowest and highest draw."""
    return mean_text(point), point_interval_text(point), spread_text(point)


def _figure(text: str) -> str:
    """Return a figure without its unit, which the heading has."""
    return text.removesuffix(" %")


def _ends(point: FewShotPoint) -> tuple[float, ...]:
    return () if point.interval is None else (point.interval.low, point.interval.high)
