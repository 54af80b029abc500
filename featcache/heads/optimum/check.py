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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads import HeadConfig, LinearHead, Scores, linear_logits, score_split
from featcache.heads.optimum.objective import Objective
from featcache.text import counted, percent, percent_at_least

Doubles = npt.NDArray[np.float64]

NEAR_OPTIMUM = 0.01  # a head whose objective could fall by less than this share needs no advice
AT_OPTIMUM = 0.001  # one whose objective could fall by less than this share is called at the optimum


@dataclass(frozen=True, slots=True)
class TriedSetting:
    """One setting that was changed, trained and measured."""

    flag: str  # --lr, --epochs
    value: float
    share: float  # by which that head's objective could still fall


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """The optimum, as far as it was reached, and the head held against it."""

    weight_decay: float  # lambda
    objective: float  # f at the check's own weights
    head_objective: float  # f at the head's; not finite where the head diverged
    gap: float  # head_objective - objective
    gap_share: float  # gap / head_objective: the share by which the head's objective could still fall
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
    loss_terms: tuple[str, ...] = ()  # what the loss has beside the plain cross-entropy
    tried: tuple[TriedSetting, ...] = ()
    no_time: bool = False  # the head is far, and there was no time to try anything

    def sentence(self) -> str:
        """Return how far the head is from the optimum, in one sentence."""
        split = "train" if self.val is None else "val"
        head, check = self.head_val or self.head_train, self.val or self.train
        reached = "the optimum" if self.converged else "the check"
        stopped = f"stopped early, after {counted(self.iterations, 'iteration')} in {self.seconds:.0f} s"
        if not math.isfinite(self.head_objective):
            aside = "" if self.converged else f", which {stopped},"
            optimum = f"{reached}{aside} has {_describe(check)} on {split}"
            return f"The head diverged and has no distance to the optimum; {optimum}."
        tail = "; a linear head can classify every training row right" if self.separable else ""
        scores = f"the head has {_describe(head)} on {split}, {reached} {_describe(check)}"
        return f"{self._distance(stopped)}{self.advice()}: {scores}{tail}."

    def _distance(self, stopped: str) -> str:
        """Return how far the objective could still fall; `stopped` says when the check stopped."""
        loss = f"training loss, including {_enumerate([*self.loss_terms, f'weight decay {self.weight_decay:g}'])},"
        if self.gap_share >= AT_OPTIMUM and self.converged:
            return f"The head's {loss} could still fall by {percent_at_least(self.gap_share)}"
        if self.gap_share >= AT_OPTIMUM:
            fall = percent_at_least(self.gap_share)
            return f"The head's {loss} could still fall by at least {fall} (the check {stopped})"
        if self.converged:
            return f"The head is at the optimum: its {loss} could fall by less than {percent(AT_OPTIMUM)}"
        if self.iterations:
            return f"The check {stopped}, having lowered the head's {loss} by less than {percent(AT_OPTIMUM)}"
        return "The check had no time for a single iteration and cannot say how far the head is from the optimum"

    def advice(self) -> str:
        """Return which setting gets nearer, of those that were tried; "" where there is nothing to say."""
        if self.no_time:
            return "; there was no time to try another --lr (--check-seconds gives more)"
        if not self.tried:
            return ""
        best = min(self.tried, key=lambda setting: setting.share)
        if best.share < NEAR_OPTIMUM:
            return f"; raise {best.flag} (with {best.value:g} it could fall by less than {percent(NEAR_OPTIMUM, 0)})"
        if best.share < self.gap_share / 2:
            return f"; raise {best.flag} (with {best.value:g} it could fall by only {percent_at_least(best.share)})"
        tried = ", ".join(f"{setting.flag} {setting.value:g}" for setting in self.tried)
        return f"; none of the settings that were tried ({tried}) gets even half of the way"


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

    Returns:
        The optimum as far as it was reached, and the head's distance from it.

    Raises:
        UsageError: `seconds` is not above 0, or the training split has no rows.
    """
    if not seconds > 0:
        raise UsageError(f"the check has {seconds} seconds, expected a number above 0; or leave the check out.")
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")
    deadline = time.perf_counter() + seconds
    objective = Objective(head.config, train, device)
    at_head, best, iterations = objective.minimise_from(head, deadline)
    weight, bias = objective.weights_and_biases(best)
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
        converged=objective.is_converged(best),
        iterations=iterations,
        train=score_split(logits, train),
        val=None if val is None else score_split(logits, val),
        head_train=head.train,
        head_val=None if val is None else head.val or score_split(head.logits, val),
        weight=weight,
        bias=bias,
        loss_terms=_loss_terms(head.config),
        seconds=seconds + time.perf_counter() - deadline,
    )


def _loss_terms(config: HeadConfig) -> tuple[str, ...]:
    """Return what a head's loss has beside the plain cross-entropy, in words."""
    terms = {
        "class weights": config.class_weights != "none",
        "balanced draws": config.sampler != "uniform",
        "label smoothing": config.label_smoothing > 0,
        "logit adjustment": config.logit_adjustment > 0,
    }
    return tuple(term for term, is_used in terms.items() if is_used)


def _enumerate(words: Sequence[str]) -> str:
    """Return words as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _describe(scores: Scores) -> str:
    """Return scores in words."""
    return f"macro recall {percent(scores.macro_recall)} and loss {scores.loss:.3f}"
