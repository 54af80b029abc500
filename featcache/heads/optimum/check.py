"""The check: the convex optimum on the same embeddings, and how far a head is from it.

One objective for both, on the training rows, with W (classes, dim) and a free bias b:

    f(W, b) = mean cross-entropy of X W' + b + (lambda / 2) |W|^2,    lambda = max(weight decay, 1e-6)

scikit-learn's LogisticRegression (lbfgs) minimises the same with C = 1 / (lambda n); `lbfgs` is ours, and tests hold
the two together. A head that was asked for another loss is held against that loss: class weights and balanced draws
weigh the rows, label smoothing and logit adjustment stand in the cross-entropy, and a head that standardises has its
|W|^2 on standardised rows. All of them are convex.

A class that no row asks for: the infimum over its bias is the objective without it. It keeps its index with W = 0 and a
bias 100 nats below the mean of the others, which adds less than 1e-43 to a softmax.

It starts from the head where the head beats zero weights, so it is never worse than the head; f is convex, so
the start changes the way and not the goal.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads import HeadConfig, LinearHead, Scores, linear_logits, scores
from featcache.heads.optimum.lbfgs import Point, Softmax, Target, minimise
from featcache.heads.training import adjustment, class_weights, moments_of

Doubles = npt.NDArray[np.float64]

LEAST_WEIGHT_DECAY = 1e-6  # without any, separable rows have no finite optimum
# Of the largest gradient entry, on rows centred and scaled to a mean square length of 1, as a share of the
# objective: what lbfgs aims at, and what still counts as converged. float32 rows stop short of the first.
AIM, TOLERANCE = 5e-6, 3e-5
DOUBLE_BYTES = 128 * 2**20  # beyond it the rows stay float32: 1.6 times the iterations a second, half the memory
NATS_BELOW = 100.0
THERE = 0.01  # a setting that leaves less than this share is said to get there
AT_OPTIMUM = 0.001  # a head with less than this share of its objective to go is called at the optimum


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that was changed, trained and measured."""

    flag: str  # --lr, --epochs
    value: float
    share: float  # of that head's loss that is still to go


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """The optimum, as far as it was reached, and the head held against it."""

    weight_decay: float  # lambda
    objective: float  # f at the check's own weights
    head_objective: float  # f at the head's; not finite where the head diverged
    gap: float  # head_objective - objective
    gap_share: float  # gap / head_objective: the share of the head's loss that is still to go
    gradient_norm: float  # |grad f| at the head, weights and bias together
    separable: bool  # the check classifies every training row right, which proves them linearly separable
    converged: bool  # the largest entry of grad f at the check is within TOLERANCE; else the check stopped early
    iterations: int
    seconds: float
    train: Scores
    val: Scores | None
    head_train: Scores
    head_val: Scores | None
    weight: Doubles  # (classes, dim)
    bias: Doubles  # (classes,)
    asked: str = ""  # what the loss has beside the plain cross-entropy
    tried: tuple[Trial, ...] = ()
    no_time: bool = False  # the head is far, and there was no time to try anything

    def sentence(self) -> str:
        """How far the head is from the optimum, in one sentence."""
        split = "train" if self.val is None else "val"
        head, check = self.head_val or self.head_train, self.val or self.train
        which = "the optimum" if self.converged else "the check"
        early = f"stopped early, after {_iterations(self.iterations)} in {self.seconds:.0f} s"
        to_go = f"the head's training loss, {self.asked}weight decay {self.weight_decay:g} included,"
        if not math.isfinite(self.head_objective):
            aside = "" if self.converged else f", which {early},"
            found = f"{which}{aside} has {_said(check)} on {split}"
            return f"The head diverged and has no distance to the optimum; {found}."
        if self.gap_share >= AT_OPTIMUM and self.converged:
            opening = f"{_percent(self.gap_share)} of {to_go} is still to go"
        elif self.gap_share >= AT_OPTIMUM:
            opening = f"At least {_percent(self.gap_share)} of {to_go} is still to go (the check {early})"
        elif self.converged:
            opening = f"The head is at the optimum: less than 0.1 % of {to_go} is still to go"
        elif self.iterations:
            opening = f"The check {early}, and by then found less than 0.1 % of {to_go} still to go"
        else:
            opening = "The check had no time for one iteration and cannot say how far the optimum is"
        tail = "; a linear head can classify every training row right" if self.separable else ""
        return f"{opening}{self.advice()}: the head has {_said(head)} on {split}, {which} {_said(check)}{tail}."

    def advice(self) -> str:
        """Which setting gets nearer, of those that were tried; "" where there is nothing to say."""
        if self.no_time:
            return "; there was no time to try another --lr (--check-seconds gives more)"
        if not self.tried:
            return ""
        best = min(self.tried, key=lambda trial: trial.share)
        if best.share < THERE:
            return f"; raise {best.flag} ({best.value:g} gets there)"
        if best.share < self.gap_share / 2:
            return f"; raise {best.flag} ({best.value:g} leaves {_percent(best.share)})"
        tried = ", ".join(f"{trial.flag} {trial.value:g}" for trial in self.tried)
        return f"; of {tried} none gets half way"


