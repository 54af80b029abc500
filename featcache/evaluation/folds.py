"""One recipe on several folds: each fold's own head on its own split, and the average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from featcache.arguments import checked
from featcache.errors import CacheError, UsageError, name_fold_in_errors
from featcache.evaluation.evaluate_head import HeadOnSplit, predict_on_split
from featcache.evaluation.evaluation import Evaluation
from featcache.evaluation.json_parts import are_too_few, finite_or_none, intervals_json, recalls_json
from featcache.evaluation.missing_folds import refuse_missing_folds
from featcache.evaluation.options import UNITS, EvaluationOptions, separate_options
from featcache.evaluation.predictions import SplitPredictions
from featcache.metrics import (
    Counts,
    Intervals,
    Shares,
    bootstrap_intervals,
    choose_unit,
    count_groups,
)

if TYPE_CHECKING:
    from featcache.evaluation.head_on_targets import HeadOnTargets


@dataclass(frozen=True, eq=False)
class FoldsEvaluation:
    """The figures of several folds, each by its own head, and their averages."""

    numbers: tuple[int, ...]
    folds: tuple[Evaluation, ...]
    intervals: Intervals  # of the averages
    settings_note: str = ""  # where the folds' heads have different settings: which, in a sentence

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

    @property
    def recall_is_too_few(self) -> tuple[bool, ...]:
        """(classes,) whether a class has an average recall, but too few groups for an interval of it."""
        return are_too_few(self.recall, self.intervals)

    @cached_property
    def confusion(self) -> Counts:
        """The sum of the folds' confusion matrices, (classes, classes) int64; rows are the truth."""
        confusion: Counts = np.sum([fold.confusion for fold in self.folds], axis=0)
        return confusion

    @property
    def notes(self) -> tuple[str, ...]:
        """What every report must show of the average and of its folds, each sentence once."""
        own = (self.settings_note,) if self.settings_note else ()
        return tuple(dict.fromkeys((*own, *(note for fold in self.folds for note in fold.notes))))

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
            "notes": list(self.notes),
        }


@checked
def evaluate_folds(
    folds: Sequence[int],
    head: str | None = None,
    **options: Unpack[EvaluationOptions],
) -> FoldsEvaluation:
    """Evaluate each fold's own head on its own split, and average.

    Args:
        folds: their numbers.
        head: the start of a name that one head of each fold has; None for the best of each.
        **options: as of `evaluate`.

    Returns:
        The evaluation of each fold, and their averages with intervals.

    Raises:
        UsageError: as `evaluate`; or no fold, one twice, or a data set without folds.
        CacheError: as `evaluate`, for any fold; or the folds have other classes or splits, or one has no rows.
        DataError: as `evaluate`, for any fold.
        MachineError: as `evaluate`.
    """
    heads = predict_on_folds(folds, head, **options)
    return average_folds(heads, options.get("by", UNITS[0]))


@checked
def predict_folds(
    folds: Sequence[int],
    head: str | None = None,
    **options: Unpack[EvaluationOptions],
) -> dict[int, SplitPredictions]:
    """Return what each fold's own head predicts on its own split, by the fold's number.

    Args:
        folds: their numbers.
        head: the start of a name that one head of each fold has; None for the best of each.
        **options: as of `evaluate`.

    Raises:
        UsageError: as `evaluate_folds`.
        CacheError: as `evaluate_folds`.
        DataError: as `evaluate_folds`.
        MachineError: as `evaluate_folds`.
    """
    heads, by = predict_on_folds(folds, head, **options), options.get("by", UNITS[0])
    return {number: head_on_fold.predictions(by) for number, head_on_fold in heads.items()}


