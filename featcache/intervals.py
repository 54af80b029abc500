"""How sure a figure is: intervals from a bootstrap over subjects, else clips, else images.

Rows of one person resemble each other, so what is drawn again is whole groups. A group enters as two counts a class,
right answers and rows; a resample is a weighting of the groups, so all of them are one matrix product.

The plain percentile interval is too narrow for few groups: with three of them it can never leave their range. Used
here is the bootstrap's standard error, made unbiased for n groups, with Student's t of n - 1 degrees of freedom:

    s = sqrt(n / (n - 1)) sd(resampled figures)
    logit(p) -+ t(n - 1) s / (p (1 - p))          a share; the logit keeps it within 0 … 1
    d -+ t(n - 1) s                               a difference of two shares

Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 12 (t with a standard error); Hesterberg,
What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015) (narrowness bias); Cameron and
Miller, A Practitioner's Guide to Cluster-Robust Inference, J. Human Resources 50 (2015) (few clusters: t(n - 1)).

- A class that a resample lacks has no recall there: it is left out of that resample's macro recall, as the figure
  itself leaves out classes without support, and of that class's own standard error. n is then the groups that have it.
- Where every group has the class all right, or all wrong, nothing varies: exact binomial (Clopper and Pearson 1934),
  each group one trial.
- Where one group alone has a class, and some of it right, nothing can be said: no interval.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, expit, logit, stdtrit

Doubles = npt.NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
METHOD = "bootstrap standard error, Student's t with groups - 1 degrees of freedom, on the logit scale"
METHOD_DIFFERENCE = "bootstrap standard error of the paired difference, Student's t with groups - 1 degrees of freedom"
_BLOCK = 2**21  # weights drawn at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of one head's figures, or of the differences between two heads' figures."""

    unit: str  # what was drawn again: "subject", "clip" or "image"
    groups: int  # how many of them there are
    resamples: int
    level: float
    method: str
    accuracy: Interval | None
    macro_recall: Interval | None
    recall: tuple[Interval | None, ...]  # (classes,); None where a class has no support, or too few groups


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """What is drawn again: right answers and rows of each class in each group, once a head."""

    unit: str
    hits: Doubles  # (kinds, heads, classes)
    support: Doubles  # (kinds, heads, classes)
    count: npt.NDArray[np.int64]  # (kinds,), how many groups are of this kind: images have few kinds

    @property
    def number(self) -> int:
        """How many groups there are."""
        return int(self.count.sum())


def unit_of(subjects: Sequence[str], clips: Sequence[str]) -> tuple[str, Sequence[str]]:
    """What is drawn again, and each row's name of it: subjects if every row names one, else clips, else images."""
    for unit, names in (("subject", subjects), ("clip", clips)):
        if len(names) and all(names):
            return unit, names
    return "image", ()


def group(
    unit: str,
    names: Sequence[str],
    truth: npt.NDArray[np.integer],
    right: npt.NDArray[np.bool_],
    classes: int,
    counts: npt.NDArray[np.bool_] | None = None,
) -> Groups:
    """Count the rows of each group.

    Args:
        unit: what a group is.
        names: (rows,) the group of each row; none where each row is its own.
        truth: (rows,) an index into the classes.
        right: (rows, heads) whether each head's answer is right.
        classes: how many.
        counts: (rows, heads) whether a row is one of that head's, where not every row is.
    """
    counts = np.ones_like(right) if counts is None else counts
    heads = right.shape[1]
    bits = np.concatenate([right & counts, counts], axis=1)
    keys = truth.astype(np.int64) << 2 * heads
    for place in range(2 * heads):
        keys |= bits[:, place].astype(np.int64) << place
    kinds, kind, count = np.unique(keys, return_inverse=True, return_counts=True)
    found = (kinds[:, None] >> np.arange(2 * heads)) & 1
    one = np.zeros((len(kinds), 2 * heads, classes))
    one[np.arange(len(kinds)), :, kinds >> 2 * heads] = found
    if len(names):
        _, code = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
        table = np.bincount(code * len(kinds) + kind, minlength=(code.max() + 1) * len(kinds))
        like, count = np.unique(table.reshape(-1, len(kinds)), axis=0, return_counts=True)
        one = np.tensordot(like.astype(np.float64), one, axes=1)
    return Groups(unit, one[:, :heads], one[:, heads:], count)