def check_head(
    head: LinearHead, train: Features, val: Features | None, *, seconds: float = 30.0, device: str = "cpu"
) -> Check:
    """Hold a head against the optimum of its objective on the rows that it was trained on.

    Args:
        head: trained on `train`; one that diverged is allowed.
        train: the rows of the objective.
        val: scored, nothing else.
        seconds: the time that it may take, all in all; measuring the head is the least.
        device: where torch computes.

    Raises:
        UsageError: `seconds` is not above 0, or the training split has no rows.
    """
    if not seconds > 0:
        raise UsageError(f"the check has {seconds} seconds, expected a number above 0; or leave the check out.")
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")
    ends = time.perf_counter() + seconds
    objective = Objective(head.config, train, device)
    at_head, best, iterations = objective.optimum(head, ends)
    weight, bias = objective.weights(best)
    logits = partial(linear_logits, weight=weight.astype(np.float32), bias=bias.astype(np.float32))
    gap = at_head.value - best.value
    return Check(
        weight_decay=objective.weight_decay,
        objective=best.value,
        head_objective=at_head.value,
        gap=gap,
        gap_share=gap / at_head.value if at_head.value else 0.0,
        gradient_norm=objective.gradient_norm(at_head),
        separable=best.all_right,
        converged=objective.converged(best),
        iterations=iterations,
        train=scores(logits, train),
        val=None if val is None else scores(logits, val),
        head_train=head.train,
        head_val=None if val is None else head.val or scores(head.logits, val),
        weight=weight,
        bias=bias,
        asked=_asked(head.config),
        seconds=seconds + time.perf_counter() - ends,
    )