def predict_on_folds(
    folds: Sequence[int],
    head: str | None = None,
    **options: Unpack[EvaluationOptions],
) -> dict[int, HeadOnSplit]:
    """Return each fold's own head on its own split, by the fold's number.

    Args:
        folds: as of `evaluate_folds`.
        head: as of `evaluate_folds`.
        **options: as of `evaluate_folds`.

    Raises:
        UsageError: as `evaluate_folds`.
        CacheError: as `evaluate_folds`.
        DataError: as `evaluate_folds`.
        MachineError: as `evaluate_folds`.
    """
    request, choice, by = separate_options(options)
    refuse_bad_folds(folds, choice.get("conformal"))
    requests = {fold: replace(request, fold=fold) for fold in folds}
    refuse_missing_folds(requests)
    heads = {}
    for fold, on_fold in requests.items():
        with name_fold_in_errors(fold):
            heads[fold] = predict_on_split(on_fold, head, **choice)
    if len({(part.features.classes, part.features.split) for part in heads.values()}) != 1:
        raise CacheError("the folds have other classes or other splits: extract them with one recipe, then fit heads")
    if empty := [fold for fold, part in heads.items() if not len(part.predictions(by).truth)]:
        extract = requests[empty[0]].command_line("extract")
        raise CacheError(f"fold {empty[0]}: no rows to evaluate on; run `{extract}` first")
    return heads


def refuse_bad_folds(folds: Sequence[int], conformal: float | None) -> None:
    """Raise a UsageError where folds cannot be averaged.

    Args:
        folds: as of `evaluate_folds`.
        conformal: the share that conformal sets are to hold; None where none are wanted.

    Raises:
        UsageError: no fold, one twice, or conformal sets, which are those of one head.
    """
    if not folds or len(set(folds)) != len(folds):
        raise UsageError(f"--folds: found {','.join(map(str, folds)) or 'none'}, expected different numbers: 0,1,2")
    if conformal is not None:
        error = UsageError("--conformal: the sets are those of one head; leave it out, or leave out --folds")
        raise error.correct("--conformal", None)


def average_folds(heads: Mapping[int, HeadOnSplit], by: str = UNITS[0]) -> FoldsEvaluation:
    """Return the evaluation of each fold and their averages.

    Args:
        heads: what `predict_on_folds` returned.
        by: "image" or "clip": what one prediction is about.
    """
    evaluations = tuple(replace(part.evaluation(by), beside=None) for part in heads.values())
    intervals = _average_intervals([part.predictions(by) for part in heads.values()])
    return FoldsEvaluation(tuple(heads), evaluations, intervals, describe_differences(heads))


def describe_differences(heads: "Mapping[int, HeadOnSplit] | Mapping[int, HeadOnTargets]") -> str:
    """Return how the settings of the folds' heads differ, in a sentence; "" where they are the same.

    Args:
        heads: each fold's own head on its own split.
    """
    models = {fold: part.head for fold, part in heads.items()}
    settings = {fold: {"classifier": model.kind, **model.settings} for fold, model in models.items()}
    names = dict.fromkeys(name for of_fold in settings.values() for name in of_fold)
    differing = [name for name in names if len({repr(of_fold.get(name)) for of_fold in settings.values()}) > 1]
    if not differing:
        return ""
    stated = [
        f"fold {fold} has " + ", ".join(f"{name} {of_fold[name]}" for name in differing if name in of_fold)
        for fold, of_fold in settings.items()
        if any(name in of_fold for name in differing)
    ]
    return f"the folds' heads have different settings, so the average is not of one recipe: {'; '.join(stated)}"


def _average_intervals(folds: Sequence[SplitPredictions]) -> Intervals:
    """Return the intervals of the folds' averages: people are drawn once for all of them."""
    unit, names = choose_unit(
        tuple(name for fold in folds for name in fold.subjects), tuple(name for fold in folds for name in fold.clips)
    )
    if not len(names):  # an image may be a row of several folds: it is drawn as one
        names = tuple(path for fold in folds for path in fold.paths)
    truth = np.concatenate([fold.truth for fold in folds])
    number = np.repeat(np.arange(len(folds)), [len(fold.truth) for fold in folds])
    is_own = number[:, None] == np.arange(len(folds))  # (rows, folds)
    right = np.concatenate([fold.right for fold in folds])[:, None] & is_own
    return bootstrap_intervals(count_groups(unit, names, truth, right, len(folds[0].classes), is_own))