def intervals(groups: Groups, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Intervals:
    """The intervals of the mean over the heads: of one head's figures, or of folds' averages."""
    return _intervals(groups, lambda each: _mean(each, axis=1), False, resamples, level, seed)


def differences(groups: Groups, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Intervals:
    """The intervals of the first head's figures less the second's, both on the same rows of each resample."""
    return _intervals(groups, lambda each: each[:, 0] - each[:, 1], True, resamples, level, seed)


def _intervals(
    groups: Groups, combine: Callable[[Doubles], Doubles], signed: bool, resamples: int, level: float, seed: int
) -> Intervals:  # fmt: skip
    of = groups.count @ np.concatenate([groups.hits, groups.support], axis=1).reshape(len(groups.count), -1)
    point = combine(_figures(of.reshape(1, 2, *groups.hits.shape[1:])))[0]  # (classes + 2,)
    drawn = np.concatenate([combine(_figures(sums)) for sums in _resample(groups, resamples, seed)])
    spread = _spread(drawn)
    present = groups.count @ (groups.support.sum(axis=1) > 0)
    number = np.array([groups.number, groups.number, *present])
    found = [
        _interval(float(p), float(s), int(n), level, signed=signed)
        for p, s, n in zip(point, spread, number, strict=True)
    ]
    return Intervals(
        unit=groups.unit,
        groups=groups.number,
        resamples=resamples,
        level=level,
        method=METHOD_DIFFERENCE if signed else METHOD,
        accuracy=found[0],
        macro_recall=found[1],
        recall=tuple(found[2:]),
    )


def _resample(groups: Groups, resamples: int, seed: int) -> Iterator[Doubles]:
    """Yield the sums of resamples, (resamples, 2, heads, classes): hits, then support."""
    random = np.random.default_rng(seed)
    kinds, number = len(groups.count), groups.number
    flat = np.concatenate([groups.hits, groups.support], axis=1).reshape(kinds, -1)
    of = np.repeat(np.arange(kinds), groups.count)
    block = max(1, _BLOCK // max(1, min(number, 8 * kinds)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if kinds * 8 < number:  # many alike: one binomial draw a kind is less than one draw a group
            weights = random.multinomial(number, groups.count / number, size=size)
        else:
            picked = random.integers(0, number, size=(size, number), dtype=np.int64 if kinds == number else np.int32)
            picked = picked if kinds == number else of[picked]  # where no two are alike, a group is its own kind
            picked += (np.arange(size) * kinds)[:, None]
            weights = np.bincount(picked.ravel(), minlength=size * kinds).reshape(size, kinds)
        yield (weights.astype(np.float64) @ flat).reshape(size, 2, *groups.hits.shape[1:])


def _figures(sums: Doubles) -> Doubles:
    """(n, 2, heads, classes) -> (n, heads, 2 + classes): accuracy, macro recall, each recall; nan if undefined."""
    hits, support = sums[:, 0], sums[:, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / support
        accuracy = hits.sum(axis=-1) / support.sum(axis=-1)
    return np.concatenate([accuracy[..., None], _mean(recall, axis=-1)[..., None], recall], axis=-1)


def _mean(values: Doubles, axis: int) -> Doubles:
    """The mean of what is defined; nan where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Doubles = np.where(known, values, 0).sum(axis=axis) / known.sum(axis=axis)
    return mean


def _spread(drawn: Doubles) -> Doubles:
    """The standard deviation of each column, of the resamples in which it is defined."""
    centre = _mean(drawn, axis=0)
    return np.sqrt(_mean((drawn - centre) ** 2, axis=0))


def _interval(p: float, spread: float, number: int, level: float, *, signed: bool) -> Interval | None:
    tail = (1 - level) / 2
    if np.isnan(p) or number < 1:
        return None
    if not signed and p in (0.0, 1.0):
        if p:
            return Interval(float(betaincinv(number, 1, tail)), 1.0)
        return Interval(0.0, float(betaincinv(1, number, 1 - tail)))
    if number < 2 or np.isnan(spread) or (spread < 1e-12 and not signed):
        return None
    reach = float(-stdtrit(number - 1, tail) * spread * np.sqrt(number / (number - 1)))
    if signed:
        return Interval(max(-1.0, p - reach), min(1.0, p + reach))
    centre, reach = logit(p), reach / (p * (1 - p))
    return Interval(float(expit(centre - reach)), float(expit(centre + reach)))
