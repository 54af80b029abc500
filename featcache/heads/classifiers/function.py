"""A head of one's own: a function from embeddings to scores, as a classifier. Of it, only predictions can be kept."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import UsageError
from featcache.heads import BLOCK_ROWS
from featcache.heads.classifiers.classifier import Embeddings, ModelOutput
from featcache.metrics import softmax

HeadFunction = Callable[[npt.NDArray[np.float32]], Any]  # embeddings (n, dim) -> scores (n, classes)
_UNIT_SUM = 1e-3  # how far a row of probabilities may be from a sum of 1


@dataclass(frozen=True, slots=True, eq=False)
class FunctionClassifier:
    """A function that gives scores, with what its errors call it."""

    function: HeadFunction
    name: str
    classes: int

    @property
    def gives_probabilities(self) -> bool:
        """Always: see `predict`."""
        return True

    def predict(self, x: Embeddings) -> ModelOutput:
        """Return labels and probabilities (float32) for embeddings (rows, dim).

        The label is the first of the highest scores. Where no score is below 0 and every row has a sum of 1, they are
        the probabilities; else their softmax is.

        Args:
            x: embeddings (rows, dim) float32.

        Raises:
            UsageError: the function returns something else than a finite score for each row and class.
        """
        scores = self.scores(x)
        is_share = (scores >= 0).all() and (np.abs(scores.sum(axis=1) - 1) < _UNIT_SUM).all()
        probabilities = scores if is_share else softmax(scores)
        return ModelOutput(scores.argmax(axis=1), probabilities.astype(np.float32))

    def scores(self, x: Embeddings) -> npt.NDArray[np.float64]:
        """Return the function's scores, (rows, classes) float64, asked for some rows at a time.

        Args:
            x: embeddings (rows, dim) float32.

        Raises:
            UsageError: as `predict`.
        """
        scores = np.empty((len(x), self.classes))
        for start in range(0, len(x), BLOCK_ROWS):
            scores[start : start + BLOCK_ROWS] = self._scores_of_block(x[start : start + BLOCK_ROWS])
        return scores

    def _scores_of_block(self, x: Embeddings) -> npt.NDArray[np.float64]:
        answer = self.function(x)
        if hasattr(answer, "detach"):  # a tensor of torch, on whatever device
            answer = answer.detach().cpu().numpy()
        try:
            scores = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"head {self.name} returned {type(answer).__name__}, expected numbers: {error}") from None
        expected = len(x), self.classes
        if scores.shape != expected:
            raise UsageError(
                f"head {self.name} returned scores of shape {scores.shape}, expected {expected}: a row for each "
                f"embedding, a column for each class in the order of `featcache.load(…).classes`"
            )
        if wrong := int((~np.isfinite(scores)).any(axis=1).sum()):
            raise UsageError(f"head {self.name} returned nan or inf for {wrong:,} of {len(x):,} rows")
        return scores


def name_of_function(function: HeadFunction) -> str:
    """Return what a function is called: `GaussianNB.predict_proba` of a method, its class of an object.

    Args:
        function: anything that can be called.
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    owner = getattr(function, "__self__", None)
    return name if owner is None or inspect.ismodule(owner) else f"{type(owner).__name__}.{name}"
