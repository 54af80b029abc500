"""What every fitted classifier gives for some embeddings, and how that is scored. NumPy only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featcache.heads import Scores
from featcache.metrics import accuracy, confusion_matrix, macro_recall

Embeddings = npt.NDArray[np.float32]  # (rows, dim)
Labels = npt.NDArray[np.int64]  # (rows,), an index into the classes

SettingValue = None | bool | int | float | str | tuple["SettingValue", ...]
ClassifierSettings = Mapping[str, SettingValue]  # of one classifier
SettingChoices = Mapping[str, tuple[SettingValue, ...]]  # of several: every combination is one

LEAST_PROBABILITY = float(np.finfo(np.float32).eps)  # as scikit-learn's log_loss: a vote of 0 is no infinite loss


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """What a model predicts for some rows."""

    predicted: Labels
    probabilities: npt.NDArray[np.float32] | None  # (rows, classes); None where the model has none

    def __post_init__(self) -> None:
        if self.probabilities is not None and len(self.probabilities) != len(self.predicted):
            raise ValueError(f"{len(self.predicted)} predictions, {len(self.probabilities)} rows of probabilities")


class Classifier(Protocol):
    """A fitted classifier: embeddings in, predictions out."""

    @property
    def gives_probabilities(self) -> bool:
        """Whether `predict` gives probabilities beside the labels."""

    def predict(self, x: Embeddings) -> ModelOutput:
        """Return labels (rows,) and, where there are some, probabilities over all classes of the data set.

        Args:
            x: Embeddings (rows, dim) float32, as the trunk gave them.
        """


def score_output(output: ModelOutput, y: Labels, classes: int) -> Scores:
    """Return the scores of predictions; the loss is nan where there are no probabilities.

    Args:
        output: The predictions of some rows.
        y: The labels (rows,) of the same rows.
        classes: How many classes there are.

    Raises:
        ValueError: there are more or fewer labels than predictions, or one is no index into the classes.
    """
    confusion = confusion_matrix(y, output.predicted, classes)
    loss = math.nan
    if output.probabilities is not None and len(y):
        of_truth = output.probabilities[np.arange(len(y)), y].astype(np.float64)
        loss = float(-np.log(np.clip(of_truth, LEAST_PROBABILITY, 1)).mean())
    return Scores(accuracy(confusion), macro_recall(confusion), loss)
