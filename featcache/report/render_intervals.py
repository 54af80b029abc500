"""Intervals in words and figures."""

from rich.text import Text

from featcache.evaluation import is_too_few
from featcache.metrics import TOO_FEW, Interval, Intervals, explain_too_few
from featcache.text import UNDEFINED, counted, percent, percent_number


def interval_text(
    value: float, interval: Interval | None, decimals: int = 1, *, joint: str = " to ", signed: bool = False
) -> str:
    """Return a figure's interval in per cent, "too few" where none can be stated, a dash where it is undefined.

    Args:
        value: the figure.
        interval: its interval; None where there is none.
        decimals: of the two ends.
        joint: what stands between them.
        signed: whether a plus sign is written too.
    """
    if interval is None:
        return TOO_FEW if is_too_few(value, interval) else UNDEFINED
    return joint.join(percent_number(end, decimals, signed=signed) for end in (interval.low, interval.high))


def describe_resampling(intervals: Intervals) -> Text:
    """Return what intervals mean, then where they come from."""
    level = percent(intervals.level, 0)
    return Text(
        f"{level}: were other {intervals.unit}s drawn from the same population, "
        f"{percent_number(intervals.level, 0)} of 100 such intervals would contain its true figure\n"
        f"intervals: {level}, {intervals.resamples:,} resamples of "
        f"{counted(intervals.groups, intervals.unit)}; {intervals.method}; a class that a resample lacks is left out "
        f"of its macro recall; {explain_too_few(intervals.unit)}",
        style="dim",
    )
