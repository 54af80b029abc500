"""What is said about a head on one split, as a value: computed here, drawn elsewhere."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.metrics import (
    Calibration,
    Counts,
    Interval,
    Intervals,
    Shares,
    accuracy,
    confusion_matrix,
    macro_recall,
    per_class_f1,
    per_class_precision,
    per_class_recall,
)


@dataclass(frozen=True, eq=False, kw_only=True)  # no slots: what follows from the matrix is computed once
class Evaluation:
    """One head on one split: the confusion matrix, whose it is, and all that follows from it."""

    head: str
    data_set: str
    split: str
    by: str = "image"  # what one row is
    classes: tuple[str, ...]
    confusion: Counts  # (classes, classes) int64; rows are the truth, columns the prediction
    failed: int = 0  # rows left out because their image could not be embedded
    selected_by: str = ""  # "macro recall on val"; "" where nothing chose this head
    chosen: str = ""  # where a word stood for the head: which one that is and why, in a sentence
    notes: tuple[str, ...] = ()  # lines that every report must show: "the trunk is random: …"
    rule: str = ""  # by clip: how a clip's answer comes from those on its images, see `answers.RULES`
    intervals: Intervals | None = None
    calibration: Calibration | None = None
    beside: "Evaluation | None" = None  # the same answers by the other unit: by clip, or by image

    @property
    def unit(self) -> str:
        """By what it was counted, in words: "by clip (mean probability)"."""
        return f"by {self.by}" + (f" ({self.rule.replace('-', ' ')})" if self.rule else "")

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("there are no classes")
        if self.confusion.shape != (len(self.classes), len(self.classes)):
            raise ValueError(f"confusion has shape {self.confusion.shape} for {len(self.classes)} classes")
        if self.confusion.dtype != np.int64 or (self.confusion < 0).any():
            raise ValueError(f"confusion holds {self.confusion.dtype}, expected counts: int64, none negative")

    @property
    def rows(self) -> int:
        """How many rows were evaluated; `failed` ones are not among them."""
        return int(self.confusion.sum())

    @cached_property
    def support(self) -> Counts:
        """Rows of each class, (classes,)."""
        support: Counts = self.confusion.sum(axis=1)
        return support

    @cached_property
    def recall(self) -> Shares:
        """(classes,); nan where a class has no support."""
        return per_class_recall(self.confusion)

    @cached_property
    def precision(self) -> Shares:
        """(classes,); nan where a class is never predicted."""
        return per_class_precision(self.confusion)

    @cached_property
    def f1(self) -> Shares:
        """(classes,); nan where a class neither occurs nor is predicted."""
        return per_class_f1(self.confusion)

    @cached_property
    def accuracy(self) -> float:
        """The share of rows that are right; nan without rows."""
        return accuracy(self.confusion)

    @cached_property
    def macro_recall(self) -> float:
        """The mean of recall over the classes that have support; nan without rows."""
        return macro_recall(self.confusion)

    @cached_property
    def classes_evaluated(self) -> int:
        """How many classes have support: those that macro recall is the mean over."""
        return int(np.count_nonzero(self.support))

    @property
    def largest_class(self) -> int | None:
        """The class with most support, the first of equals; None without rows."""
        return int(self.support.argmax()) if self.rows else None

    @property
    def baseline_accuracy(self) -> float:
        """What always answering with the largest class reaches; nan without rows."""
        return int(self.support.max()) / self.rows if self.rows else float("nan")

    @property
    def baseline_macro_recall(self) -> float:
        """What always answering with one class that has support reaches; nan without rows."""
        return 1 / self.classes_evaluated if self.rows else float("nan")


def evaluation_of(
    truth: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    classes: tuple[str, ...],
    *,
    head: str,
    data_set: str,
    split: str,
    by: str = "image",
    failed: int = 0,
    selected_by: str = "",
    notes: tuple[str, ...] = (),
) -> Evaluation:
    """Evaluate predictions; `truth` and `predicted` are (rows,) indices into `classes`.

    Raises:
        ValueError: the two differ in length, or an index lies outside the classes.
    """
    return Evaluation(
        head=head,
        data_set=data_set,
        split=split,
        by=by,
        classes=classes,
        confusion=confusion_matrix(truth, predicted, len(classes)),
        failed=failed,
        selected_by=selected_by,
        notes=notes,
    )


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The document of `featcache report --json`: plain values for strict JSON, undefined ones as None.

    Names are left as they are, so that they can be matched; `json.dumps` with its default `ensure_ascii`
    escapes what a terminal would act on.
    """
    columns = zip(
        evaluation.classes,
        evaluation.support.tolist(),
        evaluation.recall.tolist(),
        evaluation.precision.tolist(),
        evaluation.f1.tolist(),
        recall_intervals(evaluation),
        recall_is_too_few(evaluation),
        strict=True,
    )
    found, sure, beside = evaluation.intervals, evaluation.calibration, evaluation.beside
    return {
        "head": evaluation.head,
        "data_set": evaluation.data_set,
        "split": evaluation.split,
        "by": evaluation.by,
        "rows": evaluation.rows,
        "failed": evaluation.failed,
        "accuracy": or_none(evaluation.accuracy),
        "macro_recall": or_none(evaluation.macro_recall),
        "classes_evaluated": evaluation.classes_evaluated,
        "classes": [
            {
                "name": name,
                "support": support,
                "recall": or_none(recall),
                "precision": or_none(precision),
                "f1": or_none(f1),
                "recall_interval": pair(interval),
                "too_few": too_few,
            }
            for name, support, recall, precision, f1, interval, too_few in columns
        ],
        "confusion": evaluation.confusion.tolist(),
        "notes": list(evaluation.notes),
        "clip_rule": evaluation.rule or None,
        "intervals": None
        if found is None
        else intervals_json(found, accuracy=evaluation.accuracy, macro_recall=evaluation.macro_recall),
        "calibration": None if sure is None else calibration_json(sure),
        "beside": None if beside is None else {**to_json(beside), "beside": None},
        "chosen": evaluation.chosen or None,
    }


