"""Two heads on the same rows with several labels or numbers: the differences of their figures, with intervals."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError
from featcache.evaluation.head_on_targets import (
    HeadOnTargets,
    TargetOptions,
    TargetSplitOptions,
    predict_on_targets,
    without_target_views,
)
from featcache.evaluation.json_parts import finite_or_none
from featcache.evaluation.target_evaluation import TargetEvaluation, figures_json
from featcache.metrics import LOWER_IS_BETTER, Interval, TargetIntervals, difference_intervals
from featcache.recipe import KeptHeadOptions, pick_options


@dataclass(frozen=True, eq=False)
class PairedTargets:
    """One head less another, on the same rows with several labels or numbers."""

    first: TargetEvaluation
    second: TargetEvaluation
    intervals: TargetIntervals  # of the differences

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The differences of the metrics over all labels or numbers, by name; the chief one first."""
        return {name: value - self.second.metrics[name] for name, value in self.first.metrics.items()}

    @cached_property
    def outputs(self) -> npt.NDArray[np.float64]:
        """The differences of the figures of each label or number, (outputs, figures)."""
        return self.first.outputs - self.second.outputs

    @property
    def leads(self) -> str:
        """Which head is better by the chief metric: "A" or "B"; "" where the interval of the difference holds 0."""
        name, interval = self.first.metric_names[0], self.intervals.overall[0]
        if interval is None or interval.low <= 0 <= interval.high:
            return ""
        return "A" if (self.metrics[name] > 0) != (name in LOWER_IS_BETTER) else "B"

    def output_intervals(self, output: int) -> tuple[Interval | None, ...]:
        """Return the intervals of the differences of one label's or number's figures.

        Args:
            output: its place, from 0.
        """
        return self.intervals.outputs[output][: len(self.first.output_names)]

    def to_json(self) -> dict[str, Any]:
        """Return the report of the first head, and under `against` the second's metrics and the differences."""
        names, intervals = self.first.metric_names, self.intervals
        return {
            **self.first.to_json(),
            "against": {
                "head": self.second.head,
                "metrics": {name: finite_or_none(self.second.metrics[name]) for name in names},
                "notes": list(self.second.notes),
                "difference": {
                    "metrics": figures_json(names, list(self.metrics.values()), intervals.overall),
                    "outputs": [
                        {"name": name, **self._output_json(output)} for output, name in enumerate(self.first.names)
                    ],
                    "intervals": {
                        "unit": intervals.unit,
                        "groups": intervals.groups,
                        "resamples": intervals.resamples,
                        "level": intervals.level,
                    },
                },
            },
        }

    def _output_json(self, output: int) -> dict[str, Any]:
        return figures_json(self.first.output_names, self.outputs[output].tolist(), self.output_intervals(output))


@checked
def evaluate_target_pair(head: str | None, against: str, **options: Unpack[TargetOptions]) -> PairedTargets:
    """Evaluate two heads on the same rows with several labels or numbers, and the differences between them.

    Args:
        head: the one head, as of `evaluate_targets`; None for the best.
        against: the other head, which is subtracted.
        **options: as of `evaluate_targets`.

    Returns:
        Both evaluations, and the differences with their intervals.

    Raises:
        UsageError: as `evaluate_targets`.
        CacheError: as `evaluate_targets`; or the heads' stores hold other rows of the split, or none.
        DataError: as `evaluate_targets`.
        MachineError: as `evaluate_targets`.
    """
    request = DatasetRequest(**pick_options(options, KeptHeadOptions))
    choice = pick_options(options, TargetSplitOptions)
    first = predict_on_targets(request, head, **choice)
    return pair_targets(first, predict_on_targets(request, against, **without_target_views(choice)))


def pair_targets(first: HeadOnTargets, second: HeadOnTargets) -> PairedTargets:
    """Return the comparison of two heads that were evaluated on the same split.

    Args:
        first: the one head on the split.
        second: the other head, which is subtracted.

    Raises:
        CacheError: the heads' stores hold other rows of the split, or none.
    """
    one, other = first.predictions, second.predictions
    split = first.features.split
    is_same = (one.paths, one.names, one.kind, split) == (other.paths, other.names, other.kind, second.features.split)
    if not is_same or (one.truth != other.truth).any():
        raise CacheError(
            f"heads {first.head.name} and {second.head.name} were trained on stores that hold other rows of split "
            f"{split!r}. Run `featcache extract --split {split}` with each trunk again."
        )
    if not len(one.truth):
        raise CacheError(f"split {split!r} has no rows to compare heads on")
    intervals = difference_intervals(one.figures(), other.figures(), one.truth, one.subjects, one.clips)
    return PairedTargets(first.evaluation(), second.evaluation(), intervals)
