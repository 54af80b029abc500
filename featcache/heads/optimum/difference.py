"""How two linear classifiers differ on val, and whether the split is large enough to tell."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcache.features import Features
from featcache.heads import Scores
from featcache.metrics import Interval, bootstrap_differences, choose_unit, count_groups

RESAMPLES = 1_000  # a standard error is off by 2 %; ten times as many take a second of the check

Answers = npt.NDArray[np.int64]  # (rows,), an index into the classes


@dataclass(frozen=True, slots=True)
class ValDifference:
    """By how much a classifier is above a head on val, and how sure that is."""

    metric: str  # macro_recall or accuracy
    value: float  # the classifier's less the head's
    interval: Interval | None  # 95 %, of the paired difference; None where there are too few groups
    unit: str  # what was drawn again: "subject", "clip" or "image"
    groups: int

    @property
    def is_better(self) -> bool:
        """Whether the classifier is better than the head, beyond what chance explains."""
        return self.interval is not None and self.interval.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether the classifier is worse than the head, beyond what chance explains."""
        return self.interval is not None and self.interval.high < 0


def difference_metric(select: str) -> str:
    """Return what differences are of: macro recall, or accuracy where that chooses the best head."""
    return "accuracy" if select == "accuracy" else "macro_recall"


def measure_difference(
    val: Features, classifier: tuple[Scores, Answers], head: tuple[Scores, Answers], metric: str
) -> ValDifference:
    """Return by how much a classifier is above a head on val, with the interval of the paired difference.

    Args:
        val: the split.
        classifier: its scores and its answers on val.
        head: the same of the head.
        metric: "macro_recall" or "accuracy".
    """
    unit, names = choose_unit(val.subjects, val.clips)
    right = np.stack([classifier[1] == val.y, head[1] == val.y], axis=1)
    groups = count_groups(unit, names, val.y, right, len(val.classes))
    intervals = bootstrap_differences(groups, resamples=RESAMPLES)
    return ValDifference(
        metric=metric,
        value=getattr(classifier[0], metric) - getattr(head[0], metric),
        interval=getattr(intervals, metric),
        unit=unit,
        groups=groups.number,
    )
