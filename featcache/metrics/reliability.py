"""How often predictions are right, beside how sure they are: the reliability diagram, with an interval for each bin."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from featcache.metrics.bootstrap import LEVEL, Interval
from featcache.metrics.bounds import FEWEST, FEWEST_ALIKE
from featcache.metrics.confusion import Counts, Shares, ratio
from featcache.metrics.groups import number_names


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How often predictions are right, beside how sure they are: equal bins of confidence from 0 to 1."""

    count: Counts  # (bins,) predictions
    confidence: Shares  # (bins,) their mean; nan in an empty bin
    right: Shares  # (bins,) the share of them that is right; nan in an empty bin
    ece: float  # the mean of |right - confidence|, weighted by count; nan without predictions
    ece_interval: Interval | None  # None without predictions, or where there are too few groups
    intervals: tuple[Interval | None, ...]  # (bins,) of `right`; None in an empty bin, or where its groups are too few
    unit: str  # what the intervals count as one: "subject", "clip" or "image"


def calibration(
    confidence: npt.NDArray[np.floating],
    right: npt.NDArray[np.bool_],
    bins: int = 15,
    *,
    unit: str = "image",
    groups: Sequence[str] = (),
) -> Calibration:
    """Return the reliability diagram and the expected calibration error.

    Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (ICML 2017), eq. 1 to 3: bin m holds
    confidences in ((m - 1) / bins, m / bins], and 0 goes to the first. Those of a diverged head, which are nan,
    are left out.

    Args:
        confidence: (rows,) the probability of the class that was predicted, in 0 … 1.
        right: (rows,) whether that was the true class.
        bins: how many equal parts 0 … 1 has.
        unit: what a group is.
        groups: (rows,) the group of each row; none where each row is its own.
    """
    is_defined = ~np.isnan(confidence)
    confidences, hits = confidence[is_defined].astype(np.float64), right[is_defined].astype(np.float64)
    edges = np.arange(1, bins) / bins
    bin_of = np.searchsorted(edges, confidences, side="left")
    count = np.bincount(bin_of, minlength=bins)
    mean, share = (ratio(np.bincount(bin_of, values, minlength=bins), count) for values in (confidences, hits))
    gaps = np.where(count > 0, np.abs(np.nan_to_num(share - mean)), 0.0)
    ece = float(ratio((gaps * count).sum(), count.sum()))
    group = number_names(groups)[0][is_defined] if len(groups) else np.arange(len(hits))
    inside = [bin_of == part for part in range(bins)]
    intervals = tuple(wilson_interval(hits[rows], group[rows] if len(groups) else None) for rows in inside)
    signs = np.sign(np.nan_to_num(share - mean))
    ece_interval = _ece_interval(signs[bin_of] * (hits - confidences), group)
    return Calibration(count, mean, share, ece, ece_interval, intervals, unit)


def _ece_interval(
    gaps: npt.NDArray[np.float64], group: npt.NDArray[np.integer], level: float = LEVEL
) -> Interval | None:
    """Return the interval of the expected calibration error: Student's t with groups - 1 degrees of freedom.

    With each bin's sign fixed, the error is the mean over the rows of sign (right - confidence), and its variance that
    of a mean whose rows come in groups (linearised, as Korn and Graubard's above).

    Args:
        gaps: (rows,) sign (right - confidence); their mean is the error.
        group: (rows,) the number of each row's group.
        level: of confidence.
    """
    number = len(np.unique(group))
    if number < FEWEST_ALIKE:
        return None
    ece = float(gaps.mean())
    reach = float(stdtrit(number - 1, (1 + level) / 2) * np.sqrt(_variance_between(gaps - ece, group, number)))
    return Interval(max(0.0, ece - reach), min(1.0, ece + reach))


def wilson_interval(
    hits: npt.NDArray[np.float64], group: npt.NDArray[np.integer] | None = None, level: float = LEVEL
) -> Interval | None:
    """Return Wilson's interval of a share; None without rows, or where there are too few groups.

    With c = z^2 / n: (p + c / 2 -+ sqrt(c p (1 - p) + c^2 / 4)) / (1 + c); Wilson, JASA 22 (1927). Rows of one group
    resemble each other, so there n is the effective sample size p (1 - p) / v, at most the rows, where v is the
    variance of p between the G groups, and z is Student's t of G - 1 degrees of freedom: Korn and Graubard, Survey
    Methodology 24 (1998); Franco, Little, Louis and Slud, J. Survey Statistics and Methodology 7 (2019). Where all
    groups show the same share, v says nothing, and each group counts as one row.

    Args:
        hits: (rows,) 1 for what is right, else 0.
        group: (rows,) the number of each row's group; None where each row is its own.
        level: of confidence.
    """
    if not len(hits):
        return None
    p, effective, quantile = float(hits.mean()), float(len(hits)), NormalDist().inv_cdf((1 + level) / 2)
    if group is not None:
        number = len(np.unique(group))
        spread = _variance_between(hits - p, group, number) if number >= FEWEST else 0.0
        if spread > 0:
            effective = min(effective, p * (1 - p) / spread)
            quantile = float(stdtrit(number - 1, (1 + level) / 2))
        elif number >= FEWEST_ALIKE:
            effective = float(number)
        else:
            return None
    c = quantile**2 / effective
    middle, reach = (p + c / 2) / (1 + c), float(np.sqrt(c * p * (1 - p) + c**2 / 4)) / (1 + c)
    return Interval(min(p, max(0.0, middle - reach)), max(p, min(1.0, middle + reach)))


def _variance_between(deviations: npt.NDArray[np.float64], group: npt.NDArray[np.integer], number: int) -> float:
    """Return the variance of a share, from the sums of its rows' deviations in each of so many groups."""
    sums = np.bincount(group, deviations)
    squares = float((sums**2).sum())
    return squares * number / (number - 1) / len(deviations) ** 2 if squares > 1e-18 * len(deviations) ** 2 else 0.0
