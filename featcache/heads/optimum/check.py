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

The optimum of f says how far training is from its own goal, not whether the goal is good: with dim >> rows and a small
lambda it classifies every training row right, and is often the worse classifier. Where there is a val split the optima
of other lambdas are looked for (`path`), from strong to weak, and the one that is best on val, the regularised optimum,
is held against the head too: both by the paired difference of macro recall (or accuracy) on val and its 95 % interval.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads import HeadConfig, LinearHead, Scores, merit, score_split
from featcache.heads.optimum.difference import ValDifference, difference_metric, measure_difference
from featcache.heads.optimum.lbfgs import Point
from featcache.heads.optimum.logreg_path import logreg_c
from featcache.heads.optimum.objective import Objective, spare_threads
from featcache.heads.optimum.path import (
    RegularisationPath,
    RegularisedOptimum,
    best_on_val,
    describe_optimum,
    polish,
    predictor,
    walk_path,
)
from featcache.heads.optimum.sentence import describe_check

Doubles = npt.NDArray[np.float64]

FEWEST_PASSES = 4  # over the rows, that a single iteration takes, the curvature and the start at the head included
PATH_SHARE = 0.5  # of the time that is left when the head has been measured


@dataclass(frozen=True, slots=True)
class TriedSetting:
    """A setting that was changed, alone or with others; a head was trained with it and measured."""

    flag: str  # --lr, --weight-decay, --epochs
    value: float
    share: float  # by which that head's objective could still fall
    settings: Mapping[str, float] = field(default_factory=dict)  # all that were changed, by name
    val: Scores | None = None
    difference: ValDifference | None = None  # of that head to the one that is checked


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """The optimum, as far as it was reached, and the head held against it."""

    weight_decay: float  # lambda
    objective: float  # f at the check's own weights
    head_objective: float  # f at the head's; not finite where the head diverged
    gap: float  # head_objective - objective
    gap_share: float  # gap / head_objective: the share by which the head's objective could still fall
    gradient_norm: float  # |grad f| at the head, weights and bias together
    separable: bool  # a linear classifier was found that has every training row right
    converged: bool  # the largest entry of grad f at the check is within TOLERANCE; else the check stopped early
    iterations: int  # of all lambdas
    seconds: float  # wall time of all of it
    train: Scores
    val: Scores | None
    head_train: Scores
    head_val: Scores | None
    weight: Doubles  # (classes, dim)
    bias: Doubles  # (classes,)
    loss_terms: tuple[str, ...] = ()  # what the loss has beside the plain cross-entropy
    tried: tuple[TriedSetting, ...] = ()
    no_time: bool = False  # the head is far, and there was no time to try anything
    select: str = "macro_recall"  # what says which classifier is best on val
    difference: ValDifference | None = None  # on val, of the optimum to the head; None without val
    path: RegularisationPath = field(default_factory=RegularisationPath)  # other weight decays
    regularised: RegularisedOptimum | None = None  # the optimum whose lambda is best on val, this one's included
    regularised_difference: ValDifference | None = None  # on val, of the regularised optimum to the head
    logreg_c: float | None = None  # C of scikit-learn's LogisticRegression that has that optimum; None: none has

    @property
    def metric(self) -> str:
        """What differences on val are of: macro recall, or accuracy where that chooses."""
        return difference_metric(self.select)

    @property
    def better_weight_decay(self) -> float | None:
        """The regularised optimum's lambda, where it is another one and better on val than the head; else None."""
        optimum, difference = self.regularised, self.regularised_difference
        if optimum is None or difference is None or optimum.weight_decay == self.weight_decay:
            return None
        return optimum.weight_decay if difference.is_better else None

    @property
    def best_trial(self) -> TriedSetting | None:
        """The best on val of the heads that were tried and are better there than the head; None where none is."""
        better = [trial for trial in self.tried if trial.difference is not None and trial.difference.is_better]
        return max(better, key=lambda trial: merit(trial.val, self.select) if trial.val else (), default=None)

    def sentence(self) -> str:
        """Return what the check says of the head: on val first, of the training objective second."""
        return describe_check(self)


def check_head(
    head: LinearHead,
    train: Features,
    val: Features | None,
    *,
    seconds: float = 30.0,
    device: str = "cpu",
    select: str = "macro_recall",
) -> Check:
    """Hold a head against the optimum of its objective on the rows that it was trained on.

    Args:
        head: trained on `train`; one that diverged is allowed.
        train: the rows of the objective.
        val: it chooses the lambda of the regularised optimum, nothing else.
        seconds: the time that it may take, all in all; measuring the head is the least.
        device: where torch computes.
        select: the metric on val that chooses: macro_recall, accuracy or loss.

    Returns:
        The optimum as far as it was reached, and the head's distance from it.

    Raises:
        UsageError: `seconds` is not above 0, or the training split has no rows.
    """
    began = time.perf_counter()
    refuse_no_time_or_rows(seconds, train)
    with spare_threads(train):
        objective = Objective(head.config, train, device)
        check = compare_with_optimum(objective, head, train, val, deadline=began + seconds, select=select)
    return replace(check, seconds=time.perf_counter() - began)


