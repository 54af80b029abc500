"""Two heads on the same rows, and one recipe on several folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.evaluation.evaluate_head import UNITS, HeadOnSplit, predict_on_split
from featcache.evaluation.evaluation import Evaluation
from featcache.evaluation.json_parts import finite_or_none, intervals_json, recalls_json
from featcache.evaluation.missing_folds import refuse_missing_folds
from featcache.evaluation.predictions import SplitPredictions
from featcache.metrics import (
    Intervals,
    Shares,
    bootstrap_differences,
    bootstrap_intervals,
    choose_unit,
    count_groups,
    zero_intervals,
)
from featcache.recipe import StoreOptions


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
                "difference": {
                    "accuracy": finite_or_none(self.accuracy),
                    "macro_recall": finite_or_none(self.macro_recall),
                    "intervals": intervals_json(self.intervals, accuracy=self.accuracy, macro_recall=self.macro_recall),
                    "classes": recalls_json(self.first.classes, self.recall, self.intervals),
                },
            },
        }


@dataclass(frozen=True, eq=False)
class FoldsEvaluation:
    """The figures of several folds, each by its own head, and their averages."""

    numbers: tuple[int, ...]
    folds: tuple[Evaluation, ...]
    intervals: Intervals  # of the averages

    @property
    def accuracy(self) -> float:
        """The mean of the folds' accuracies."""
        return float(np.mean([fold.accuracy for fold in self.folds]))

    @property
    def macro_recall(self) -> float:
        """The mean of the folds' macro recalls: the figure of Drive&Act's protocol, where they are by clip."""
        return float(np.mean([fold.macro_recall for fold in self.folds]))

    @cached_property
    def recall(self) -> Shares:
        """The mean over the folds in which a class has support, (classes,); nan where in none."""
        recall = np.array([fold.recall for fold in self.folds])
        is_defined = ~np.isnan(recall)
        with np.errstate(invalid="ignore"):
            mean: Shares = np.where(is_defined, recall, 0).sum(axis=0) / is_defined.sum(axis=0)
        return mean

    def to_json(self) -> dict[str, Any]:
        """Return the averages, and each fold's own report."""
        first = self.folds[0]
        return {
            "split": first.split,
            "by": first.by,
            "clip_rule": first.rule or None,
            "rows": sum(fold.rows for fold in self.folds),
            "accuracy": finite_or_none(self.accuracy),
            "macro_recall": finite_or_none(self.macro_recall),
            "intervals": intervals_json(self.intervals, accuracy=self.accuracy, macro_recall=self.macro_recall),
            "classes": recalls_json(first.classes, self.recall, self.intervals),
            "folds": [
                {"fold": number, **fold.to_json()} for number, fold in zip(self.numbers, self.folds, strict=True)
            ],
        }


@checked
def evaluate_pair(
    head: str | None,
    against: str,
    *,
    split: str | None = None,
    by: str = UNITS[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    **options: Unpack[StoreOptions],
) -> PairedEvaluation:
    """Evaluate two heads on the same rows, and the differences between them.

    Args:
        head: the one head; None for the best.
        against: the other head, which is subtracted.
        split: as of `evaluate`.
        by: as of `evaluate`.
        clip_rule: as of `evaluate`.
        allow_shared_subjects: as of `evaluate`.
        **options: as of `evaluate`.

    Returns:
        Both evaluations, and the differences with their intervals.

    Raises:
        UsageError: as `evaluate`.
        CacheError: as `evaluate`; or the heads' stores hold other rows of the split, or none.
        DataError: as `evaluate`.
        MachineError: as `evaluate`.
    """
    request = DatasetRequest(**options)
    first, second = (
        predict_on_split(
            request, name, split=split, by=by, clip_rule=clip_rule, allow_shared_subjects=allow_shared_subjects
        )
        for name in (head, against)
    )
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
    is_same = (first.store.name, first.head.name) == (second.store.name, second.head.name)
    intervals = zero_intervals(groups) if is_same else bootstrap_differences(groups)
    return PairedEvaluation(first.evaluation(by), second.evaluation(by), intervals)


@checked
def evaluate_folds(
    folds: Sequence[int],
    head: str | None = None,
    *,
    split: str | None = None,
    by: str = UNITS[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    **options: Unpack[StoreOptions],
) -> FoldsEvaluation:
    """Evaluate each fold's own head on its own split, and average.

    Args:
        folds: their numbers.
        head: the start of a name that one head of each fold has; None for the best of each.
        split: as of `evaluate`.
        by: as of `evaluate`.
        clip_rule: as of `evaluate`.
        allow_shared_subjects: as of `evaluate`.
        **options: as of `evaluate`.

    Returns:
        The evaluation of each fold, and their averages with intervals.

    Raises:
        UsageError: as `evaluate`; or no fold, one twice, or a data set without folds.
        CacheError: as `evaluate`, for any fold; or the folds have other classes or splits, or one has no rows.
        DataError: as `evaluate`, for any fold.
        MachineError: as `evaluate`.
    """
    if not folds or len(set(folds)) != len(folds):
        raise UsageError(f"--folds: found {','.join(map(str, folds)) or 'none'}, expected different numbers: 0,1,2")
    requests = [replace(DatasetRequest(**options), fold=fold) for fold in folds]
    refuse_missing_folds(dict(zip(folds, requests, strict=True)))
    heads = [
        predict_on_split(
            request, head, split=split, by=by, clip_rule=clip_rule, allow_shared_subjects=allow_shared_subjects
        )
        for request in requests
    ]
    predictions = [head_on_fold.predictions(by) for head_on_fold in heads]
    if len({part.classes for part in predictions}) != 1 or len({part.features.split for part in heads}) != 1:
        raise CacheError("the folds have other classes or other splits: extract them with one recipe, then fit heads")
    if not all(len(part.truth) for part in predictions):
        raise CacheError("a fold has no rows to evaluate on; run `featcache extract` for it first")
    evaluations = tuple(replace(head_on_fold.evaluation(by), beside=None) for head_on_fold in heads)
    return FoldsEvaluation(tuple(folds), evaluations, _average_intervals(predictions))


def _average_intervals(folds: Sequence[SplitPredictions]) -> Intervals:
    """Return the intervals of the folds' averages: people are drawn once for all of them."""
    unit, names = choose_unit(
        tuple(name for fold in folds for name in fold.subjects), tuple(name for fold in folds for name in fold.clips)
    )
    truth = np.concatenate([fold.truth for fold in folds])
    number = np.repeat(np.arange(len(folds)), [len(fold.truth) for fold in folds])
    is_own = number[:, None] == np.arange(len(folds))  # (rows, folds)
    right = np.concatenate([fold.right for fold in folds])[:, None] & is_own
    return bootstrap_intervals(count_groups(unit, names, truth, right, len(folds[0].classes), is_own))
