"""What heads answer on rows with several labels or numbers, beside what is true of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featcache.metrics import TargetIntervals, figures_of_values, label_figures, label_intervals, value_intervals
from featcache.recipe import LABELS

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TargetPredictions:
    """What a head answers on the rows of a split, beside what is true of them."""

    kind: str  # LABELS or VALUE
    names: tuple[str, ...]  # of the labels or numbers
    by: str  # "image" or "clip": what a row is
    truth: Doubles  # (rows, outputs)
    answers: Doubles  # (rows, outputs): the probability of each label, or the numbers
    thresholds: Doubles  # (labels,) from which probability on a label is predicted; (0,) of numbers
    paths: tuple[str, ...]
    clips: tuple[str, ...]
    subjects: tuple[str, ...]

    @property
    def predicted(self) -> Doubles:
        """(rows, outputs) 1 where a label is predicted, else 0; the numbers as they are."""
        return (self.answers >= self.thresholds).astype(np.float64) if self.kind == LABELS else self.answers

    def figures(self) -> Callable[[Doubles], Doubles]:
        """Return what computes the figures under weights of the rows, (n, rows) -> (1 + outputs, figures, n)."""
        if self.kind == LABELS:
            return label_figures(self.truth, self.answers, self.thresholds)
        return figures_of_values(self.truth, self.answers)

    def intervals(self) -> TargetIntervals:
        """Return the intervals of the figures, over subjects, else clips, else images."""
        groups = self.subjects, self.clips
        if self.kind == LABELS:
            return label_intervals(self.truth, self.answers, self.thresholds, *groups)
        return value_intervals(self.truth, self.answers, *groups)


def take_predictions(predictions: TargetPredictions, chosen: npt.NDArray[np.bool_]) -> TargetPredictions:
    """Return some of the rows, in their order.

    Args:
        predictions: all of them.
        chosen: (rows,) which ones.
    """
    kept = np.flatnonzero(chosen).tolist()
    return replace(
        predictions,
        truth=predictions.truth[chosen],
        answers=predictions.answers[chosen],
        paths=tuple(predictions.paths[row] for row in kept),
        clips=tuple(predictions.clips[row] for row in kept),
        subjects=tuple(predictions.subjects[row] for row in kept),
    )
