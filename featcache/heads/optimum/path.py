"""The optima of one objective over its weight decay, lambda, from strong to weak.

    W(lambda), b(lambda) = argmin mean loss of X W' + b + (lambda / 2) |W|^2

Friedman, Hastie and Tibshirani, Regularization Paths for Generalized Linear Models via Coordinate Descent, J.
Statistical Software 33 (2010), section 2.5: each optimum is where the search for the next one begins. A strong lambda
is solved in a few iterations; the rows' curvature is the same for all.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from featcache.features import Features
from featcache.heads import Scores, linear_logits, merit, score_split
from featcache.heads.optimum.difference import Answers, difference_metric, measure_difference
from featcache.heads.optimum.lbfgs import Point
from featcache.heads.optimum.objective import ROUGHLY, Objective

STRONGEST = 0.1  # of the rows' mean square length: logits differ by about one there
WEAKEST_POWER = -5  # of ten
STEPS = (3, 1)  # lambdas of one power of ten, as a person would type them
FEWEST_ITERATIONS = 4  # that a lambda takes
WIDEST_STRIDE = 4  # lambdas that are passed over where time is short: two powers of ten
MUCH_HIGHER = 2.0  # times the lowest loss on val


@dataclass(frozen=True, slots=True, eq=False)
class RegularisedOptimum:
    """The optimum with one weight decay, as far as it was reached."""

    weight_decay: float  # lambda
    point: Point
    converged: bool  # as in `Check`
    val: Scores
    answers: Answers  # on val, (rows,)


@dataclass(frozen=True, slots=True, eq=False)
class RegularisationPath:
    """The optima of several weight decays, from strong to weak."""

    optima: tuple[RegularisedOptimum, ...] = ()
    is_complete: bool = False  # it ended where val was clearly worse, or with the weakest; not for want of time
    iterations: int = 0


def list_weight_decays(objective: Objective) -> list[float]:
    """Return the lambdas of a path, 3 and 1 times powers of ten, from strong to weak; the objective's own is left out.

    Args:
        objective: whose rows say what is strong.
    """
    strongest, own = STRONGEST * objective.length**2, objective.weight_decay
    powers = range(max(WEAKEST_POWER, math.ceil(math.log10(strongest))), WEAKEST_POWER - 1, -1)
    values = [float(f"{step}e{power}") for power in powers for step in STEPS]
    return [value for value in values if value <= strongest and not math.isclose(value, own)]


def walk_path(
    objective: Objective, start: Point, val: Features, select: str, deadline: float, iteration_seconds: float
) -> RegularisationPath:
    """Return optima from a strong weight decay to weak ones.

    It ends where val is clearly worse than before, beyond what chance explains or with twice the lowest loss. Where
    time is short there are fewer weight decays, or none.

    Args:
        objective: whose weight decay is varied.
        start: evaluated with the objective's own lambda.
        val: scored.
        select: the metric that says what is best on val.
        deadline: what the clock (`time.perf_counter`) may read at the end.
        iteration_seconds: how long an iteration is expected to take.
    """
    weight_decays = list_weight_decays(objective)
    if not weight_decays:  # embeddings that hardly differ: the weakest would already be too strong
        return RegularisationPath(is_complete=True)
    affordable = (deadline - time.perf_counter()) / max(iteration_seconds, 1e-9)
    stride = math.ceil(FEWEST_ITERATIONS * len(weight_decays) / affordable) if affordable > 0 else math.inf
    if stride > WIDEST_STRIDE:
        return RegularisationPath()
    optima: list[RegularisedOptimum] = []
    point, before, total, is_complete = start, objective.weight_decay, 0, True
    for weight_decay in weight_decays[:: int(stride)]:
        point = objective.move(point, before, weight_decay)
        point, iterations = objective.minimise(point, weight_decay, deadline, ROUGHLY)
        before, total = weight_decay, total + iterations
        if time.perf_counter() > deadline:
            is_complete = False
            break
        optima.append(describe_optimum(objective, point, weight_decay, val))
        if is_clearly_worse(optima, val, select):
            break
    return RegularisationPath(tuple(optima), is_complete, total)


def describe_optimum(objective: Objective, point: Point, weight_decay: float, val: Features) -> RegularisedOptimum:
    """Return a point of a path with its scores and answers on val."""
    logits = predictor(objective, point)
    answers = logits(val.x).argmax(axis=1)
    return RegularisedOptimum(weight_decay, point, objective.is_converged(point), score_split(logits, val), answers)


def polish(
    objective: Objective, optimum: RegularisedOptimum, val: Features, deadline: float
) -> tuple[RegularisedOptimum, int]:
    """Return an optimum of a path, solved as closely as the objective's own, and the iterations to it."""
    point, iterations = objective.minimise(optimum.point, optimum.weight_decay, deadline)
    return describe_optimum(objective, point, optimum.weight_decay, val), iterations


def predictor(objective: Objective, point: Point) -> "partial[npt.NDArray[np.float32]]":
    """Return the function from embeddings to logits that a point stands for, in float32 as heads are."""
    weight, bias = objective.weights_and_biases(point)
    return partial(linear_logits, weight=weight.astype(np.float32), bias=bias.astype(np.float32))


def best_on_val(optima: Sequence[RegularisedOptimum], select: str) -> RegularisedOptimum:
    """Return the optimum that is best on val; of equals the one with the lowest loss, then the strongest."""
    return max(optima, key=lambda optimum: merit(optimum.val, select))


def is_clearly_worse(optima: Sequence[RegularisedOptimum], val: Features, select: str) -> bool:
    """Return whether val has become clearly worse at the end of a path than it was on the way."""
    last, best = optima[-1], best_on_val(optima, select)
    if last is best:
        return False
    if last.val.loss > MUCH_HIGHER * min(optimum.val.loss for optimum in optima):
        return True
    metric = difference_metric(select)
    return measure_difference(val, (last.val, last.answers), (best.val, best.answers), metric).is_worse
