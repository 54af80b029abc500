"""Intervals of the figures of labels and of numbers: a bootstrap over subjects, else clips, else images.

As for classes (`bootstrap`) whole groups are drawn again, the standard error over the resamples is made unbiased for
n groups, and Student's t of n - 1 degrees of freedom says how far it reaches; shares on the logit scale. A figure that
is undefined in a resample is left out of its own standard error.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, stdtrit

from featcache.metrics.bootstrap import LEVEL, Interval
from featcache.metrics.bounds import FEWEST_ALIKE, NO_SPREAD
from featcache.metrics.groups import choose_unit
from featcache.metrics.multilabel import f1_scores, label_outcomes, weighted_precision
from featcache.metrics.ordering import Doubles, order_rows
from featcache.metrics.regression import weighted_figures

RESAMPLES, FEWEST_RESAMPLES = 1_000, 200
WORK = 400_000_000  # rows times outputs times resamples: some four seconds on one core
BLOCK = 2**21  # weights that are held at a time
SHARE, ERROR, ANY = (0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)  # what a figure can be
METHOD = "bootstrap standard error, Student's t with groups - 1 degrees of freedom; shares on the logit scale"

Figures = Callable[[Doubles], Doubles]  # weights (n, rows) -> (outputs + overall, figures, n)
Limits = tuple[tuple[float, float], ...]
LABEL_LIMITS: Limits = (SHARE, SHARE, SHARE)
VALUE_LIMITS: Limits = ((-math.inf, 1), ERROR, ERROR, (-1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class TargetIntervals:
    """The intervals of figures: overall, and of each label or number."""

    unit: str  # what was drawn again: "subject", "clip" or "image"
    groups: int
    resamples: int
    level: float
    overall: tuple[Interval | None, ...]  # (figures,); None where undefined, or its groups are too few
    outputs: tuple[tuple[Interval | None, ...], ...]  # (outputs, figures)


def label_intervals(
    truth: Doubles, probabilities: Doubles, thresholds: Doubles, subjects: Sequence[str], clips: Sequence[str],
) -> TargetIntervals:  # fmt: skip
    """Return the intervals of the mean average precision, macro F1 and micro F1; of each label its AP and F1.

    Args:
        truth: (rows, labels), 0 or 1.
        probabilities: (rows, labels).
        thresholds: (labels,).
        subjects: (rows,) who is seen, "" where nobody is named.
        clips: (rows,) the clip of each row, "" where it belongs to none.
    """
    figures = label_figures(truth, probabilities, thresholds)
    return _intervals(figures, truth.shape, subjects, clips, limits=LABEL_LIMITS)


def value_intervals(
    truth: Doubles, predicted: Doubles, subjects: Sequence[str], clips: Sequence[str]
) -> TargetIntervals:  # fmt: skip
    """Return the intervals of R2, MAE, RMSE and Spearman's correlation, overall and of each number.

    Args:
        truth: (rows, columns).
        predicted: (rows, columns).
        subjects: as for `label_intervals`.
        clips: as for `label_intervals`.
    """
    figures = figures_of_values(truth, predicted)
    return _intervals(figures, truth.shape, subjects, clips, limits=VALUE_LIMITS)


def mean_intervals(
    parts: Sequence[Figures], rows: Sequence[int] | int, outputs: int, subjects: Sequence[str], clips: Sequence[str],
    *, of_labels: bool, paths: Sequence[str] = (),
) -> TargetIntervals:  # fmt: skip
    """Return the intervals of the mean of several heads' figures: people are drawn once for all of them.

    A figure that is undefined for a head is left out of the mean.

    Args:
        parts: each head's figures, as `label_figures` or `figures_of_values` makes them.
        rows: how many rows each head has, where each has its own, one after the other; or a number: all have the same.
        outputs: labels or numbers.
        subjects: as for `label_intervals`, of all rows.
        clips: likewise.
        of_labels: whether the figures are those of labels, and not of numbers.
        paths: of all rows, where an image may be a row of several heads: without names it is drawn as one.
    """
    shared = isinstance(rows, int)
    ends = np.cumsum([rows] if isinstance(rows, int) else rows).tolist()
    starts = [0] * len(parts) if shared else [0, *ends[:-1]]
    stops = ends * len(parts) if shared else ends

    def means(weights: Doubles) -> Doubles:
        own = [weights[:, start:stop] for start, stop in zip(starts, stops, strict=True)]
        return _mean(np.stack([part(of_part) for part, of_part in zip(parts, own, strict=True)]))

    cost = len(parts) if shared else 1
    limits = LABEL_LIMITS if of_labels else VALUE_LIMITS
    return _intervals(means, (ends[-1], outputs), subjects, clips, limits=limits, cost=cost, paths=paths)


def difference_intervals(
    first: Figures, second: Figures, truth: Doubles, subjects: Sequence[str], clips: Sequence[str]
) -> TargetIntervals:  # fmt: skip
    """Return the intervals of the first head's figures less the second's, both on the same rows of each resample.

    Args:
        first: the one head's figures, as `label_figures` or `figures_of_values` makes them.
        second: the other's, on the same rows.
        truth: (rows, outputs).
        subjects: as for `label_intervals`.
        clips: as for `label_intervals`.
    """

    def differences(weights: Doubles) -> Doubles:
        return first(weights) - second(weights)

    return _intervals(
        differences, truth.shape, subjects, clips, limits=(ANY,) * len(first(np.ones((1, len(truth))))[0])
    )


def label_figures(truth: Doubles, probabilities: Doubles, thresholds: Doubles) -> Figures:
    """Return what computes the figures of labels under any weights of the rows; of each label its AP and F1, then nan.

    Args:
        truth: (rows, labels), 0 or 1.
        probabilities: (rows, labels).
        thresholds: (labels,).
    """
    outcomes = label_outcomes(truth, probabilities >= thresholds)
    orders = [order_rows(column, descending=True) for column in probabilities.T]

    def figures(weights: Doubles) -> Doubles:
        counts = np.stack([weights @ outcome for outcome in outcomes])  # (3, n, labels)
        precision = np.stack([weighted_precision(weights, *pair) for pair in zip(truth.T, orders, strict=True)])
        f1, is_seen = f1_scores(counts).T, counts.sum(axis=0).T > 0
        macro = _mean(np.where(is_seen, f1, np.nan))
        overall = np.stack([_mean(precision), macro, f1_scores(counts.sum(axis=2))])
        each = np.stack([precision, f1, np.full_like(f1, np.nan)], axis=1)
        return np.concatenate([overall[None], each])

    return figures


def figures_of_values(truth: Doubles, predicted: Doubles) -> Figures:
    """Return what computes R2, MAE, RMSE and Spearman's correlation under any weights of the rows.

    Args:
        truth: (rows, columns).
        predicted: (rows, columns).
    """
    columns = [(*pair, *map(order_rows, pair)) for pair in zip(truth.T, predicted.T, strict=True)]

    def figures(weights: Doubles) -> Doubles:
        each = np.stack([weighted_figures(weights, *column) for column in columns])
        return np.concatenate([_mean(each)[None], each])

    return figures


def _intervals(
    figures: Figures, shape: tuple[int, ...], subjects: Sequence[str], clips: Sequence[str],
    limits: Sequence[tuple[float, float]], cost: int = 1, paths: Sequence[str] = (),
) -> TargetIntervals:  # fmt: skip
    rows, outputs = shape
    unit, names = choose_unit(subjects, clips)
    names = names if len(names) else paths
    group = np.unique(names, return_inverse=True)[1] if len(names) else np.arange(rows)
    number = int(group.max(initial=-1)) + 1
    resamples = int(np.clip(WORK // max(1, rows * outputs * cost), FEWEST_RESAMPLES, RESAMPLES))
    point = figures(np.ones((1, rows)))[..., 0]
    count, first, second = (np.zeros(point.shape) for _ in range(3))
    for weights in _weights(group, number, resamples):
        drawn = figures(weights) - point[..., None]
        is_defined = ~np.isnan(drawn)
        drawn[~is_defined] = 0
        count += is_defined.sum(axis=-1)
        first += drawn.sum(axis=-1)
        second += (drawn**2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(second / count - (first / count) ** 2, 0))
    ends = [
        tuple(_interval(value, error, number, limit) for value, error, limit in zip(*columns, limits, strict=True))
        for columns in zip(point.tolist(), spread.tolist(), strict=True)
    ]
    return TargetIntervals(unit, number, resamples, LEVEL, ends[0], tuple(ends[1:]))


def _weights(group: npt.NDArray[np.int64], number: int, resamples: int) -> Iterator[Doubles]:
    """Yield how often each row is drawn, (n, rows), a block of resamples at a time."""
    random, block = np.random.default_rng(0), max(1, BLOCK // max(1, len(group)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.multinomial(number, np.full(number, 1 / number), size=size)
        yield drawn[:, group].astype(np.float64)


def _interval(point: float, spread: float, groups: int, limits: tuple[float, float]) -> Interval | None:
    """Return the interval of a figure; None where it is undefined, does not vary, or its groups are too few."""
    if groups < FEWEST_ALIKE or not np.isfinite(point) or not spread > NO_SPREAD:
        return None
    reach = float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * spread * np.sqrt(groups / (groups - 1))
    if limits != SHARE or not 0 < point < 1:
        return Interval(max(point - reach, limits[0]), min(point + reach, limits[1]))
    reach /= point * (1 - point)
    return Interval(float(expit(logit(point) - reach)), float(expit(logit(point) + reach)))


def _mean(values: Doubles) -> Doubles:
    """Return the mean over the first axis of what is no nan; nan where all is."""
    is_defined = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Doubles = np.where(is_defined, values, 0).sum(axis=0) / is_defined.sum(axis=0)
    return mean
