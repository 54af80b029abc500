"""A trained linear head: its values, its scores, and which of several is best. NumPy only.

Training is in `training`; a head that was saved needs no torch to be used again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from featcache.heads.config import HeadConfig
from featcache.heads.kept_targets import NO_TARGETS, KeptTargets
from featcache.machine import run_in_threads, single_blas_thread
from featcache.metrics import LOWER_IS_BETTER
from featcache.recipe import LABEL

Floats = npt.NDArray[np.floating]
Real = TypeVar("Real", bound=np.floating)

DIVERGED_LOSS = 100.0  # nats on train; zero weights have log(classes)
BLOCK_ROWS = 16_384  # scored at a time: bounds the memory that logits take


@dataclass(frozen=True, slots=True)
class Scores:
    """How a classifier does on one split."""

    accuracy: float
    macro_recall: float  # mean recall over the classes that have rows in the split
    loss: float  # mean cross-entropy, nats; nan or inf where the head diverged

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of several labels or numbers a row, by name; none of classes."""
        return {}

    @property
    def chief(self) -> str:
        """The metric that chooses where nobody names one: macro recall, or the first of the others."""
        return next(iter(self.metrics), "macro_recall")

    def figure(self, name: str) -> float:
        """Return a metric or the loss by its name; nan where it is none of these scores.

        Args:
            name: of a metric, or "loss".
        """
        if name in self.metrics:
            return self.metrics[name]
        return float(getattr(self, name, math.nan))


@dataclass(frozen=True, slots=True)
class TargetScores(Scores):
    """How a head on several labels a row, or on numbers, does on one split; accuracy and macro recall are nan."""

    metrics: Mapping[str, float] = field(default_factory=dict)  # the one that chooses first


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch of one head's history. The answer that counts is argmax, the first of equals, in both columns.

    `train` is running: of each step's own logits, before its update, so of weights that change on the way; `val` is of
    the epoch's weights as they would be saved, by the products of the device that trains. Those may round otherwise
    than NumPy's. The row of the weights that are kept, the last or the best epoch's, has the saved head's very scores.
    """

    epoch: int  # from 1
    train: Scores
    val: Scores | None


class ScoredHead(Protocol):
    """Whatever has scores on train and, where there is such a split, on val."""

    @property
    def train(self) -> Scores:
        """The scores on train."""

    @property
    def val(self) -> Scores | None:
        """The scores on val."""


@dataclass(frozen=True, slots=True, eq=False)
class OutputLayer:
    """A linear model as the last layer of a network: its answer is the class with the largest output."""

    weight: npt.NDArray[np.float32]  # (classes, dim), of every class of the data set
    bias: npt.NDArray[np.float32]  # (classes,)
    is_softmax: bool  # whether the softmax of the outputs is the model's own probabilities


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """One linear layer on the embeddings, and how it came to be."""

    config: HeadConfig
    weight: npt.NDArray[np.float32]  # (classes, dim)
    bias: npt.NDArray[np.float32]  # (classes,)
    steps: int
    history: tuple[EpochRow, ...]
    train: Scores  # of the final weights
    val: Scores | None
    best_epoch: int | None = None  # whose weights these are, where a head with patience kept its best
    widths: tuple[int, ...] = ()  # of the parts of its features, where several layers or trunks stand side by side
    finetuned: Mapping[str, Any] = field(default_factory=dict)  # how its trunk was trained with it; {}: it was frozen
    targets: KeptTargets = NO_TARGETS

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != (len(self.weight),):
            raise ValueError(
                f"weight has shape {self.weight.shape}, bias {self.bias.shape}; expected (classes, dim) and (classes,)"
            )

    def __repr__(self) -> str:
        classes, dim = self.weight.shape
        return f"<LinearHead {self.config.name}: {dim} -> {classes}, {self.steps:,} steps>"

    @property
    def width(self) -> int:
        """The numbers of an embedding."""
        return int(self.weight.shape[1])

    @property
    def classes(self) -> int:
        """How many outputs it has."""
        return len(self.weight)

    @property
    def tensors(self) -> Mapping[str, Floats]:
        """The weights and biases by name, as they are saved."""
        return {"weight": self.weight, "bias": self.bias}

    @property
    def diverged(self) -> bool:
        """Whether a weight or a bias is no longer a finite number, or the loss on train is beyond any sense."""
        finite = np.isfinite(self.weight).all() and np.isfinite(self.bias).all()
        return not (finite and self.train.loss < DIVERGED_LOSS)

    @property
    def output_layer(self) -> OutputLayer:
        """The head as the last layer of a network."""
        return OutputLayer(self.weight, self.bias, is_softmax=self.config.targets == LABEL)

    def logits(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the logits of embeddings, (rows, classes) float32; nan where the head diverged.

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        By one thread: by several, NumPy's product has other last bits, and scores with it.

        Raises:
            ValueError: x has another shape.
        """
        rows = unit_rows(x, self.widths) if self.config.normalize == "l2" else x
        with single_blas_thread():  # BLAS has one: the blocks have a thread each
            blocks = [rows[start : start + BLOCK_ROWS] for start in range(0, max(1, len(rows)), BLOCK_ROWS)]
            parts = run_in_threads(lambda block: linear_logits(block, self.weight, self.bias), blocks)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def unit_rows(x: npt.NDArray[np.float32], widths: Sequence[int] = ()) -> npt.NDArray[np.float32]:
    """Return x / |x|, (rows, dim) float32: each row scaled to length 1, by itself; a row of zeros stays one.

    Where several layers or trunks stand side by side, each part is scaled by itself: else the one with the longest
    vectors would count for nearly all. So do SUR (Dvornik et al. 2020) and Head2Toe (Evci et al. 2022, its
    "unit_vector"); DINOv2's linear evaluation concatenates layers as they are, which is what "none" does.

    Args:
        x: (rows, dim) embeddings.
        widths: Of the parts, dim together; () where there is one.
    """
    scaled = np.empty(x.shape, np.float32)
    ends = np.cumsum(widths or (x.shape[1],)).tolist()
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for first, end in zip([0, *ends], ends, strict=False):
            part = x[rows, first:end].astype(np.float64)  # whose squares neither overflow nor vanish
            length = np.sqrt(np.square(part).sum(axis=1, keepdims=True))
            scaled[rows, first:end] = part / np.where(length > 0, length, 1)
    return scaled


