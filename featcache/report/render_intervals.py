"""Intervals in words and figures."""

from rich.text import Text

from featcache.evaluation import is_too_few
from featcache.metrics import TOO_FEW, Interval, Intervals, explain_too_few
from featcache.report.text import UNDEFINED, counted, percent


def interval_text(value: float, interval: Interval | None, between: str = "{:.1f} to {:.1f}") -> str:
    """Return a figure's interval in per cent, "too few" where none can be stated, a dash where it is undefined.

    Args:
        value: the figure.
        interval: its interval; None where there is none.
        between: how the two ends are written.
    """
    if interval is None:
        return TOO_FEW if is_too_few(value, interval) else UNDEFINED
    return between.format(100 * interval.low, 100 * interval.high)


def describe_resampling(intervals: Intervals) -> Text:
    """Return where intervals come from, in a sentence."""
    return Text(
        f"intervals: {percent(intervals.level, 0)}, {intervals.resamples:,} resamples of "
        f"{counted(intervals.groups, intervals.unit)}; {intervals.method}; a class that a resample lacks is left out "
        f"of its macro recall; {explain_too_few(intervals.unit)}",
        style="dim",
    )