class Objective:
    """f of one head's settings on one set of rows, centred (and scaled where the head standardises)."""

    def __init__(self, config: HeadConfig, train: Features, device: str = "cpu") -> None:
        self.weight_decay, self.classes = max(config.weight_decay, LEAST_WEIGHT_DECAY), len(train.classes)
        rows, dim = train.x.shape
        counts = np.bincount(train.y, minlength=self.classes)
        target = target_of(config, counts)
        self.present = np.flatnonzero((counts > 0) | (target.each.any() * target.spread > 0))
        # Rounded to float32, so that what is subtracted there is known exactly.
        self.mean = train.x.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.standardized = config.standardize
        self.std = moments_of(train, [config]).std if config.standardize else np.ones(dim)
        double = rows * dim * 8 <= DOUBLE_BYTES and device != "mps"
        centred = np.subtract(train.x, self.mean, dtype=np.float64 if double else np.float32)
        if config.standardize:
            centred /= self.std
        flat = centred.reshape(-1)
        self.length = math.sqrt(float(flat @ flat) / rows) or 1.0
        asked = counts @ target.a  # what all rows weigh; without smoothing, the sum of their weights
        self.share = (counts * target.kept + counts @ target.each * target.spread)[self.present] / asked
        total = float(counts @ (target.kept / (1 - config.label_smoothing)))
        self.softmax = Softmax(
            torch.from_numpy(centred).to(device), torch.from_numpy(train.y).to(device), target, total, self.weight_decay
        )

    def at(self, head: LinearHead) -> Point:
        """F at a head's weights."""
        weight = head.weight.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged head has no f
            return self.softmax.at(weight * self.std, head.bias + weight @ self.mean)

    def weights(self, point: Point) -> tuple[Doubles, Doubles]:
        """A point's weights and biases on rows as they are."""
        weight = point.weight / self.std
        return weight, point.bias - weight @ self.mean

    def gradient_norm(self, point: Point) -> float:
        """|grad f| by the weights and biases that the head learns: on rows as they are, or as it standardises them."""
        with np.errstate(over="ignore", invalid="ignore"):
            from_zero = 0 if self.standardized else np.outer(point.d_bias, self.mean)
            d_weight = point.d_weight + from_zero
        return float(np.hypot(np.linalg.norm(d_weight), np.linalg.norm(point.d_bias)))

    def optimum(self, head: LinearHead, ends: float) -> tuple[Point, Point, int]:
        """F at the head, at the lowest point that was reached by `ends`, and the iterations to it."""
        began = time.perf_counter()
        at_head = self.at(head)
        zero = self.softmax.at(*self._lowered(np.zeros_like(at_head.weight), self._logs()))
        start = zero
        if at_head.value < zero.value:  # never where the head is nan
            start = self.softmax.at(*self._lowered(at_head.weight, at_head.bias))
        ends -= time.perf_counter() - began  # for the final scores
        best, iterations = minimise(self.softmax, start, done=self._aimed, ends=ends)
        low = self.softmax.at(*self._lowered(best.weight, best.bias)) if iterations else start
        return at_head, min(low, start, key=lambda point: point.value), iterations

    def converged(self, point: Point, tolerance: float = TOLERANCE) -> bool:
        """Whether the largest entry of the gradient, on rows centred and scaled to length 1, is small enough."""
        steepest = max(np.abs(point.d_weight).max() / self.length, np.abs(point.d_bias).max())
        return bool(steepest <= tolerance * max(point.value, 1e-9))

    def _aimed(self, point: Point) -> bool:
        return len(self.present) == 1 or self.converged(point, AIM)

    def _logs(self) -> Doubles:
        """The biases that are best without weights: the logarithm of what share of the rows asks for each class."""
        bias = np.zeros(self.classes)
        bias[self.present] = np.log(self.share) - self.softmax.target.offset[self.present]
        return bias

    def _lowered(self, weight: Doubles, bias: Doubles) -> tuple[Doubles, Doubles]:
        """The same classifier with f no higher: mean weight 0 over the present classes, others far below.

        The largest of the present logits is at least their mean, and that is now the mean bias whatever x is:
        an absent class, 100 nats below it, never wins.
        """
        low_weight, low_bias = np.zeros_like(weight), np.empty_like(bias)
        low_weight[self.present] = weight[self.present] - weight[self.present].mean(axis=0)
        low_bias[:] = bias[self.present].mean() - NATS_BELOW
        low_bias[self.present] = bias[self.present]
        return low_weight, low_bias


def target_of(config: HeadConfig, counts: npt.NDArray[np.int64]) -> Target:
    """What a head's loss asks of a row of each class; balanced draws weigh a row as often as it is drawn."""
    weights = class_weights(config, counts)
    as_drawn = replace(config, class_weights="balanced" if config.sampler == "balanced" else "none")
    drawn = class_weights(as_drawn, counts)
    return Target(
        kept=(1 - config.label_smoothing) * weights * drawn,
        each=drawn * (config.label_smoothing > 0),
        spread=config.label_smoothing / len(counts) * weights,
        offset=adjustment(config, counts),
    )


def _asked(config: HeadConfig) -> str:
    parts = {
        "class weights": config.class_weights != "none",
        "balanced draws": config.sampler != "uniform",
        "label smoothing": config.label_smoothing > 0,
        "logit adjustment": config.logit_adjustment > 0,
    }
    return "".join(f"{part}, " for part, there in parts.items() if there)


def _iterations(count: int) -> str:
    return "1 iteration" if count == 1 else f"{count:,} iterations"


def _percent(share: float) -> str:
    """In percent, rounded down, so that "at least" stays true."""
    return f"{math.floor(share * 100)} %" if share >= 0.01 else f"{math.floor(share * 1000) / 10:.1f} %"


def _said(found: Scores) -> str:
    return f"macro recall {found.macro_recall:.1%} and loss {found.loss:.3f}".replace("%", " %")
