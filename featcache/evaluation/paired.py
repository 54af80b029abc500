"""Two heads on the same rows, and one recipe on several folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import CacheError, UsageError
from featcache.evaluation.evaluate_head import BY, Examined, examine, grouped
from featcache.evaluation.evaluation import Evaluation, intervals_json, or_none, pair, to_json, too_few_of
from featcache.evaluation.missing_folds import refuse_missing
from featcache.evaluation.predictions import Answers
from featcache.metrics import Intervals, differences, group, intervals, no_difference, unit_of
from featcache.recipe import StoreOptions


@dataclass(frozen=True, eq=False)
class Paired:
    """One head less another, on the same rows."""

    one: Evaluation
    other: Evaluation
    intervals: Intervals  # of the differences

    @property
    def accuracy(self) -> float:
        """How much more accurate the one is; negative where it is less."""
        return self.one.accuracy - self.other.accuracy

    @property
    def macro_recall(self) -> float:
        """The difference of macro recall."""
        return self.one.macro_recall - self.other.macro_recall

    @cached_property
    def recall(self) -> npt.NDArray[np.float64]:
        """The differences of recall, (classes,); nan where a class has no support."""
        return self.one.recall - self.other.recall

    def to_json(self) -> dict[str, Any]:
        """The report of the one, and under `against` the other's figures and the differences."""
        few = too_few_of(self.recall, self.intervals)
        names = zip(self.one.classes, self.recall.tolist(), self.intervals.recall, few, strict=True)
        return {
            **to_json(self.one),
            "against": {
                "head": self.other.head,
                "accuracy": or_none(self.other.accuracy),
                "macro_recall": or_none(self.other.macro_recall),
                "difference": {
                    "accuracy": or_none(self.accuracy),
                    "macro_recall": or_none(self.macro_recall),
                    "intervals": intervals_json(self.intervals, accuracy=self.accuracy, macro_recall=self.macro_recall),
                    "classes": [
                        {"name": name, "recall": or_none(recall), "recall_interval": pair(interval), "too_few": too_few}
                        for name, recall, interval, too_few in names
                    ],
                },
            },
        }


@dataclass(frozen=True, eq=False)
class Folds:
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
    def recall(self) -> npt.NDArray[np.float64]:
        """The mean over the folds in which a class has support, (classes,); nan where in none."""
        each = np.array([fold.recall for fold in self.folds])
        known = ~np.isnan(each)
        with np.errstate(invalid="ignore"):
            mean: npt.NDArray[np.float64] = np.where(known, each, 0).sum(axis=0) / known.sum(axis=0)
        return mean

    def to_json(self) -> dict[str, Any]:
        """The averages, and each fold's own report."""
        first = self.folds[0]
        few = too_few_of(self.recall, self.intervals)
        names = zip(first.classes, self.recall.tolist(), self.intervals.recall, few, strict=True)
        return {
            "split": first.split,
            "by": first.by,
            "clip_rule": first.rule or None,
            "rows": sum(fold.rows for fold in self.folds),
            "accuracy": or_none(self.accuracy),
            "macro_recall": or_none(self.macro_recall),
            "intervals": intervals_json(self.intervals, accuracy=self.accuracy, macro_recall=self.macro_recall),
            "classes": [
                {"name": name, "recall": or_none(recall), "recall_interval": pair(interval), "too_few": too_few}
                for name, recall, interval, too_few in names
            ],
            "folds": [{"fold": number, **to_json(fold)} for number, fold in zip(self.numbers, self.folds, strict=True)],
        }


@checked
def difference(
    head: str | None,
    against: str,
    *,
    split: str | None = None,
    by: str = BY[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    **where: Unpack[StoreOptions],
) -> Paired:
    """Two heads on the same rows: what differs, with the interval of the difference; see `evaluate`.

    Raises:
        CacheError: as `evaluate`; or the heads' stores hold other rows of the split.
    """
    asked = Asked(**where)
    one, other = (
        examine(asked, name, split=split, by=by, clip_rule=clip_rule, allow_shared_subjects=allow_shared_subjects)
        for name in (head, against)
    )
    return evaluate_pair(one, other, by)


def evaluate_pair(one: Examined, other: Examined, by: str = BY[0]) -> Paired:
    """The comparison of two heads that were examined on the same split."""
    if (one.features.paths, one.features.classes, one.features.split) != (
        other.features.paths, other.features.classes, other.features.split,
    ) or (one.features.y != other.features.y).any():  # fmt: skip
        raise CacheError(
            f"heads {one.head.name} and {other.head.name} were trained on stores that hold other rows of split "
            f"{one.features.split!r}. Run `featcache extract --split {one.features.split}` with each trunk again."
        )
    pairs = _answers(one, by), _answers(other, by)
    if not len(pairs[0].truth):
        raise CacheError(f"split {one.features.split!r} has no rows to compare heads on")
    groups = grouped(pairs[0], np.stack([answers.right for answers in pairs], axis=1))
    is_same = (one.store.name, one.head.name) == (other.store.name, other.head.name)
    return Paired(one.evaluation(by), other.evaluation(by), no_difference(groups) if is_same else differences(groups))


@checked
def evaluate_folds(
    folds: Sequence[int],
    head: str | None = None,
    *,
    split: str | None = None,
    by: str = BY[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    **where: Unpack[StoreOptions],
) -> Folds:
    """Evaluate each fold's own head on its own split, and average.

    `head` is the start of a name that one head of each fold has; see `evaluate`.

    Raises:
        UsageError: no fold, one twice, or a data set without folds.
        CacheError: as `evaluate`, for any fold; or the folds have other classes.
    """
    if not folds or len(set(folds)) != len(folds):
        raise UsageError(f"--folds: found {','.join(map(str, folds)) or 'none'}, expected different numbers: 0,1,2")
    each = [Asked(**where, fold=fold) for fold in folds]
    refuse_missing(dict(zip(folds, each, strict=True)))
    found = [
        examine(asked, head, split=split, by=by, clip_rule=clip_rule, allow_shared_subjects=allow_shared_subjects)
        for asked in each
    ]
    answers = [_answers(one, by) for one in found]
    if len({one.classes for one in answers}) != 1 or len({one.features.split for one in found}) != 1:
        raise CacheError("the folds have other classes or other splits: extract them with one recipe, then fit heads")
    if not all(len(one.truth) for one in answers):
        raise CacheError("a fold has no rows to evaluate on; run `featcache extract` for it first")
    return Folds(tuple(folds), tuple(replace(one.evaluation(by), beside=None) for one in found), _averaged(answers))


def _averaged(answers: Sequence[Answers]) -> Intervals:
    """The intervals of the folds' averages: people are drawn once for all folds, since they may stand in several."""
    subjects = tuple(name for one in answers for name in one.subjects)
    clips = tuple(name for one in answers for name in one.clips)
    unit, names = unit_of(subjects, clips)
    truth = np.concatenate([one.truth for one in answers])
    fold = np.repeat(np.arange(len(answers)), [len(one.truth) for one in answers])
    own = fold[:, None] == np.arange(len(answers))
    right = np.concatenate([one.right for one in answers])[:, None] & own
    return intervals(group(unit, names, truth, right, len(answers[0].classes), own))


def _answers(found: Examined, by: str) -> Answers:
    chosen = found.clips if by == "clip" else found.images
    assert chosen is not None  # noqa: S101 (`examine` refused it)
    return chosen
