"""Heads on several labels a row, or on numbers, trained side by side on the same batches: linear ones and modules.

With z the outputs of a row, t its targets and w the weight of a label's rows (balanced: those that lack it over those
that have it), the objective is the mean over the rows of the sum over the labels or numbers of

    binary cross-entropy    -w t log s(z) - (1 - t) log(1 - s(z)),  s(z) = 1 / (1 + e^-z)
    squared error           e^2
    Huber                   e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2)

so that a label is learnt as if it were alone. A number is learnt in its own deviations from its mean over the training
rows, e = z - (t - mean) / deviation; the last layer of a trained head has both in it, and answers in the number's unit.
A module of one's own has no layer that is known to be the last: both are kept beside it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from featcache.heads import EpochRow, HeadConfig, KeptTargets, LinearHead, Scores, choose_kept, score_outputs
from featcache.heads.modules import ModuleHead, TrainedHead, output_layer
from featcache.heads.training.module_stack import (
    ModuleStack,
    TrainedModule,
    clip_gradient,
    for_inference,
    own_gradients,
)
from featcache.heads.training.stack import UNSCORED, EpochChunk, LabelledBlocks, TrainingPlan
from featcache.heads.training.standardization import FeatureStatistics
from featcache.recipe import LABELS


class TrainedOnTargets(TrainedModule):
    """One head of a stack: its module, its loss, and all that a step of it takes.

    Attributes:
        scale: (mean, deviation) of the numbers that are learnt, each (outputs,); None where labels are.
        weights: (outputs,) of the rows that have each label.
    """

    def __init__(self, config: HeadConfig, plan: TrainingPlan) -> None:
        super().__init__(config, plan)
        statistics = plan.statistics
        self.scale = None
        if statistics.target_mean is not None:
            self.scale = tuple(
                torch.tensor(values, dtype=torch.float32, device=plan.device)
                for values in (statistics.target_mean, statistics.target_std)
            )
        self.weights = label_weights(config, plan).to(plan.device)
        self.kept = self._kept(statistics)

    def _kept(self, statistics: FeatureStatistics) -> KeptTargets:
        """Return what is kept of the numbers that are learnt; nothing of labels."""
        if statistics.target_std is None or statistics.target_mean is None:
            return KeptTargets()
        mean = statistics.target_mean.tolist() if output_layer(self.module) is None else ()
        return KeptTargets(deviation=tuple(statistics.target_std.tolist()), mean=tuple(mean))

    def learn(self, number: int, lr: float, x: Tensor, y: Tensor) -> Tensor:
        """Take one step, and return its loss over the rows, labels or numbers, without weights of labels.

        Args:
            number: of the step, over all epochs.
            lr: the learning rate.
            x: (rows, width) the batch.
            y: (rows, outputs) its targets.
        """
        self._seed_dropout(number)
        for layer in self.normalized:
            layer.train(len(x) > 1)
        with torch.enable_grad():
            outputs = self.module(x)
            torch.autograd.backward(self.loss(outputs, y, self.weights).sum(dim=1).mean())
        if self.config.clip_norm is not None:
            clip_gradient(self.parameters, self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.loss(outputs.detach(), y, None).mean()

    def loss(self, outputs: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Return the loss of each label or number, (rows, outputs).

        Args:
            outputs: (rows, outputs) of the module.
            y: the same of the targets.
            weights: (outputs,) of the rows that have each label; None for 1.
        """
        if self.config.targets == LABELS:
            return functional.binary_cross_entropy_with_logits(outputs, y, pos_weight=weights, reduction="none")
        if self.scale is not None:
            y = (y - self.scale[0]) / self.scale[1]
        if self.config.loss == "huber":
            return functional.huber_loss(outputs, y, reduction="none", delta=self.config.huber_delta)
        return functional.mse_loss(outputs, y, reduction="none")

    def answers(self, x: Tensor) -> Tensor:
        """Return the outputs of rows in the unit of the targets, (rows, outputs)."""
        outputs: Tensor = self.module(x)
        return outputs if self.scale is None else outputs * self.scale[1] + self.scale[0]