def recall_intervals(evaluation: Evaluation) -> tuple[Interval | None, ...]:
    """One for each class; None where none was asked for, or none can be stated."""
    return evaluation.intervals.recall if evaluation.intervals else (None,) * len(evaluation.classes)


def recall_is_too_few(evaluation: Evaluation) -> tuple[bool, ...]:
    """Whether a class has support, and intervals were computed, but its groups are too few for one."""
    if evaluation.intervals is None:
        return (False,) * len(evaluation.classes)
    return too_few_of(evaluation.recall, evaluation.intervals)


def too_few_of(recall: Shares, found: Intervals) -> tuple[bool, ...]:
    """(classes,) whether `is_too_few`, of recalls or of their differences."""
    return tuple(is_too_few(value, interval) for value, interval in zip(recall.tolist(), found.recall, strict=True))


def is_too_few(value: float, interval: Interval | None) -> bool:
    """Whether a figure that is defined has no interval: its groups are too few, see `bounds.is_too_few`."""
    return interval is None and not np.isnan(value)


def intervals_json(found: Intervals, *, accuracy: float, macro_recall: float) -> dict[str, Any]:
    """What was drawn again, how often, and the intervals of the two figures; those of recall stand by the classes."""
    return {
        "unit": found.unit,
        "groups": found.groups,
        "resamples": found.resamples,
        "level": found.level,
        "method": found.method,
        "accuracy": pair(found.accuracy),
        "macro_recall": pair(found.macro_recall),
        "too_few": {
            "accuracy": is_too_few(accuracy, found.accuracy),
            "macro_recall": is_too_few(macro_recall, found.macro_recall),
        },
    }


def calibration_json(found: Calibration) -> dict[str, Any]:
    """The expected calibration error, and its bins."""
    return {
        "ece": or_none(found.ece),
        "bins": [
            {"count": count, "confidence": or_none(confidence), "right": or_none(right)}
            for count, confidence, right in zip(
                found.count.tolist(), found.confidence.tolist(), found.right.tolist(), strict=True
            )
        ],
    }


def pair(interval: Interval | None) -> list[float] | None:
    """[low, high]; None where there is none."""
    return None if interval is None else [interval.low, interval.high]


def or_none(value: float) -> float | None:
    """JSON knows no nan."""
    return None if np.isnan(value) else value
