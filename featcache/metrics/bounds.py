"""The ends of intervals, by what a sample shows: formulas alone. All work on arrays, one entry a figure.

A figure is a share (recall, accuracy), a mean of shares (macro recall), or the difference of two shares. `groups` is
how many independent groups carry it, `spread` its standard error over resamples of them.

**A sample without spread is no certainty.** All n groups show the same share x. Groups like these are a share q of all
groups, and n of n of them are seen with a probability of q^n: less than (1 - level) / 2 where q < q(n) =
((1 - level) / 2)^(1 / n). The other 1 - q(n) may show anything, so the mean lies in [q x, q x + 1 - q]; for a
difference d of shares, whose others may show -1 … 1, in [q d - (1 - q), q d + (1 - q)]. For x = 1 and x = 0 this is
the exact interval of Clopper and Pearson (Biometrika 26, 1934), each group one trial; for d = 1 it leaves out 0 from
6 groups on, as the sign test does.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, expit, logit, stdtrit

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ends = tuple[Doubles, Doubles]  # the lower, the upper

NO_SPREAD = 1e-9  # a standard error below it is rounding
TOO_FEW = "too few"  # what stands in the place of an interval
FEWEST = 2  # groups that carry a figure
FEWEST_ALIKE = 3  # where all of them show the same, or can only be right or wrong: two of two hide up to 84 % of all


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sample:
    """Accuracy, macro recall and the recall of each class, in this order, and how they vary: all (2 + classes,)."""

    point: Doubles  # nan where a class has no support
    spread: Doubles
    groups: Doubles
    is_trial: Flags  # no group has more than one row of it

    @property
    def is_alike(self) -> Flags:
        """(2 + classes,) whether a class is seen, and in all groups the same; False for accuracy and macro recall."""
        is_alike: Flags = (self.groups > 0) & ~(self.spread > NO_SPREAD) & ~np.isnan(self.point)
        is_alike[:2] = False
        return is_alike

    @property
    def is_too_few(self) -> Flags:
        """Whether no interval is stated: the one place that decides it, for every figure."""
        whole = self.is_trial | ~(self.spread > NO_SPREAD)
        return (self.groups < FEWEST) | ((self.groups < FEWEST_ALIKE) & whole)


def explain_too_few(unit: str) -> str:
    """Return the rule for "too few" in words.

    Args:
        unit: what was drawn again: "subject", "clip" or "image".
    """
    if unit == "image":
        return f"{TOO_FEW}: fewer than {FEWEST_ALIKE} images"
    return f"{TOO_FEW}: fewer than {FEWEST} {unit}s show it, or than {FEWEST_ALIKE} where all show the same"


def share_ends(sample: Sample, level: float) -> Ends:
    """Return the intervals of shares.

    Where no group has more than one row, mid-P binomial. Elsewhere Student's t with groups - 1 degrees of freedom on
    the logit scale: logit(p) -+ t s / (p (1 - p)). Without spread as above.
    """
    low, high = _alike_ends(sample, level, lowest=0)
    p, varies = sample.point, sample.spread > NO_SPREAD
    inside = varies & (p > 0) & (p < 1)
    reach = _reach(sample, level)[inside] / (p[inside] * (1 - p[inside]))
    low[inside], high[inside] = expit(logit(p[inside]) - reach), expit(logit(p[inside]) + reach)
    trials = inside & sample.is_trial
    low[trials], high[trials] = binomial_ends(p[trials] * sample.groups[trials], sample.groups[trials], level)
    low[1], high[1] = _macro_ends(sample, low[1], high[1], level, lowest=0)
    return low, high


def difference_ends(sample: Sample, step: Doubles, is_mostly_whole: Flags, level: float) -> Ends:
    """Return the intervals of differences: Student's t with groups - 1 degrees of freedom, d -+ t s.

    Where half of the groups or more show exactly -1, 0 or 1 (`is_mostly_whole`: rows that are their own groups, heads
    that seldom differ), the few others make that skewed, and too narrow. There two groups are added that show
    -+`step`, the root of the mean square of what the groups add in which the heads differ: 1 where a group is one row.
    With rows as groups this is Bonett and Price, J. Educational and Behavioral Statistics 37 (2012), eq. 9, which keeps
    its level from 5 rows on; Student's t instead of the normal law makes fewer rows say less.
    """
    d, n, varies = sample.point, sample.groups, sample.spread > NO_SPREAD
    low, high = _alike_ends(sample, level, lowest=-1)
    centre, reach = d.copy(), _reach(sample, level)
    square = n * sample.spread**2 + d**2  # the mean over the groups of the square of what they add
    added = np.sqrt(((n * square + 2 * step**2) / (n + 2) - (n * d / (n + 2)) ** 2) / (n + 2))
    whole = varies & is_mostly_whole
    centre[whole] = (n * d / (n + 2))[whole]
    reach[whole] = (_quantile(sample, level) * added)[whole]
    low[varies], high[varies] = (centre - reach)[varies], (centre + reach)[varies]
    low[1], high[1] = _macro_ends(sample, low[1], high[1], level, lowest=-1)
    return np.clip(low, -1, d), np.clip(high, d, 1)


def binomial_ends(right: Doubles, trials: Doubles, level: float) -> Ends:
    """Return the mid-P interval of `right` of so many trials, 0 < right < trials.

    Clopper and Pearson's with half the probability of what was seen: Lancaster, JASA 56 (1961); Brown, Cai and
    DasGupta, Statistical Science 16 (2001), section 4. Found by bisection, to 1e-15.
    """
    right = np.rint(right)
    tail = (1 - level) / 2

    def end(aim: float) -> Doubles:
        low, high = np.zeros_like(right), np.ones_like(right)
        for _ in range(50):
            p = (low + high) / 2
            below = betainc(right, trials - right + 1, p) + betainc(right + 1, trials - right, p) < 2 * aim
            low, high = np.where(below, p, low), np.where(below, high, p)
        return (low + high) / 2

    return end(tail), end(1 - tail)


def _reach(sample: Sample, level: float) -> Doubles:
    """Return t s, with s made unbiased for n groups: sqrt(n / (n - 1))."""
    n = np.maximum(sample.groups, 2)  # of one nothing is stated
    reach: Doubles = _quantile(sample, level) * sample.spread * np.sqrt(n / (n - 1))
    return reach


def _quantile(sample: Sample, level: float) -> Doubles:
    quantile: Doubles = -stdtrit(np.maximum(sample.groups, 2) - 1, (1 - level) / 2)
    return quantile


def _alike_ends(sample: Sample, level: float, lowest: int) -> Ends:
    """Return the intervals as if no figure had a spread."""
    q = ((1 - level) / 2) ** (1 / np.maximum(sample.groups, 1))
    return q * sample.point + (1 - q) * lowest, q * sample.point + (1 - q)


def _macro_ends(sample: Sample, low: float, high: float, level: float, lowest: int) -> tuple[float, float]:
    """Return macro recall's interval, from what its resamples vary by, [low, high], and what they cannot show.

    Classes whose groups are all alike add nothing to the resamples' spread. What they may hide is added as an
    independent part: the distances of the ends are put together as the root of the sum of their squares (Zou and
    Donner, Statistics in Medicine 27, 2008). An unseen group of several rows is taken to depart by no more than groups
    do in the classes that vary; one of a single row by all that it can.
    """
    mean, alike = float(sample.point[1]), sample.is_alike
    if np.isnan(mean):
        return mean, mean
    if not sample.spread[1] > NO_SPREAD:
        low = high = mean
    classes = np.count_nonzero(sample.groups[2:])
    x, groups = sample.point[alike], sample.groups[alike]
    most = np.where(sample.is_trial[alike], np.inf, _between_groups(sample))
    down, up = (_hidden(np.minimum(room, most), groups, level) / classes for room in (x - lowest, 1 - x))
    return max(lowest, mean - np.hypot(mean - low, down)), min(1.0, mean + np.hypot(high - mean, up))


def _between_groups(sample: Sample) -> float:
    """Return the standard deviation between a class's groups, as the classes that vary show it; inf where none does."""
    varies = sample.spread[2:] > NO_SPREAD
    if not varies.any():
        return np.inf
    return float(np.sqrt((sample.groups[2:] * sample.spread[2:] ** 2)[varies].mean()))


def _hidden(room: Doubles, groups: Doubles, level: float) -> float:
    """Return the most that classes may lack together: max sum(room (1 - q)) over all q with prod(q^groups) >= the tail.

    prod(q^groups) is the probability of a sample without any spread, q as in the module's text. Lagrange:
    q = min(1, m groups / room), where m makes the constraint hold; bisection on its logarithm.
    """
    room, groups = room[room > 0], groups[room > 0]
    if not len(room):
        return 0.0
    aim, turn = float(np.log((1 - level) / 2)), np.log(room / groups)
    low, high = turn.min() + aim / groups.min(), turn.max()
    for _ in range(60):
        m = (low + high) / 2
        low, high = (m, high) if (groups * np.minimum(0, m - turn)).sum() < aim else (low, m)
    return float((room * -np.expm1(np.minimum(0, high - turn))).sum())
