"""What every classifier answers, and what a search for its settings finds. NumPy only."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.features import Features
from featcache.heads import Scores
from featcache.metrics import accuracy, confusion_matrix, macro_recall

Rows = npt.NDArray[np.float32]  # (rows, dim)
Labels = npt.NDArray[np.int64]  # (rows,), an index into the classes

Value = None | bool | int | float | str | tuple["Value", ...]
Settings = Mapping[str, Value]  # of one classifier
Choices = Mapping[str, tuple[Value, ...]]  # of several: every combination is one

LEAST_PROBABILITY = float(np.finfo(np.float32).eps)  # as scikit-learn's log_loss: a vote of 0 is no infinite loss


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a classifier says of some rows."""

    predicted: Labels
    probabilities: npt.NDArray[np.float32] | None  # (rows, classes); None where the classifier has none

    def __post_init__(self) -> None:
        if self.probabilities is not None and len(self.probabilities) != len(self.predicted):
            raise ValueError(f"{len(self.predicted)} predictions, {len(self.probabilities)} rows of probabilities")


class Classifier(Protocol):
    """A fitted classifier: embeddings in, answers out."""

    def answer(self, x: Rows) -> Answers:
        """(rows, dim) -> predictions and, where it has them, probabilities over all classes of the data set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One combination of settings."""

    settings: Settings
    val: Scores | None
    seconds: float  # to fit it and to answer on val; a share, where one pass served many
    notes: tuple[str, ...] = ()  # what the solver complained of


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search found: every combination, and the best one fitted."""

    trials: tuple[Trial, ...]
    best: int
    classifier: Classifier
    train: Scores | None  # of the best; None where asking it about its own rows means nothing
    on_val: Answers | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a search may use."""

    device: str = "cpu"
    jobs: int = 1  # processes or threads
    progress: Callable[[str, int, int], None] = lambda *_: None  # the stage, done, to do


def scores_of(answers: Answers, y: Labels, classes: int) -> Scores:
    """Score answers; the loss is nan where there are no probabilities."""
    confusion = confusion_matrix(y, answers.predicted, classes)
    loss = math.nan
    if answers.probabilities is not None and len(y):
        of_truth = answers.probabilities[np.arange(len(y)), y].astype(np.float64)
        loss = float(-np.log(np.clip(of_truth, LEAST_PROBABILITY, 1)).mean())
    return Scores(accuracy(confusion), macro_recall(confusion), loss)


def rank(trials: Sequence[Trial] | Mapping[int, Trial], index: int) -> tuple[float, float, int]:
    """The order of merit, best first: val macro recall; of equals the lowest loss, then the first."""
    val = trials[index].val
    if val is None:
        return 0.0, 0.0, index
    return -val.macro_recall, val.loss if math.isfinite(val.loss) else math.inf, index


def best_of(trials: Sequence[Trial]) -> int:
    """The index of the best trial."""
    return min(rank(trials, index) for index in range(len(trials)))[2]


def refuse_choice(train: Features, val: Features | None, combinations: int) -> None:
    """Several combinations need a val split that chooses.

    Raises:
        CacheError: there is none.
    """
    if val is None and combinations > 1:
        raise CacheError(
            f"{train.source.get('data_set', 'these features')}: {combinations} combinations of settings and no val "
            f"split in the cache to choose by (test is for the report alone). Run `featcache extract --split val`, or "
            f"name one value a setting."
        )
