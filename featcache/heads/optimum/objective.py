"""The objective that a head is held against, of its own settings, on its own training rows; `check` has the formula."""

import math
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from featcache.features import Features
from featcache.heads import HeadConfig, LinearHead
from featcache.heads.optimum.lbfgs import LossTarget, Point, SoftmaxRegression, minimise
from featcache.heads.training import class_weights, compute_statistics, logit_offsets

Doubles = npt.NDArray[np.float64]

MIN_WEIGHT_DECAY = 1e-6  # without any, separable rows have no finite optimum
# Of the largest gradient entry, on rows centred and scaled to a mean square length of 1, as a share of the
# objective: what lbfgs aims at, and what still counts as converged. float32 rows stop short of the first.
AIM, TOLERANCE = 5e-6, 3e-5
MAX_FLOAT64_BYTES = 128 * 2**20  # beyond it the rows stay float32: 1.6 times the iterations a second, half the memory
ABSENT_CLASS_NATS = 100.0


class Objective:
    """The objective f of one head's settings on one set of rows, centred (and scaled where the head standardizes)."""

    def __init__(self, config: HeadConfig, train: Features, device: str = "cpu") -> None:
        self.weight_decay, self.classes = max(config.weight_decay, MIN_WEIGHT_DECAY), len(train.classes)
        rows, dim = train.x.shape
        counts = np.bincount(train.y, minlength=self.classes)
        target = make_loss_target(config, counts)
        self.present = np.flatnonzero((counts > 0) | (target.each.any() * target.spread > 0))
        # Rounded to float32, so that what is subtracted there is known exactly.
        self.mean = train.x.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.standardized = config.standardize
        self.std = compute_statistics(train, [config]).std if config.standardize else np.ones(dim)
        double = rows * dim * 8 <= MAX_FLOAT64_BYTES and device != "mps"
        centred = np.subtract(train.x, self.mean, dtype=np.float64 if double else np.float32)
        if config.standardize:
            centred /= self.std
        flat = centred.reshape(-1)
        self.length = math.sqrt(float(flat @ flat) / rows) or 1.0
        all_rows = counts @ target.a  # what they weigh; without smoothing, the sum of their weights
        self.share = (counts * target.kept + counts @ target.each * target.spread)[self.present] / all_rows
        total = float(counts @ (target.kept / (1 - config.label_smoothing)))
        self.regression = SoftmaxRegression(
            torch.from_numpy(centred).to(device), torch.from_numpy(train.y).to(device), target, total, self.weight_decay
        )

    def evaluate(self, head: LinearHead) -> Point:
        """Return f and its gradient at a head's weights."""
        weight = head.weight.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged head has no f
            return self.regression.evaluate(weight * self.std, head.bias + weight @ self.mean)

    def weights_and_biases(self, point: Point) -> tuple[Doubles, Doubles]:
        """Return a point's weights (classes, dim) and biases (classes,) on rows as they are."""
        weight = point.weight / self.std
        return weight, point.bias - weight @ self.mean

    def gradient_norm(self, point: Point) -> float:
        """Return |grad f| by the weights and biases that the head learns: on rows as they are, or standardized."""
        with np.errstate(over="ignore", invalid="ignore"):
            from_zero = 0 if self.standardized else np.outer(point.d_bias, self.mean)
            d_weight = point.d_weight + from_zero
        return float(np.hypot(np.linalg.norm(d_weight), np.linalg.norm(point.d_bias)))

    def minimise_from(self, head: LinearHead, deadline: float) -> tuple[Point, Point, int]:
        """Return f at the head, f at the lowest point that was reached in time, and the iterations to it.

        Args:
            head: may have diverged.
            deadline: what the clock (`time.perf_counter`) may read at the end, the final scores included.
        """
        began = time.perf_counter()
        at_head = self.evaluate(head)
        zero = self.regression.evaluate(*self._centred(np.zeros_like(at_head.weight), self._best_biases()))
        start = zero
        if at_head.value < zero.value:  # never where the head is nan
            start = self.regression.evaluate(*self._centred(at_head.weight, at_head.bias))
        deadline -= time.perf_counter() - began  # for the final scores
        best, iterations = minimise(self.regression, start, is_done=self._is_solved, deadline=deadline)
        low = self.regression.evaluate(*self._centred(best.weight, best.bias)) if iterations else start
        return at_head, min(low, start, key=lambda point: point.value), iterations

    def is_converged(self, point: Point, tolerance: float = TOLERANCE) -> bool:
        """Return whether the largest entry of the gradient, on rows centred and scaled to length 1, is small enough."""
        steepest = max(np.abs(point.d_weight).max() / self.length, np.abs(point.d_bias).max())
        return bool(steepest <= tolerance * max(point.value, 1e-9))

    def _is_solved(self, point: Point) -> bool:
        """Return whether a point is as good as lbfgs aims at."""
        return len(self.present) == 1 or self.is_converged(point, AIM)

    def _best_biases(self) -> Doubles:
        """Return the biases that are best without weights: the logarithms of the classes' shares of the loss."""
        bias = np.zeros(self.classes)
        bias[self.present] = np.log(self.share) - self.regression.target.offset[self.present]
        return bias

    def _centred(self, weight: Doubles, bias: Doubles) -> tuple[Doubles, Doubles]:
        """Return the same classifier with f no higher: mean weight 0 over the present classes, others far below.

        The largest of the present logits is at least their mean, and that is now the mean bias whatever x is:
        an absent class, 100 nats below it, never wins.
        """
        new_weight, new_bias = np.zeros_like(weight), np.empty_like(bias)
        new_weight[self.present] = weight[self.present] - weight[self.present].mean(axis=0)
        new_bias[:] = bias[self.present].mean() - ABSENT_CLASS_NATS
        new_bias[self.present] = bias[self.present]
        return new_weight, new_bias


def make_loss_target(config: HeadConfig, counts: npt.NDArray[np.int64]) -> LossTarget:
    """Return the loss of a row of each class; balanced draws weigh a row as often as it is drawn."""
    weights = class_weights(config, counts)
    as_drawn = replace(config, class_weights="balanced" if config.sampler == "balanced" else "none")
    drawn = class_weights(as_drawn, counts)
    return LossTarget(
        kept=(1 - config.label_smoothing) * weights * drawn,
        each=drawn * (config.label_smoothing > 0),
        spread=config.label_smoothing / len(counts) * weights,
        offset=logit_offsets(config, counts),
    )
