"""How sure a figure is: intervals from a bootstrap over subjects, else clips, else images.

Rows of one person resemble each other, so what is drawn again is whole groups (`resampling`). The plain percentile
interval is too narrow for few groups: with three of them it can never leave their range. Used here is the bootstrap's
standard error, made unbiased for n groups, with Student's t of n - 1 degrees of freedom; exact binomial intervals
where no group has more than one row; and where all groups show the same, or there is one group, what such a sample
can hide, or no interval at all (`bounds` has the formulas, and the rule for "too few").

Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 12 (t with a standard error); Hesterberg,
What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015) (narrowness bias); Cameron and
Miller, A Practitioner's Guide to Cluster-Robust Inference, J. Human Resources 50 (2015) (few clusters: t(n - 1)).

A class that a resample lacks has no recall there: it is left out of that resample's macro recall, as the figure
itself leaves out classes without support, and of that class's own standard error. n is then the groups that have it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from featcache.metrics.bounds import Ends, Sample, difference_ends, share_ends
from featcache.metrics.groups import Doubles, GroupCounts
from featcache.metrics.resampling import HeadsReducer, affordable_resamples, point_estimates, standard_errors

LEVEL = 0.95
METHOD = (
    "bootstrap standard error, Student's t with groups - 1 degrees of freedom, on the logit scale; exact binomial "
    "where no group has two rows, or all show the same"
)
METHOD_DIFFERENCE = (
    "bootstrap standard error of the paired difference, Student's t with groups - 1 degrees of freedom; where most "
    "groups show no difference, two groups are added that do (Bonett and Price)"
)


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of one head's figures, or of the differences between two heads' figures.

    None where a figure is undefined (a class without support), or its groups are too few.
    """

    unit: str  # what was drawn again: "subject", "clip" or "image"
    groups: int  # how many of them there are
    resamples: int
    level: float
    method: str
    accuracy: Interval | None
    macro_recall: Interval | None
    recall: tuple[Interval | None, ...]  # (classes,)


def bootstrap_intervals(
    groups: GroupCounts, *, resamples: int | None = None, level: float = LEVEL, seed: int = 0
) -> Intervals:
    """Return the intervals of the mean over the heads: of one head's figures, or of folds' averages.

    Args:
        groups: what is drawn again.
        resamples: how often; None for as many as `affordable_resamples` allows.
        level: of confidence.
        seed: of the draws.
    """
    resamples = resamples or affordable_resamples(groups)
    sample = _sample(groups, _mean, resamples, seed)
    return _intervals(groups, sample, share_ends(sample, level), resamples, level, METHOD)


def bootstrap_differences(
    groups: GroupCounts, *, resamples: int | None = None, level: float = LEVEL, seed: int = 0
) -> Intervals:
    """Return the intervals of the first head's figures less the second's, both on the same rows of each resample.

    Args:
        groups: what is drawn again, of two heads.
        resamples: as of `bootstrap_intervals`.
        level: of confidence.
        seed: of the draws.
    """
    resamples = resamples or affordable_resamples(groups)
    sample = _sample(groups, lambda figures: figures[0] - figures[1], resamples, seed)
    ends = difference_ends(sample, *_contributions(groups), level)
    return _intervals(groups, sample, ends, resamples, level, METHOD_DIFFERENCE)


def zero_intervals(groups: GroupCounts, *, level: float = LEVEL) -> Intervals:
    """Return the intervals of the differences between a head and itself: 0 by definition, whatever the sample.

    Args:
        groups: what would be drawn again; a class without rows in it has no interval.
        level: of confidence, which the intervals only state.
    """
    zero = Interval(0.0, 0.0)
    recall = tuple(zero if is_seen else None for is_seen in (groups.rows.sum(axis=0) > 0).tolist())
    return Intervals(groups.unit, groups.number, 0, level, "the same head", zero, zero, recall)


def _sample(groups: GroupCounts, reduce_heads: HeadsReducer, resamples: int, seed: int) -> Sample:
    """Return what `reduce_heads` makes of the heads' figures, and how it varies."""
    rows = groups.rows
    present = groups.count @ (rows > 0).astype(np.int64)
    number = np.array([groups.number, groups.number, *present], dtype=np.float64)
    is_trial = np.zeros(len(number), dtype=bool)
    if groups.heads == 1 or groups.support.shape[1] == groups.classes:
        is_trial[0] = rows.sum(axis=1).max(initial=0) <= 1
        is_trial[2:] = rows.max(axis=0).toarray().ravel() <= 1
    point, spread = point_estimates(groups, reduce_heads), standard_errors(groups, reduce_heads, resamples, seed)
    return Sample(point=point, spread=spread, groups=number, is_trial=is_trial)


def _intervals(
    groups: GroupCounts, sample: Sample, ends: Ends, resamples: int, level: float, method: str
) -> Intervals:  # fmt: skip
    has_none = np.isnan(sample.point) | sample.is_too_few
    stated = [
        None if nothing else Interval(low, high)
        for nothing, low, high in zip(has_none.tolist(), *(end.tolist() for end in ends), strict=True)
    ]
    return Intervals(groups.unit, groups.number, resamples, level, method, stated[0], stated[1], tuple(stated[2:]))


def _mean(figures: Doubles) -> Doubles:
    """Return the mean over the heads in which a figure is defined: (heads, 2 + classes, n) -> (2 + classes, n)."""
    is_defined = ~np.isnan(figures)
    with np.errstate(invalid="ignore"):
        mean: Doubles = np.where(is_defined, figures, 0).sum(axis=0) / is_defined.sum(axis=0)
    return mean


def _contributions(groups: GroupCounts) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Return what `bounds.difference_ends` needs to know of single groups, both (2 + classes,).

    The root of the mean square of what the groups add in which the heads differ, n (right1 - right2) / rows, whose mean
    over the n groups is the figure; 0 where they differ in none. And whether the heads differ by exactly -1, 0 or 1 in
    half of the groups or more; macro recall goes with accuracy.
    """
    gap = csr_array(groups.hits[:, : groups.classes] - groups.hits[:, groups.classes :])
    gap.eliminate_zeros()
    count, rows = groups.count.astype(np.float64), csr_array(groups.support[:, : groups.classes])
    size, seen = count @ rows, count @ (rows > 0)  # (classes,) rows, and groups, that a class has
    a_row = np.divide(1, size, out=np.zeros_like(size), where=size > 0)
    a_group, rows_of_group = gap.sum(axis=1), rows.sum(axis=1)
    overall = groups.number * np.stack([a_group / size.sum(), gap @ a_row / np.count_nonzero(size)], axis=1)
    differ = np.array([*(count @ (overall != 0)), *(count @ (gap != 0))])
    squares = np.array([*(count @ overall**2), *((count @ gap.multiply(gap)) * (seen * a_row) ** 2)])
    broken = count @ ((rows.multiply(gap != 0) - abs(gap)) > 0)
    broken_groups = count @ ((a_group != 0) & (abs(a_group) < rows_of_group))
    number = groups.number
    is_mostly_whole = 2 * np.array([broken_groups, broken_groups, *broken]) <= np.array([number, number, *seen])
    return np.sqrt(np.divide(squares, differ, out=np.zeros_like(squares), where=differ > 0)), is_mostly_whole