def refuse_no_time_or_rows(seconds: float, train: Features) -> None:
    """Refuse a check that has no time or no rows.

    Raises:
        UsageError: as in `check_head`.
    """
    if not seconds > 0:
        raise UsageError(f"the check has {seconds} seconds, expected a number above 0; or leave the check out.")
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")


def compare_with_optimum(
    objective: Objective, head: LinearHead, train: Features, val: Features | None, *, deadline: float, select: str
) -> Check:
    """Return the check of a head as `check_head` does, without its seconds.

    Args:
        objective: that of the head's settings on `train`.
        head: as in `check_head`.
        train: as in `check_head`.
        val: as in `check_head`.
        deadline: what the clock (`time.perf_counter`) may read at the end.
        select: as in `check_head`.
    """
    own, began = objective.weight_decay, time.perf_counter()
    at_head, zero = objective.evaluate(head), objective.start_at_zero()
    one_pass = time.perf_counter() - began
    deadline -= 2 * one_pass  # for the point that is reached, and its scores
    path, iterations = RegularisationPath(), 0
    best = at_head if at_head.value < zero.value and objective.basis is None else zero  # never where the head is nan
    if time.perf_counter() + FEWEST_PASSES * one_pass < deadline:
        if val is not None:
            until = time.perf_counter() + PATH_SHARE * (deadline - time.perf_counter())
            path = walk_path(objective, zero, val, select, until, one_pass)
        starts = [zero, *(objective.move(optimum.point, optimum.weight_decay, own) for optimum in path.optima)]
        if at_head.value < zero.value:
            starts.append(objective.start_at_head(at_head))
        best, iterations = objective.minimise(min(starts, key=lambda point: point.value), own, deadline)
    weight, bias = objective.weights_and_biases(best)
    gap = at_head.value - best.value
    check = Check(
        weight_decay=own,
        objective=best.value,
        head_objective=at_head.value,
        gap=gap,
        gap_share=gap / at_head.value if at_head.value else 0.0,
        gradient_norm=objective.gradient_norm(at_head),
        separable=best.all_right or any(optimum.point.all_right for optimum in path.optima),
        converged=objective.is_converged(best),
        iterations=path.iterations + iterations,
        seconds=0.0,
        train=head.train if best is at_head else score_split(predictor(objective, best), train),
        val=None,
        head_train=head.train,
        head_val=None,
        weight=weight,
        bias=bias,
        loss_terms=_loss_terms(head.config),
        select=select,
        path=path,
    )
    if val is None or best is at_head:
        head_val = None if val is None else head.val or score_split(head.logits, val)
        return replace(check, val=head_val, head_val=head_val)
    return _compare_on_val(check, objective, best, head, val, len(train.y), deadline)


def _compare_on_val(
    check: Check, objective: Objective, best: Point, head: LinearHead, val: Features, rows: int, deadline: float
) -> Check:
    """Return the check with what val says of the objective's own optimum, and of the regularised one.

    Args:
        check: of the training rows.
        objective: the head's.
        best: the objective's own optimum, as far as it was reached.
        head: the one that is checked.
        val: the split.
        rows: how many were trained on.
        deadline: what the clock (`time.perf_counter`) may read at the end.
    """
    own = describe_optimum(objective, best, check.weight_decay, val)
    iterations, regularised = 0, best_on_val([*check.path.optima, own], check.select)
    if regularised is not own:
        regularised, iterations = polish(objective, regularised, val, deadline)
    head_val = head.val or score_split(head.logits, val)
    is_logregs = not check.loss_terms and not head.config.standardize and head.config.normalize == "none"
    check = replace(
        check, val=own.val, head_val=head_val, regularised=regularised, iterations=check.iterations + iterations,
        logreg_c=logreg_c(regularised.weight_decay, rows, len(objective.present)) if is_logregs else None,
    )  # fmt: skip
    if not np.isfinite(check.head_objective):
        return check

    of_head = (head_val, head.logits(val.x).argmax(axis=1))

    def compare(optimum: RegularisedOptimum) -> ValDifference:
        """Return by how much an optimum is above the head on val."""
        return measure_difference(val, (optimum.val, optimum.answers), of_head, check.metric)

    difference = compare(own)
    return replace(
        check,
        difference=difference,
        regularised_difference=difference if regularised is own else compare(regularised),
    )


def _loss_terms(config: HeadConfig) -> tuple[str, ...]:
    """Return what a head's loss has beside the plain cross-entropy, in words."""
    terms = {
        "class weights": config.class_weights != "none",
        "balanced draws": config.sampler != "uniform",
        "label smoothing": config.label_smoothing > 0,
        "logit adjustment": config.logit_adjustment > 0,
        "views": config.views,
    }
    return tuple(term for term, is_used in terms.items() if is_used)
