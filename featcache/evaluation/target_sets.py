"""Conformal intervals of numbers, and conformal sets of labels: calibrated on val, measured on a split, by subject.

Of a number, an interval reaches `limit` to both sides, the k-th smallest |truth - answer| on the n rows of val, k =
ceil((n + 1) level): on rows that are exchangeable with those it holds the truth with a probability of `level` or more.
Of a label, a set has it where its probability is at least `limit`, so found on the rows of val that have the label that
of rows with the label a share of `level` or more get it: of the labels that there are, 1 - level are missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.evaluation.json_parts import finite_or_none, interval_json
from featcache.evaluation.target_predictions import Doubles, TargetPredictions
from featcache.metrics import Interval, choose_unit, conformal_threshold, residual_limits, wilson_interval
from featcache.recipe import LABELS


@dataclass(frozen=True, slots=True)
class SubjectSets:
    """How the intervals or sets of one person's rows do."""

    subject: str
    rows: int
    coverage: float  # of all numbers, or of all labels that the rows have; nan where they have none
    size: float  # the mean number of labels in a set; of numbers nan


@dataclass(frozen=True, eq=False, kw_only=True)  # no slots: what follows from the limits is computed once
class TargetSets:
    """An interval for each number of each row, or a set of labels for each row, and how often they hold the truth."""

    level: float  # the share that was asked for
    limits: Doubles  # (outputs,) of numbers how far an interval reaches; of labels the least probability in a set
    calibrated_on: npt.NDArray[np.int64]  # (outputs,) rows of val; of labels those that have the label
    predictions: TargetPredictions  # of the rows that are measured

    @cached_property
    def members(self) -> npt.NDArray[np.bool_]:
        """(rows, outputs) whether the interval of a number holds the truth, or a set has the label."""
        part = self.predictions
        if part.kind == LABELS:
            return part.answers >= self.limits
        return np.abs(part.answers - part.truth) <= self.limits

    @cached_property
    def counts(self) -> npt.NDArray[np.bool_]:
        """(rows, outputs) what coverage is about: every number; of labels those that a row has."""
        part = self.predictions
        return part.truth > 0 if part.kind == LABELS else np.ones(part.truth.shape, dtype=bool)

    def coverage(self, output: int) -> float:
        """Return the share of rows whose number is in its interval, or, of those with a label, whose set has it.

        Args:
            output: the place of the number or label, from 0.
        """
        return _mean(self.members[:, output][self.counts[:, output]])

    def coverage_interval(self, output: int) -> Interval | None:
        """Return Wilson's interval of the coverage, over subjects or clips where there are such; None for too few.

        Args:
            output: the place of the number or label, from 0.
        """
        rows = self.counts[:, output]
        _, names = choose_unit(self.predictions.subjects, self.predictions.clips)
        group = np.unique(np.array(names)[rows], return_inverse=True)[1] if len(names) else None
        return wilson_interval(self.members[:, output][rows].astype(np.float64), group)

    def width(self, output: int) -> float:
        """Return how wide the interval of a number is, in its unit; of a label the share of all sets that have it.

        Args:
            output: the place of the number or label, from 0.
        """
        is_labels = self.predictions.kind == LABELS
        return _mean(self.members[:, output]) if is_labels else 2 * float(self.limits[output])

    @property
    def mean_size(self) -> float:
        """The mean number of labels in a set."""
        return float(self.members.sum(axis=1).mean()) if len(self.members) else float("nan")

    @cached_property
    def subjects(self) -> tuple[SubjectSets, ...]:
        """The same by subject, in the order of their names; none where no row names one."""
        return tuple(self._of_subjects()) if any(self.predictions.subjects) else ()

    def _of_subjects(self) -> Iterator[SubjectSets]:
        names = np.array(self.predictions.subjects)
        is_labels = self.predictions.kind == LABELS
        for subject in np.unique(names).tolist():
            rows = names == subject
            members = self.members[rows]
            size = float(members.sum(axis=1).mean()) if is_labels else float("nan")
            yield SubjectSets(subject, int(rows.sum()), _mean(members[self.counts[rows]]), size)

    def to_json(self) -> dict[str, Any]:
        """Return level, limits, coverage and widths, and the figures of each subject."""
        part = self.predictions
        return {
            "level": self.level,
            "outputs": [
                {
                    "name": name,
                    "limit": finite_or_none(float(self.limits[place])),
                    "calibrated_on": int(self.calibrated_on[place]),
                    "coverage": finite_or_none(self.coverage(place)),
                    "coverage_interval": interval_json(self.coverage_interval(place)),
                    "width": finite_or_none(self.width(place)),
                }
                for place, name in enumerate(part.names)
            ],
            "mean_size": finite_or_none(self.mean_size) if part.kind == LABELS else None,
            "subjects": [
                {
                    "subject": person.subject,
                    "rows": person.rows,
                    "coverage": finite_or_none(person.coverage),
                    "mean_size": finite_or_none(person.size),
                }
                for person in self.subjects
            ],
        }


def make_target_sets(predictions: TargetPredictions, on_val: TargetPredictions, level: float) -> TargetSets:
    """Return the intervals or sets of a split's rows.

    Args:
        predictions: of the split.
        on_val: the same head's on val, by the same unit.
        level: the share of numbers, or of the labels that rows have, that is to be held.
    """
    if predictions.kind == LABELS:
        pairs = zip(on_val.truth.T > 0, on_val.answers.T, strict=True)
        of_label = [answers[has][:, None] for has, answers in pairs]
        limits = np.array([conformal_threshold(p, np.zeros(len(p), np.int64), level) for p in of_label])
        rows = np.array([len(p) for p in of_label], dtype=np.int64)
    else:
        limits = residual_limits(on_val.truth, on_val.answers, level)
        rows = np.full(len(limits), len(on_val.truth))
    return TargetSets(level=level, limits=limits, calibrated_on=rows, predictions=predictions)


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")
