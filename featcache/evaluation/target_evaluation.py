"""The evaluation of a head on several labels a row, or on numbers: computed here, drawn elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from featcache.evaluation.json_parts import finite_or_none, interval_json, is_too_few
from featcache.evaluation.target_predictions import Doubles, TargetPredictions
from featcache.evaluation.target_sets import TargetSets
from featcache.heads.saved import SavedTemperature
from featcache.metrics import (
    LABEL_METRICS,
    VALUE_FIGURES,
    Interval,
    TargetIntervals,
    average_precision,
    f1_scores,
    label_metrics,
    label_outcomes,
    value_figures,
    value_metrics,
)
from featcache.recipe import LABELS

OUTPUT_FIGURES = {LABELS: ("average_precision", "f1")}  # of one label; of a number those of all together


@dataclass(frozen=True, eq=False, kw_only=True)  # no slots: what follows from the predictions is computed once
class TargetEvaluation:
    """One head on one split with several labels or numbers a row, and all that follows from its predictions."""

    head: str
    handle: str = ""
    data_set: str
    variant: str = ""
    split: str
    predictions: TargetPredictions
    intervals: TargetIntervals | None = None
    failed: int = 0  # rows left out because their image could not be embedded
    selected_by: str = ""
    chosen: str = ""
    notes: tuple[str, ...] = ()
    temperature: SavedTemperature | None = None  # by which the probabilities of labels are; None where there is none
    sets: TargetSets | None = None  # where conformal intervals or sets were asked for

    @property
    def kind(self) -> str:
        """LABELS or VALUE."""
        return self.predictions.kind

    @property
    def names(self) -> tuple[str, ...]:
        """Of the labels or numbers."""
        return self.predictions.names

    @property
    def rows(self) -> int:
        """How many rows were evaluated."""
        return len(self.predictions.truth)

    @property
    def sentence(self) -> str:
        """Which head it is and, where something chose it, why."""
        chosen_by = f", chosen by {self.selected_by}" if self.selected_by else ""
        return self.chosen or f"head {self.handle or self.head}{chosen_by}"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics over all labels or numbers."""
        return LABEL_METRICS if self.kind == LABELS else VALUE_FIGURES

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics over all labels or numbers, by name; nan where one is undefined."""
        part = self.predictions
        if self.kind == LABELS:
            return dict(label_metrics(part.truth, part.answers, part.thresholds))
        return dict(value_metrics(part.truth, part.answers))

    @property
    def overall_intervals(self) -> tuple[Interval | None, ...]:
        """The interval of each metric, in the order of `metric_names`."""
        return (None,) * len(self.metric_names) if self.intervals is None else self.intervals.overall

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the figures of one label or number."""
        return OUTPUT_FIGURES.get(self.kind, VALUE_FIGURES)

    @cached_property
    def outputs(self) -> Doubles:
        """The figures of each label or number, (outputs, figures), in the order of `output_names`."""
        part = self.predictions
        if self.kind != LABELS:
            return value_figures(part.truth, part.answers).T
        counts = self.counts
        f1 = np.where(counts.sum(axis=0) > 0, f1_scores(counts), math.nan)
        return np.stack([average_precision(part.truth, part.answers), f1], axis=1)

    @cached_property
    def counts(self) -> Doubles:
        """Of each label the rows that are right with it, wrong with it, and wrong without it, (3, labels)."""
        counts: Doubles = label_outcomes(self.predictions.truth, self.predictions.predicted > 0).sum(axis=1)
        return counts

    @property
    def support(self) -> list[int]:
        """How many rows have each label, (labels,)."""
        return [int(count) for count in self.predictions.truth.sum(axis=0)]

    @property
    def baseline(self) -> float:
        """The mean average precision of a random order: the mean share of rows that have a label that occurs."""
        shares = self.predictions.truth.mean(axis=0) if self.rows else np.array([math.nan])
        return float(shares[shares > 0].mean()) if (shares > 0).any() else math.nan

    def output_intervals(self, output: int) -> tuple[Interval | None, ...]:
        """Return the intervals of one label's or number's figures.

        Args:
            output: its place, from 0.
        """
        count = len(self.output_names)
        return (None,) * count if self.intervals is None else self.intervals.outputs[output][:count]

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache report --json` for several labels or numbers a row."""
        intervals = self.intervals
        return {
            "head": self.head,
            "data_set": self.data_set,
            "variant": self.variant or None,
            "split": self.split,
            "by": self.predictions.by,
            "targets": self.kind,
            "rows": self.rows,
            "failed": self.failed,
            "metrics": figures_json(self.metric_names, list(self.metrics.values()), self.overall_intervals),
            "outputs": [self._output_json(output) for output in range(len(self.names))],
            "intervals": None
            if intervals is None
            else {
                "unit": intervals.unit,
                "groups": intervals.groups,
                "resamples": intervals.resamples,
                "level": intervals.level,
            },
            "temperature": None if self.temperature is None else _temperature_json(self.temperature),
            "conformal": None if self.sets is None else self.sets.to_json(),
            "notes": list(self.notes),
            "chosen": self.chosen or None,
        }

    def _output_json(self, output: int) -> dict[str, Any]:
        figures = figures_json(self.output_names, self.outputs[output].tolist(), self.output_intervals(output))
        if self.kind != LABELS:
            return {"name": self.names[output], **figures}
        right, wrong, missed = (int(count) for count in self.counts[:, output])
        return {
            "name": self.names[output],
            "support": right + missed,
            "threshold": float(self.predictions.thresholds[output]),
            "precision": right / (right + wrong) if right + wrong else None,
            "recall": right / (right + missed) if right + missed else None,
            **figures,
        }


def _temperature_json(fitted: SavedTemperature) -> dict[str, Any]:
    """Return the temperature of labels, what it was fitted on, and the mean loss of a label there."""
    before, after = finite_or_none(fitted.loss_before), finite_or_none(fitted.loss)
    return {"value": fitted.value, "rows": fitted.rows, "loss_before": before, "loss": after}


def figures_json(
    names: Sequence[str], values: Sequence[float], intervals: Sequence[Interval | None]
) -> dict[str, dict[str, Any]]:
    """Return each figure with its interval.

    Args:
        names: of the figures.
        values: of the figures, nan where one is undefined.
        intervals: of the figures, None where there is none.
    """
    return {
        name: {
            "value": finite_or_none(value),
            "interval": interval_json(interval),
            "too_few": is_too_few(value, interval),
        }
        for name, value, interval in zip(names, values, intervals, strict=True)
    }
