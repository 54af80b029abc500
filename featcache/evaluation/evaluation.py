"""The evaluation of a head on one split, as a value: computed here, drawn elsewhere."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.evaluation.conformal import ConformalSets
from featcache.evaluation.json_parts import (
    are_too_few,
    calibration_json,
    finite_or_none,
    interval_json,
    intervals_json,
    risk_json,
)
from featcache.heads.saved import SavedTemperature
from featcache.metrics import (
    Calibration,
    Confusion,
    Counts,
    Interval,
    Intervals,
    RiskCoverage,
    Shares,
    accuracy,
    confusion_matrix,
    largest_confusions,
    macro_recall,
    per_class_f1,
    per_class_precision,
    per_class_recall,
)


@dataclass(frozen=True, slots=True, eq=False)
class TemperatureEffect:
    """What a model's temperature does to its calibration on a split."""

    fitted: SavedTemperature
    before: Calibration  # of the model's own probabilities

    def to_json(self) -> dict[str, Any]:
        """Return the temperature, what it was fitted on, and the expected calibration error without it."""
        return {
            "value": self.fitted.value,
            "rows": self.fitted.rows,
            "ece_before": finite_or_none(self.before.ece),
            "ece_before_interval": interval_json(self.before.ece_interval),
        }


@dataclass(frozen=True, eq=False, kw_only=True)  # no slots: what follows from the matrix is computed once
class Evaluation:
    """One head on one split: the confusion matrix, whose it is, and all that follows from it."""

    head: str
    handle: str = ""  # the same as `compare` lists it: "#3 baseline (lr0.1-1a2b3c4d)"; "" where that is not known
    data_set: str
    variant: str = ""  # of the data set; "" where that is not known
    split: str
    by: str = "image"  # what one row is
    classes: tuple[str, ...]
    confusion: Counts  # (classes, classes) int64; rows are the truth, columns the prediction
    failed: int = 0  # rows left out because their image could not be embedded
    selected_by: str = ""  # "macro recall on val"; "" where nothing chose this head
    chosen: str = ""  # where a word stood for the head: which one that is and why, in a sentence
    notes: tuple[str, ...] = ()  # lines that every report must show: "the trunk is random: …"
    rule: str = ""  # by clip: how a clip's prediction comes from those on its images, see `predictions.CLIP_RULES`
    intervals: Intervals | None = None
    calibration: Calibration | None = None
    temperature: TemperatureEffect | None = None  # None where the model has none, and by clip
    risk: RiskCoverage | None = None  # None where there are no probabilities
    conformal: ConformalSets | None = None  # None where no level was given
    beside: "Evaluation | None" = None  # the same predictions by the other unit: by clip, or by image

    @property
    def sentence(self) -> str:
        """Which head it is and, where something chose it, why: every report begins with it."""
        chosen_by = f", chosen by {self.selected_by}" if self.selected_by else ""
        return self.chosen or f"head {self.handle or self.head}{chosen_by}"

    @property
    def unit(self) -> str:
        """What one row is, in words: "by clip (mean probability)"."""
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
        """What always predicting the largest class reaches; nan without rows."""
        return int(self.support.max()) / self.rows if self.rows else float("nan")

    @property
    def baseline_macro_recall(self) -> float:
        """What always predicting one class that has support reaches; nan without rows."""
        return 1 / self.classes_evaluated if self.rows else float("nan")

    @property
    def is_like_guessing(self) -> bool:
        """Whether the interval of macro recall reaches down to what always predicting one class reaches."""
        interval = self.intervals.macro_recall if self.intervals else None
        return interval is not None and interval.low <= self.baseline_macro_recall

    @property
    def recall_intervals(self) -> tuple[Interval | None, ...]:
        """The interval of each class's recall, (classes,); None where none was asked for, or none can be stated."""
        return self.intervals.recall if self.intervals else (None,) * len(self.classes)

    @property
    def recall_is_too_few(self) -> tuple[bool, ...]:
        """(classes,) whether a class has support, and intervals were computed, but its groups are too few for one."""
        if self.intervals is None:
            return (False,) * len(self.classes)
        return are_too_few(self.recall, self.intervals)

    @property
    def largest_confusions(self) -> list[Confusion]:
        """The off-diagonal cells with most rows, largest first; at most five, none of them empty."""
        return largest_confusions(self.confusion)

    def to_json(self) -> dict[str, Any]:
        """Return the document of `featcache report --json`: plain values for strict JSON, undefined ones as None.

        Names are left as they are, so that they can be matched; `json.dumps` with its default `ensure_ascii`
        escapes what a terminal would act on.
        """
        beside = None if self.beside is None else {**self.beside.to_json(), "beside": None}
        return {
            "head": self.head,
            "data_set": self.data_set,
            "variant": self.variant or None,
            "split": self.split,
            "by": self.by,
            "rows": self.rows,
            "failed": self.failed,
            "accuracy": finite_or_none(self.accuracy),
            "macro_recall": finite_or_none(self.macro_recall),
            "classes_evaluated": self.classes_evaluated,
            "classes": self._classes_json(),
            "confusion": self.confusion.tolist(),
            "notes": list(self.notes),
            "clip_rule": self.rule or None,
            "intervals": None
            if self.intervals is None
            else intervals_json(self.intervals, accuracy=self.accuracy, macro_recall=self.macro_recall),
            "calibration": None if self.calibration is None else calibration_json(self.calibration),
            "temperature": None if self.temperature is None else self.temperature.to_json(),
            "risk_coverage": None if self.risk is None else risk_json(self.risk),
            "conformal": None if self.conformal is None else self.conformal.to_json(),
            "beside": beside,
            "chosen": self.chosen or None,
        }

    def _classes_json(self) -> list[dict[str, Any]]:
        columns = zip(
            self.classes,
            self.support.tolist(),
            self.recall.tolist(),
            self.precision.tolist(),
            self.f1.tolist(),
            self.recall_intervals,
            self.recall_is_too_few,
            strict=True,
        )
        return [
            {
                "name": name,
                "support": support,
                "recall": finite_or_none(recall),
                "precision": finite_or_none(precision),
                "f1": finite_or_none(f1),
                "recall_interval": interval_json(interval),
                "too_few": too_few,
            }
            for name, support, recall, precision, f1, interval, too_few in columns
        ]


def evaluate_predictions(
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
    """Return the evaluation of predictions, without intervals.

    Args:
        truth: (rows,) an index into `classes`.
        predicted: (rows,) an index into `classes`.
        classes: their names.
        head: the head's name.
        data_set: the data set's name.
        split: the split's name.
        by: what one row is, "image" or "clip".
        failed: rows that are left out because their image could not be embedded.
        selected_by: what chose the head among others; "" where nothing did.
        notes: lines that every report must show.

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
