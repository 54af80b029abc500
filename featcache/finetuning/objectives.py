"""What a training learns of an image: one class, several labels, or numbers; its loss, and the scores that follow.

The losses of labels and numbers are those of the heads of fit-head (`featcache.heads.training`): summed over the labels
or numbers of an image, averaged over images; a number is learnt in its own deviations from its mean over train.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from featcache.finetuning.state import RunningScores
from featcache.heads import (
    HeadConfig,
    KeptTargets,
    LinearHead,
    Scores,
    choose_kept,
    compute_outputs,
    score_blocks,
    score_outputs,
)
from featcache.recipe import LABEL, LABELS

Blocks = Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[Any]]]  # what a head reads, and what is true of it


class TrainingObjective(Protocol):
    """The loss of a training and its scores."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch; outputs (n, outputs), target as the batch has it."""

    def weigh(self, target: Tensor) -> float:
        """Return what the loss of a batch is a mean over: its images, each with the weight of its class."""

    def record(self, running: RunningScores, outputs: Tensor, truth: Tensor) -> None:
        """Add a batch to the scores on train."""

    def finished(self, head: LinearHead) -> LinearHead:
        """Return the head of the network as it is kept: it answers in the numbers' units."""

    def layer_of(self, head: LinearHead) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return weight and bias with which the network answers as a head that was kept."""

    def score(self, head: LinearHead, blocks: Blocks) -> tuple[LinearHead, Scores]:
        """Return the head, with the thresholds of its labels chosen on these rows, and its scores on them."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassObjective:
    """Cross-entropy of one class an image."""

    classes: int
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()  # () is the same for all

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch: target (n,) are classes, or (n, classes) shares of them."""
        weights = torch.tensor(self.class_weights, device=outputs.device) if self.class_weights else None
        return functional.cross_entropy(outputs, target, weight=weights, label_smoothing=self.label_smoothing)

    def weigh(self, target: Tensor) -> float:
        """Return the images of a batch, each with the weight of its class; one with shares of classes counts as one."""
        if not self.class_weights or target.is_floating_point():
            return float(len(target))
        return float(torch.tensor(self.class_weights)[target.cpu()].sum())

    def record(self, running: RunningScores, outputs: Tensor, truth: Tensor) -> None:
        """Add a batch to the scores on train."""
        places = (truth * self.classes + outputs.argmax(dim=1)).cpu()
        counts = torch.bincount(places, minlength=self.classes**2).view(self.classes, self.classes)
        running.confusion += counts.numpy()
        running.loss += float(functional.cross_entropy(outputs, truth, reduction="sum"))

    def finished(self, head: LinearHead) -> LinearHead:
        """Return the head as it is."""
        return head

    def layer_of(self, head: LinearHead) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the head's own weight and bias."""
        return head.weight, head.bias

    def score(self, head: LinearHead, blocks: Blocks) -> tuple[LinearHead, Scores]:
        """Return the head, and its scores on these rows."""
        return head, score_blocks(head.logits, blocks, self.classes)


@dataclass(frozen=True, slots=True, eq=False)
class TargetObjective:
    """Binary cross-entropy of several labels an image, or the squared error of numbers."""

    config: HeadConfig  # its loss says which
    label_weights: tuple[float, ...] = ()  # (labels,) of the images that have each label; () is 1 for all
    mean: tuple[float, ...] = ()  # (numbers,) over train; () of labels
    deviation: tuple[float, ...] = ()

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch; target (n, outputs) are labels, shares of them, or numbers in their units."""
        weights = torch.tensor(self.label_weights, device=outputs.device) if self.label_weights else None
        return self._losses(outputs, target, weights).sum(dim=1).mean()

    def _losses(self, outputs: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        if self.config.targets == LABELS:
            return functional.binary_cross_entropy_with_logits(outputs, target, pos_weight=weights, reduction="none")
        mean, deviation = (torch.tensor(values, device=outputs.device) for values in (self.mean, self.deviation))
        return functional.mse_loss(outputs, (target - mean) / deviation, reduction="none")

    def weigh(self, target: Tensor) -> float:
        """Return the images of a batch."""
        return float(len(target))

    def record(self, running: RunningScores, outputs: Tensor, truth: Tensor) -> None:
        """Add a batch to the scores on train: the loss alone, metrics are those of a whole split."""
        running.rows += len(truth)
        running.loss += float(self._losses(outputs, truth, None).mean(dim=1).sum())

    def finished(self, head: LinearHead) -> LinearHead:
        """Return the head with mean and deviation of its numbers in its weights."""
        kept = KeptTargets(deviation=self.deviation)
        if not self.deviation:
            return replace(head, targets=kept)
        deviation, mean = np.array(self.deviation), np.array(self.mean)
        weight, bias = head.weight * deviation[:, None], head.bias * deviation + mean
        return replace(head, weight=weight.astype(np.float32), bias=bias.astype(np.float32), targets=kept)

    def layer_of(self, head: LinearHead) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return weight and bias that answer in deviations of the numbers of train."""
        if not self.deviation:
            return head.weight, head.bias
        deviation, mean = np.array(self.deviation), np.array(self.mean)
        weight, bias = head.weight / deviation[:, None], (head.bias - mean) / deviation
        return weight.astype(np.float32), bias.astype(np.float32)

    def score(self, head: LinearHead, blocks: Blocks) -> tuple[LinearHead, Scores]:
        """Return the head, with the thresholds of its labels chosen on these rows, and its scores on them."""
        parts = [(compute_outputs(head.logits, x, head.classes), truth.astype(np.float64)) for x, truth in blocks]
        outputs, truth = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        kept = choose_kept(self.config, head.targets, outputs, truth)
        return replace(head, targets=kept), score_outputs(self.config, kept, outputs, truth)


def make_objective(
    config: HeadConfig, labels: Tensor, classes: int, class_weights: tuple[float, ...] = ()
) -> TrainingObjective:
    """Return what a training learns.

    Args:
        config: Its settings; its loss says what is learnt.
        labels: Of train: (images,) classes, or (images, outputs) labels or numbers.
        classes: How many outputs there are.
        class_weights: (outputs,) in the loss; () is the same for all.
    """
    if config.targets == LABEL:
        return ClassObjective(classes, config.label_smoothing, class_weights)
    if config.targets == LABELS:
        return TargetObjective(config, label_weights=class_weights)
    values = labels.double()
    deviation = values.std(dim=0, correction=0)
    deviation[deviation == 0] = 1
    return TargetObjective(config, mean=tuple(values.mean(dim=0).tolist()), deviation=tuple(deviation.tolist()))
