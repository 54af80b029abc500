"""Models of several labels or numbers that are not trained in steps: a linear map, and k-NN. NumPy only.

Their outputs are those of heads: of a label z, whose logistic function s(z) = 1 / (1 + e^-z) is its probability, or a
number. k-NN has probabilities p and no outputs of its own: z = log(p / (1 - p)), p kept away from 0 and 1 by float32's
eps.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featcache.heads import OutputLayer, compute_outputs, linear_logits
from featcache.heads.classifiers.classifier import LEAST_PROBABILITY, Embeddings, Labels
from featcache.heads.classifiers.knn import Cosines, find_neighbours, neighbour_weights
from featcache.recipe import LABELS

Doubles = npt.NDArray[np.float64]
_BLOCK = 2**22  # numbers of neighbours that are held at a time


class TargetModel(Protocol):
    """A fitted model of several labels or numbers: embeddings in, outputs out."""

    @property
    def width(self) -> int:
        """The numbers of an embedding."""

    @property
    def output_layer(self) -> OutputLayer | None:
        """The last layer of a network that answers as it does; None where no linear layer does."""

    def outputs(self, x: Embeddings) -> Doubles:
        """Return the outputs of embeddings, (rows, outputs).

        Args:
            x: (rows, dim) float32, as the trunk gave them.
        """


@dataclass(frozen=True, slots=True, eq=False)
class LinearTargets:
    """One linear map: logistic regression of each label, or least squares of each number."""

    weight: npt.NDArray[np.float32]  # (outputs, dim)
    bias: npt.NDArray[np.float32]  # (outputs,)

    @property
    def width(self) -> int:
        """The numbers of an embedding."""
        return int(self.weight.shape[1])

    @property
    def output_layer(self) -> OutputLayer:
        """The map itself."""
        return OutputLayer(self.weight, self.bias, is_softmax=False)

    def outputs(self, x: Embeddings) -> Doubles:
        """Return W x + b, (rows, outputs).

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            ValueError: x has another width than the weights.
        """
        return compute_outputs(lambda rows: linear_logits(rows, self.weight, self.bias), x, len(self.bias))


@dataclass(frozen=True, slots=True, eq=False)
class KnnTargets:
    """k-NN: the training rows are the model; a label has the share of its neighbours' weights, a number their mean."""

    x: Embeddings  # of the training rows
    values: Doubles  # (rows, outputs) of the same rows: labels as 0 and 1, or numbers
    kind: str  # LABELS or VALUE
    k: int
    temperature: float
    weights: str  # one of WEIGHTS
    device: str = "cpu"  # where rows are compared

    @property
    def width(self) -> int:
        """The numbers of an embedding."""
        return int(self.x.shape[1])

    @property
    def output_layer(self) -> None:
        """None: it is no linear map."""
        return

    def outputs(self, x: Embeddings) -> Doubles:
        """Return what the nearest rows make of each output, (rows, outputs).

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            UsageError: there are fewer than k training rows.
        """
        return self.average(*find_neighbours(self.x, x, self.k, device=self.device))

    def average(self, cosines: Cosines, neighbours: Labels) -> Doubles:
        """Return the outputs of rows whose nearest rows are known, (rows, outputs).

        Args:
            cosines: Of the nearest rows, (rows, at least k), most similar first.
            neighbours: Which rows these are, (rows, at least k).
        """
        cosines, neighbours = cosines[:, : self.k], neighbours[:, : self.k]
        weight = neighbour_weights(cosines, self.temperature, self.weights).astype(np.float64)
        weight /= weight.sum(axis=1, keepdims=True)
        means = np.empty((len(cosines), self.values.shape[1]))
        block = max(1, _BLOCK // max(1, self.k * self.values.shape[1]))
        for start in range(0, len(means), block):
            rows = slice(start, start + block)
            means[rows] = np.einsum("rk,rko->ro", weight[rows], self.values[neighbours[rows]])
        if self.kind != LABELS:
            return means
        shares = means.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        outputs: Doubles = np.log(shares) - np.log1p(-shares)
        return outputs
