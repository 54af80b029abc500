"""Many linear heads as one: a step reads a batch once and makes two matrix products for all of them.

With X a batch, (batch, width), and W the weights, (heads x classes, width): column dim of X is ones and that of W the
biases; the columns after it are zeros that fill up a vector (`padded_width`).

    Z = W X' / ln 2                                 one product for all heads; logits in bits
    P = 2^(Z - max Z) / sum                         softmax over a head's classes; exp2 is 7 times as fast as exp
    G = P - onehot(y)                               or what `losses` says
    D = G X / batch                                 one product for all heads, biases included
    D <- min(1, clip_norm / (|D| + 1e-6)) D         per head: torch's clip_grad_norm_
    W <- an optimizer's step                        per head: `optimizers`

Heads that standardize are a stack of their own: X is then (x - m) / s, and a head is saved as W / s with its bias less
m W / s, on rows as they are. Standardized after the product, by the same algebra, what is left of a large mean is its
rounding, and Adam takes whole steps by that.

`HeadStack` is what all implementations are: `TorchStack` has the step in torch's operations, for GPUs; `NumbaStack`
has it in compiled loops, for the CPU; `ModuleStack` trains heads that are torch modules.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import EpochRow, HeadConfig, LinearHead, Scores
from featcache.heads.modules import TrainedHead
from featcache.heads.training.losses import StackLosses
from featcache.heads.training.optimizers import STACK_ORDER, per_head
from featcache.heads.training.standardization import FeatureStatistics, Standardizer

Floats = npt.NDArray[np.float32]
Value = TypeVar("Value")

UNSCORED = Scores(math.nan, math.nan, math.nan)
VECTOR_LANES = 16  # float32s of a vector

LabelledBlocks = Iterator[tuple[Tensor, Tensor]]  # x (rows, dim) and y (rows,), on the device, valid until the next


class EpochChunk(NamedTuple):
    """Some batches of an epoch, on the device; valid until the next chunk is asked for.

    All but the last chunk of an epoch are whole batches.
    """

    x: Tensor  # (any number, dim) float32
    rows: Tensor  # (rows drawn,) int64, of x, in the order of the steps
    y: Tensor  # (rows drawn,) int64, their classes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainingPlan:
    """What a stack of heads is built for."""

    configs: Sequence[HeadConfig]  # heads that see the same batches; all of them standardize, or none
    statistics: FeatureStatistics  # of the training rows
    rows: int  # of the training split
    device: str  # where torch computes
    on_compile: Callable[[], None] = lambda: None  # called where loops have to be compiled first

    @property
    def batch_size(self) -> int:
        """The rows of a whole batch."""
        return min(self.configs[0].batch_size, self.rows)

    @property
    def steps(self) -> int:
        """The steps of all epochs together."""
        return self.configs[0].steps(self.rows)


def padded_width(dim: int) -> int:
    """Return the width of rows of X and W: their column of ones or biases, and zeros up to a multiple of a vector."""
    return -(-(dim + 1) // VECTOR_LANES) * VECTOR_LANES


class HeadStack(ABC):
    """The heads of one training, whatever computes their steps.

    Inside, heads stand in the order of their optimizers (`order`, by `STACK_ORDER`); what goes in and out by head is in
    the order of the configs. What a step reads and writes lies on the device and stays where it is: an epoch of steps
    can be recorded (`cuda_graph`). A stack is used in a `with` block.

    Attributes:
        w: (heads, classes, width) float32, the weights as they are learnt; the bias is column `dim`.
        order: (heads,) the index of each head's config.
        batch_size: rows of a whole batch.
        steps: of an epoch.
        minus_lr: (epochs, steps, heads) float32 on the host, before any plateau.
        clip_norm: (heads, 1, 1), inf for a head without clipping; None where no head clips.
        standardizer: None where rows are learnt from as they are.
        can_be_recorded: whether an epoch of steps asks the host for nothing (`cuda_graph`).
    """

    w: Tensor
    can_be_recorded = True

    def __init__(self, plan: TrainingPlan) -> None:
        configs, classes = plan.configs, len(plan.statistics.class_counts)
        self.order = sorted(range(len(configs)), key=lambda head: STACK_ORDER.index(configs[head].optimizer))
        self.configs = [configs[head] for head in self.order]
        self.heads, self.classes, self.dim = len(configs), classes, len(plan.statistics.mean)
        self.batch_size = plan.batch_size
        self.width = padded_width(self.dim)
        self.losses = StackLosses(self.configs, plan.statistics.class_counts, plan.device)
        self.standardizer = Standardizer(plan.statistics, plan.device) if configs[0].standardize else None
        norms = [config.clip_norm for config in self.configs]
        unclipped = norms.count(None) == len(norms)
        self.clip_norm = None if unclipped else per_head([norm or np.inf for norm in norms], plan.device)
        rates = [[-config.lr_at(step, plan.steps) for config in self.configs] for step in range(plan.steps)]
        self.minus_lr = torch.tensor(rates, dtype=torch.float32).view(configs[0].epochs, -1, self.heads)
        self.steps = self.minus_lr.shape[1]

    def begin_epoch(self, epoch: int, lr_factors: Sequence[float]) -> None:
        """Set the learning rates of an epoch.

        Args:
            epoch: 0, 1, …
            lr_factors: what each config's rate is multiplied by: below 1 on a plateau, and 0 stops a head.
        """
        self._set_rates(epoch, self.minus_lr[epoch] * torch.tensor([lr_factors[head] for head in self.order]))

    @abstractmethod
    def _set_rates(self, epoch: int, minus_lr: Tensor) -> None:
        """Lay out what an epoch's steps take; minus_lr (steps, heads) in the stack's order, on the host."""

    @abstractmethod
    def train_epoch(self, chunks: Iterable[EpochChunk]) -> list[Tensor]:
        """Take an epoch's steps, and return the labels that they saw, in their order."""

    @abstractmethod
    def train_scores(self, y: Tensor) -> list[Scores]:
        """Return the running scores of the last epoch, by config; y are the labels that it saw."""

    @abstractmethod
    def score(self, blocks: LabelledBlocks, rows: int) -> list[Scores]:
        """Return the scores on so many rows, by config: of the heads as they are saved, without logit adjustment."""

    def copy_weights(self, head: int) -> Any:
        """Return a copy of the weights of a config's head, for `restore_weights`."""
        return self.w[self.position(head)].clone()

    def restore_weights(self, head: int, weights: Any) -> None:
        """Give a config's head the weights that it had when they were copied."""
        self.w[self.position(head)] = weights

    def trained_heads(
        self, histories: Sequence[Sequence[EpochRow]], best_epochs: Sequence[int | None]
    ) -> list[TrainedHead]:  # fmt: skip
        """Return the heads, by config, with their histories and best epochs; they have no scores yet."""
        weight, bias = self.weights_and_biases()
        return [
            LinearHead(
                config, weight[head], bias[head], self.steps * len(history), tuple(history), UNSCORED, None, best_epoch
            )
            for head, (config, history, best_epoch) in enumerate(
                zip(self.by_config(self.configs), histories, best_epochs, strict=True)
            )
        ]

    def effective_weights(self) -> Tensor:
        """Return the heads as they are saved and meet rows that are not standardized, (heads, classes, width)."""
        return self.w if self.standardizer is None else self.standardizer.unstandardize(self.w)

    def weights_and_biases(self) -> tuple[Floats, Floats]:
        """Return weights (heads, classes, dim) and biases (heads, classes), by config."""
        w = self.effective_weights()[[self.position(head) for head in range(self.heads)]].cpu().numpy()
        return w[:, :, : self.dim].copy(), w[:, :, self.dim].copy()

    def by_config(self, values: Sequence[Value]) -> list[Value]:
        """Return values that are in the stack's order in that of the configs."""
        return [values[self.position(head)] for head in range(self.heads)]

    def position(self, head: int) -> int:
        """Return where a config's head stands in the stack."""
        return self.order.index(head)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:  # noqa: B027  # a stack may have nothing to let go of
        """Let go of what the training alone needs."""
