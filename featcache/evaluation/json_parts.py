"""The parts that several JSON documents of evaluations share."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `compare` shows figures without intervals, and computes none
    from featcache.metrics import Calibration, Interval, Intervals, RiskCoverage, Shares


def finite_or_none(value: float) -> float | None:
    """Return the value, None where it is nan or infinite: JSON knows neither."""
    return float(value) if math.isfinite(value) else None


def is_too_few(value: float, interval: "Interval | None") -> bool:
    """Return whether a figure that is defined has no interval: its groups are too few, see `bounds.Sample`.

    Args:
        value: the figure, a share or the difference of two; nan where it is undefined.
        interval: its interval; None where there is none.
    """
    return interval is None and not math.isnan(value)


def are_too_few(recall: "Shares", intervals: "Intervals") -> tuple[bool, ...]:
    """Return `is_too_few` of each class, (classes,): of its recall, or of a difference between two recalls."""
    return tuple(is_too_few(value, interval) for value, interval in zip(recall.tolist(), intervals.recall, strict=True))


def interval_json(interval: "Interval | None") -> list[float] | None:
    """Return [low, high]; None where there is none."""
    return None if interval is None else [interval.low, interval.high]


def intervals_json(intervals: "Intervals", *, accuracy: float, macro_recall: float) -> dict[str, Any]:
    """Return what was drawn again, how often, and the intervals of two figures; those of recall stand by the classes.

    Args:
        intervals: of one head, of a difference, or of an average.
        accuracy: the figure that `intervals.accuracy` is about.
        macro_recall: the figure that `intervals.macro_recall` is about.
    """
    return {
        "unit": intervals.unit,
        "groups": intervals.groups,
        "resamples": intervals.resamples,
        "level": intervals.level,
        "method": intervals.method,
        "accuracy": interval_json(intervals.accuracy),
        "macro_recall": interval_json(intervals.macro_recall),
        "too_few": {
            "accuracy": is_too_few(accuracy, intervals.accuracy),
            "macro_recall": is_too_few(macro_recall, intervals.macro_recall),
        },
    }


def recalls_json(classes: tuple[str, ...], recall: "Shares", intervals: "Intervals") -> list[dict[str, Any]]:
    """Return one entry a class: its name, its recall (or the difference of two) and the interval of that."""
    columns = zip(classes, recall.tolist(), intervals.recall, are_too_few(recall, intervals), strict=True)
    return [
        {
            "name": name,
            "recall": finite_or_none(value),
            "recall_interval": interval_json(interval),
            "too_few": too_few,
        }
        for name, value, interval, too_few in columns
    ]


def calibration_json(calibration: "Calibration") -> dict[str, Any]:
    """Return the expected calibration error, and its bins with their intervals."""
    columns = zip(
        calibration.count.tolist(),
        calibration.confidence.tolist(),
        calibration.right.tolist(),
        calibration.intervals,
        strict=True,
    )
    return {
        "ece": finite_or_none(calibration.ece),
        "ece_interval": interval_json(calibration.ece_interval),
        "unit": calibration.unit,
        "bins": [
            {
                "count": count,
                "confidence": finite_or_none(confidence),
                "right": finite_or_none(right),
                "interval": interval_json(interval),
            }
            for count, confidence, right, interval in columns
        ],
    }


def risk_json(risk: "RiskCoverage") -> dict[str, Any]:
    """Return the area, and the curve at coverages of 1 % to 100 %."""
    shares = [percent / 100 for percent in range(1, 101)] if len(risk.risk) else []
    return {
        "area": finite_or_none(risk.area),
        "curve": [{"coverage": share, "risk": risk.risk_at(share)} for share in shares],
    }
