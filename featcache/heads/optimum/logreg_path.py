"""The optima of logistic regression over its C, from strong regularisation to weak, each from the one before.

scikit-learn's LogisticRegression minimises C sum(loss) + |W|^2 / 2 with a free intercept. Over the n rows' mean loss
that is the objective of `check` with lambda = 1 / (C n). Of two classes it has one row of weights w, where the softmax
has two that are w / 2 and -w / 2 at the optimum, whose |W|^2 is half of |w|^2: there lambda = 2 / (C n).
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featcache.features import Features
from featcache.heads import HeadConfig
from featcache.heads.optimum.lbfgs import Pairs, move_pairs
from featcache.heads.optimum.objective import Objective, spare_threads
from featcache.machine import single_blas_thread

# What a step must promise to lower the objective by, as a share of it: of rows in float64, and of more rows.
PRECISELY, CLOSELY = 1e-9, 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class LogregOptimum:
    """The optimum of one C, over the classes that have training rows."""

    c: float
    weight: npt.NDArray[np.float32]  # (present classes, dim)
    bias: npt.NDArray[np.float32]  # (present classes,)
    objective: float  # the mean loss with lambda / 2 |W|^2
    iterations: int
    seconds: float


def logreg_weight_decay(c: float, rows: int, classes: int) -> float:
    """Return the lambda whose optimum is that of LogisticRegression(C=c).

    Args:
        c: above 0.
        rows: how many are trained on.
        classes: how many of them have training rows.
    """
    return (2 if classes == 2 else 1) / (c * rows)


def logreg_c(weight_decay: float, rows: int, classes: int) -> float:
    """Return the C of the LogisticRegression that has the optimum of a lambda: the inverse of `logreg_weight_decay`.

    Args:
        weight_decay: lambda, above 0.
        rows: as there.
        classes: as there.
    """
    return logreg_weight_decay(weight_decay, rows, classes)


def solve_logreg_path(
    train: Features, values: Sequence[float], *, device: str = "cpu", worth: float | None = None
) -> Iterator[LogregOptimum]:
    """Yield the optimum of each C, from the smallest.

    Args:
        train: the rows; of two classes or more.
        values: of C, above 0.
        device: where torch computes.
        worth: the share of the objective that a step must promise to lower it by; None leaves it to how many rows
            there are.
    """
    present, own = np.unique(train.y, return_inverse=True)
    rows = replace(train, y=own, classes=tuple(train.classes[label] for label in present))
    with spare_threads(rows), single_blas_thread():
        objective = Objective(HeadConfig(), rows, device, is_for_path=True)
        point, before = objective.start_at_zero(), objective.weight_decay
    if worth is None:
        worth = PRECISELY if objective.is_double else CLOSELY
    pairs: Pairs = []
    earlier = point
    for c in sorted(values):
        began, decay = time.perf_counter(), logreg_weight_decay(c, len(rows.y), len(present))
        with spare_threads(rows), single_blas_thread():  # NumPy has vectors alone here: its threads would wait
            move_pairs(pairs, decay - before)
            start = objective.extrapolate(earlier, objective.move(point, before, decay), decay)
            earlier = point
            point, iterations = objective.minimise(start, decay, math.inf, worth, pairs)
            weight, bias = objective.weights_and_biases(point)
        before = decay
        yield LogregOptimum(
                c, weight.astype(np.float32), bias.astype(np.float32), point.value, iterations,
                time.perf_counter() - began,
            )  # fmt: skip