def linear_logits(x: npt.NDArray[Real], weight: npt.NDArray[Real], bias: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Return X W' + b, (rows, classes); nan where a head diverged.

    Args:
        x: (rows, dim) embeddings.
        weight: (classes, dim).
        bias: (classes,).

    Raises:
        ValueError: x has another width than the weights.
    """
    if x.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"x has shape {x.shape}; this head takes (rows, {weight.shape[1]})")
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged head answers nan
        z: npt.NDArray[Real] = x @ weight.T + bias
    return z


def merit(scores: Scores, select: str) -> tuple[float, float]:
    """Return what is compared when `select` chooses, more is better: the score, then minus the loss; -inf if diverged.

    Args:
        scores: of one head on val.
        select: the name of a metric, or "loss".
    """
    if not math.isfinite(scores.loss):
        return -math.inf, -math.inf
    figure = scores.figure(select)
    if math.isnan(figure):  # of a metric that is undefined on these rows
        return -math.inf, -scores.loss
    return (-figure if select in ("loss", *LOWER_IS_BETTER) else figure), -scores.loss


def best_of(heads: Sequence[ScoredHead], select: str = "macro_recall") -> int | None:
    """Return the index of the head that is best on val; of equals the one with the lowest loss, then the first.

    A head whose loss is not finite never wins: None where that is every head. One head alone needs no val.

    Args:
        heads: what is chosen from.
        select: "macro_recall", "accuracy" or "loss".

    Raises:
        ValueError: no heads, or several of which one was trained without a val split.
    """
    if not heads:
        raise ValueError("best_of got no heads")
    if len(heads) > 1 and any(head.val is None for head in heads):
        raise ValueError(f"{len(heads)} heads without a val split: nothing can choose among them")
    merits = [merit(head.val or head.train, select) for head in heads]
    best = max(range(len(heads)), key=lambda index: merits[index])  # the first of equals
    return best if math.isfinite(merits[best][1]) else None
