"""Two heads on the same rows: the differences of their figures, with intervals."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.errors import CacheError
from featcache.evaluation.evaluate_head import HeadOnSplit, predict_on_split
from featcache.evaluation.evaluation import Evaluation
from featcache.evaluation.json_parts import finite_or_none, intervals_json, recalls_json
from featcache.evaluation.options import UNITS, EvaluationOptions, separate_options, without_views
from featcache.heads.classifiers import HeadFunction
from featcache.metrics import (
    Intervals,
    Shares,
    bootstrap_differences,
    zero_intervals,
)


@dataclass(frozen=True, eq=False)
class PairedEvaluation:
    """One head less another, on the same rows."""

    first: Evaluation
    second: Evaluation
    intervals: Intervals  # of the differences

    @property
    def accuracy(self) -> float:
        """How much more accurate the first head is; negative where it is less."""
        return self.first.accuracy - self.second.accuracy

    @property
    def macro_recall(self) -> float:
        """The difference of macro recall."""
        return self.first.macro_recall - self.second.macro_recall

    @cached_property
    def recall(self) -> Shares:
        """The differences of recall, (classes,); nan where a class has no support."""
        return self.first.recall - self.second.recall

    def to_json(self) -> dict[str, Any]:
        """Return the report of the first head, and under `against` the second's figures and the differences."""
        return {
            **self.first.to_json(),
            "against": {
                "head": self.second.head,
                "accuracy": finite_or_none(self.second.accuracy),
                "macro_recall": finite_or_none(self.second.macro_recall),
                "notes": list(self.second.notes),
                "difference": {
                    "accuracy": finite_or_none(self.accuracy),
                    "macro_recall": finite_or_none(self.macro_recall),
                    "intervals": intervals_json(self.intervals, accuracy=self.accuracy, macro_recall=self.macro_recall),
                    "classes": recalls_json(self.first.classes, self.recall, self.intervals),
                },
            },
        }


@checked
def evaluate_pair(
    head: str | HeadFunction | None,
    against: str | HeadFunction,
    **options: Unpack[EvaluationOptions],
) -> PairedEvaluation:
    """Evaluate two heads on the same rows, and the differences between them.

    Args:
        head: the one head, as of `evaluate`; None for the best.
        against: the other head, as of `evaluate`, which is subtracted.
        **options: as of `evaluate`; `test_views` is about the one head, the other one gets the plain images.

    Returns:
        Both evaluations, and the differences with their intervals.

    Raises:
        UsageError: as `evaluate`.
        CacheError: as `evaluate`; or the heads' stores hold other rows of the split, or none.
        DataError: as `evaluate`.
        MachineError: as `evaluate`.
    """
    request, choice, by = separate_options(options)
    first = predict_on_split(request, head, **choice)
    second = predict_on_split(request, against, **without_views(choice))
    return pair_predictions(first, second, by)


def pair_predictions(first: HeadOnSplit, second: HeadOnSplit, by: str = UNITS[0]) -> PairedEvaluation:
    """Return the comparison of two heads that were evaluated on the same split.

    Args:
        first: the one head on the split.
        second: the other head, which is subtracted.
        by: "image" or "clip": what one prediction is about, as for `predict_on_split`.

    Raises:
        CacheError: the heads' stores hold other rows of the split, or none.
    """
    if (first.features.paths, first.features.classes, first.features.split) != (
        second.features.paths, second.features.classes, second.features.split,
    ) or (first.features.y != second.features.y).any():  # fmt: skip
        raise CacheError(
            f"heads {first.head.name} and {second.head.name} were trained on stores that hold other rows of split "
            f"{first.features.split!r}. Run `featcache extract --split {first.features.split}` with each trunk again."
        )
    predictions = first.predictions(by), second.predictions(by)
    if not len(predictions[0].truth):
        raise CacheError(f"split {first.features.split!r} has no rows to compare heads on")
    groups = predictions[0].count_groups(np.stack([head.right for head in predictions], axis=1))
    intervals = zero_intervals(groups) if _identity(first) == _identity(second) else bootstrap_differences(groups)
    evaluated = second.evaluation(by)
    if first.test_views and not second.test_views:
        note = f"B, {second.head.name}, is on plain images: --test-views is about A alone"
        evaluated = replace(evaluated, notes=(*evaluated.notes, note))
    return PairedEvaluation(first.evaluation(by), evaluated, intervals)


def _identity(head: HeadOnSplit) -> tuple[object, ...]:
    """Return what determines a head's predictions on given rows: the head, and the views it is averaged over."""
    return head.store.name, head.head.name, head.test_views, head.augment
