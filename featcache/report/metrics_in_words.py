"""The intervals of metrics, as they are written."""

import math
from typing import TYPE_CHECKING

from featcache.text import UNDEFINED, metric_text

if TYPE_CHECKING:  # which imports SciPy
    from featcache.metrics import Interval


def metric_interval_text(name: str, value: float, interval: "Interval | None") -> str:
    """Return the interval of a metric, "too few" where none can be stated, a dash where it is undefined.

    Args:
        name: of the metric.
        value: the metric; nan where it is undefined.
        interval: None where there is none.
    """
    if interval is None:
        from featcache.metrics import TOO_FEW

        return UNDEFINED if math.isnan(value) else TOO_FEW
    return " to ".join(metric_text(name, end).removesuffix(" %") for end in (interval.low, interval.high))