class TargetStack(ModuleStack):
    """Heads on several labels or numbers; each takes its own steps on the batches that all of them see."""

    kind = TrainedOnTargets
    members: list[TrainedOnTargets]

    def __init__(self, plan: TrainingPlan) -> None:
        super().__init__(plan)
        self.running = [0.0] * self.heads  # the loss of an epoch, summed over its rows
        self.losses_of_steps: list[list[Tensor]] = [[] for _ in range(self.heads)]
        self.rows_of_steps: list[int] = []

    def train_epoch(self, chunks: Iterable[EpochChunk]) -> list[Tensor]:
        """Take an epoch's steps, and return the targets that they saw, in their order."""
        self.losses_of_steps, self.rows_of_steps = [[] for _ in range(self.heads)], []
        return super().train_epoch(chunks)

    def train_scores(self, y: Tensor) -> list[Scores]:  # noqa: ARG002 (the losses are noted as they come)
        """Return the running loss of the last epoch, by config; metrics are those of a whole split."""
        rows = torch.tensor(self.rows_of_steps, dtype=torch.float64)
        scores = [
            UNSCORED if not losses else _only_loss(float((torch.stack(losses).cpu().double() @ rows) / rows.sum()))
            for losses in self.losses_of_steps
        ]
        return self.by_config(scores)

    def score(self, blocks: LabelledBlocks, rows: int) -> list[Scores]:  # noqa: ARG002 (outputs are kept as they come)
        """Return the scores, by config; the thresholds of labels are chosen on the very rows."""
        truth: list[Tensor] = []
        outputs: list[list[Tensor]] = [[] for _ in self.members]
        with for_inference(self.members):
            for x, y in blocks:
                truth.append(y.cpu())
                for start in range(0, len(y), self.scored_rows):
                    block = self.x[: len(y[start : start + self.scored_rows])]
                    block.copy_(x[start : start + self.scored_rows])
                    standardized = self._standardized(block)
                    for member, of_member in zip(self.members, outputs, strict=True):
                        of_member.append(member.answers(standardized).cpu())
        t = torch.cat(truth).double().numpy()
        return self.by_config(
            [_score(member, torch.cat(z).double().numpy(), t) for member, z in zip(self.members, outputs, strict=True)]
        )

    def trained_heads(
        self, histories: Sequence[Sequence[EpochRow]], best_epochs: Sequence[int | None]
    ) -> list[TrainedHead]:  # fmt: skip
        """Return the heads, by config, with their histories and best epochs; they have no scores yet."""
        members = self.by_config(self.members)
        return [
            self._trained_head(member, history, best_epoch)
            for member, history, best_epoch in zip(members, histories, best_epochs, strict=True)
        ]

    def _trained_head(
        self, member: TrainedOnTargets, history: Sequence[EpochRow], best_epoch: int | None
    ) -> TrainedHead:  # fmt: skip
        steps, epochs = self.steps * len(history), tuple(history)
        with own_gradients():
            if member.scale is not None and not member.kept.mean:
                fold_scale(output_layer(member.module), *member.scale)
        if not member.config.is_linear:
            return ModuleHead(
                member.config, self.embedding_width, self.classes, self._tensors(member), steps, epochs, UNSCORED, None,
                best_epoch, targets=member.kept,
            )  # fmt: skip
        weight, bias = self._linear(member.module)
        return LinearHead(
            member.config, weight, bias, steps, epochs, UNSCORED, None, best_epoch, targets=member.kept
        )  # fmt: skip

    def _linear(self, module: nn.Module) -> tuple[Any, Any]:
        """Return weight and bias of a linear head, on rows as they are."""
        layer = output_layer(module)
        assert layer is not None  # noqa: S101 (`build_module` made it)
        w = torch.zeros(1, self.classes, self.width)
        w[0, :, : self.dim], w[0, :, self.dim] = layer.weight.detach().cpu(), layer.bias.detach().cpu()
        w = w if self.standardizer is None else self.standardizer.unstandardize(w)
        return w[0, :, : self.dim].numpy().copy(), w[0, :, self.dim].numpy().copy()

    def _step(self, step: int, x: Tensor, y: Tensor) -> None:
        """Take step 0, 1, … of an epoch, for every head that has not stopped."""
        self.rows_of_steps.append(len(x))
        y = y.clone()  # which autograd may use: the rows' own were made in inference mode
        members = zip(self.members, self.rates[step], self.losses_of_steps, strict=True)
        for member, lr, losses in members:
            if lr:
                losses.append(member.learn(self.epoch * self.steps + step, lr, x, y))


def label_weights(config: HeadConfig, plan: TrainingPlan) -> Tensor:
    """Return the weight in the loss of the rows that have each label, (labels,).

    Args:
        config: the head's settings.
        plan: of the training; a label that no row has, or every one, has weight 1.
    """
    counts = plan.statistics.class_counts
    if config.class_weights == "none":
        return torch.ones(len(counts))
    return torch.tensor(balanced_label_weights(counts, plan.rows), dtype=torch.float32)


def balanced_label_weights(counts: npt.NDArray[Any], rows: int) -> npt.NDArray[np.float64]:
    """Return rows that lack each label over those that have it, (labels,); 1 where none or every row has it.

    Args:
        counts: (labels,) rows that have each label.
        rows: of the training.
    """
    lacking = rows - counts
    is_mixed = (counts > 0) & (lacking > 0)
    weights: npt.NDArray[np.float64] = np.divide(lacking, counts, out=np.ones(len(counts)), where=is_mixed)
    return weights


def fold_scale(layer: nn.Linear | None, mean: Tensor, deviation: Tensor) -> None:
    """Have the last layer of a module answer in the unit of its numbers: W s, and b s + mean."""
    assert layer is not None  # noqa: S101 (else nothing was scaled)
    layer.weight.copy_(layer.weight.double() * deviation.double()[:, None])
    layer.bias.copy_(layer.bias.double() * deviation.double() + mean.double())


def _score(member: TrainedOnTargets, outputs: Any, truth: Any) -> Scores:
    kept = choose_kept(member.config, member.kept, outputs, truth)
    return score_outputs(member.config, kept, outputs, truth)


def _only_loss(loss: float) -> Scores:
    return Scores(math.nan, math.nan, loss)
