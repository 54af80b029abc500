"""The check: the convex optimum on the same embeddings, and how far a head is from it.

One objective for both, on the training rows, with W (classes, dim) and a free bias b:

    f(W, b) = mean cross-entropy of X W' + b + (lambda / 2) |W|^2,    lambda = max(weight decay, 1e-6)

scikit-learn's LogisticRegression (lbfgs) minimises it: C = 1 / (lambda n). What the obvious call gets wrong:

- Two classes: scikit-learn fits one vector w; the optimum is W = (-w/2, +w/2), so |W|^2 = |w|^2 / 2 and
  C = 2 / (lambda n).
- A class without training rows is left out there. The objective's infimum over its bias is the same without
  it; here it keeps its index with W = 0 and a bias 100 nats below the mean of the others, which adds less
  than 1e-43 to a softmax.
- It has no time limit. It runs in warm-started chunks, each sized by the seconds that an iteration took.
- Rows far from the origin make it slow, and its `tol` depends on their length s. They are centred and scaled:
  W s, b + W m and lambda / s^2 on (x - m) / s are the same f.

It starts from the head where the head beats zero weights, so it is never worse than the head; f is convex, so
the start changes the way and not the goal.
"""

import math
import time
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads.linear import LinearHead, Scores, cross_entropy, linear_logits, scores

Doubles = npt.NDArray[np.float64]

LEAST_WEIGHT_DECAY = 1e-6  # without any, separable rows have no finite optimum
# Of the largest gradient entry, on rows centred and scaled to a mean square length of 1, as a share of the
# objective: what lbfgs aims at, and what still counts as converged. float32 rows stop short of the first.
AIM, TOLERANCE = 5e-6, 3e-5
DOUBLE_BYTES = 512 * 2**20  # beyond it the rows stay float32: 1.6 times the iterations a second, half the memory
POINT_ROWS = 4_096  # in float64 at a time
NATS_BELOW = 100.0
AT_OPTIMUM = 0.001  # a head with less than this share of its objective to go is called at the optimum


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

    def sentence(self) -> str:
        """How far the head is from the optimum, in one sentence."""
        split = "train" if self.val is None else "val"
        head, check = self.head_val or self.head_train, self.val or self.train
        which = "the optimum" if self.converged else "the check"
        early = f"stopped early, after {_iterations(self.iterations)} in {self.seconds:.0f} s"
        to_go = f"the head's training loss, weight decay {self.weight_decay:g} included,"
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
        return f"{opening}: the head has {_said(head)} on {split}, {which} {_said(check)}{tail}."


def check_head(head: LinearHead, train: Features, val: Features | None, *, seconds: float = 30.0) -> Check:
    """Hold a head against the optimum of its objective on the rows that it was trained on.

    Args:
        head: trained on `train`; one that diverged is allowed.
        train: the rows of the objective.
        val: scored, nothing else.
        seconds: the time that it may take, all in all; measuring the head and one iteration are the least.

    Raises:
        UsageError: `seconds` is not above 0, or the training split has no rows.
    """
    if not seconds > 0:
        raise UsageError(f"the check has {seconds} seconds, expected a number above 0; or leave the check out.")
    if not len(train.y):
        raise UsageError("the training split has 0 rows, expected at least one.")
    ends = time.perf_counter() + seconds
    objective = _Objective(train, max(head.config.weight_decay, LEAST_WEIGHT_DECAY))
    at_head = objective.at(head.weight.astype(np.float64), head.bias.astype(np.float64))
    best, iterations = _minimise(objective, at_head, ends)
    logits = partial(linear_logits, weight=best.weight.astype(np.float32), bias=best.bias.astype(np.float32))
    gap = at_head.value - best.value
    return Check(
        weight_decay=objective.weight_decay,
        objective=best.value,
        head_objective=at_head.value,
        gap=gap,
        gap_share=gap / at_head.value if at_head.value else 0.0,
        gradient_norm=float(np.hypot(np.linalg.norm(at_head.d_weight), np.linalg.norm(at_head.d_bias))),
        separable=best.all_right,
        converged=objective.converged(best),
        iterations=iterations,
        train=scores(logits, train),
        val=None if val is None else scores(logits, val),
        head_train=head.train,
        head_val=None if val is None else head.val or scores(head.logits, val),
        weight=best.weight,
        bias=best.bias,
        seconds=seconds + time.perf_counter() - ends,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """f and its gradient at one W, b."""

    weight: Doubles
    bias: Doubles
    value: float
    d_weight: Doubles
    d_bias: Doubles
    all_right: bool  # every row's own logit is above all others
    seconds: float  # that this took


class _Objective:
    """f on one set of rows, in float64, block by block; and the same problem in scikit-learn's terms."""

    def __init__(self, train: Features, weight_decay: float) -> None:
        self.weight_decay, self.classes = weight_decay, len(train.classes)
        self.x, self.y = train.x, train.y
        self.rows, self.dim = train.x.shape
        self.present = np.unique(train.y)
        # Rounded to float32, so that what is subtracted there is known exactly.
        self.mean = train.x.mean(axis=0, dtype=np.float64).astype(np.float32)
        double = self.rows * self.dim * 8 <= DOUBLE_BYTES
        self.centred = np.subtract(train.x, self.mean, dtype=np.float64 if double else np.float32)
        flat = self.centred.reshape(-1)
        self.length = math.sqrt(float(flat @ flat) / self.rows) or 1.0
        self.centred /= self.length

    def at(self, weight: Doubles, bias: Doubles) -> _Point:
        began = time.perf_counter()
        total, all_right = 0.0, True
        d_weight, d_bias = self.weight_decay * weight, np.zeros_like(bias)
        for start in range(0, self.rows, POINT_ROWS):
            x, y = self.x[start : start + POINT_ROWS].astype(np.float64), self.y[start : start + POINT_ROWS]
            each = np.arange(len(y))
            z = linear_logits(x, weight, bias)
            own = z[each, y]
            z[each, y] = -np.inf
            all_right = all_right and bool((own > z.max(axis=1)).all())
            z[each, y] = own
            total += cross_entropy(z, y)
            z[each, y] -= 1  # z is softmax by now
            with np.errstate(invalid="ignore"):
                d_weight += z.T @ x / self.rows
            d_bias += z.sum(axis=0) / self.rows
        value = total / self.rows + self.weight_decay / 2 * float(np.sum(weight**2))
        return _Point(weight, bias, value, d_weight, d_bias, all_right, time.perf_counter() - began)

    def converged(self, point: _Point) -> bool:
        """Whether the gradient in scikit-learn's terms, which it holds against its `tol`, is small enough."""
        d_weight = (point.d_weight - np.outer(point.d_bias, self.mean)) / self.length
        steepest = float(max(np.abs(d_weight).max(), np.abs(point.d_bias).max()))
        return steepest <= TOLERANCE * max(point.value, 1e-9)

    def zero(self) -> tuple[Doubles, Doubles, float]:
        """W = 0, the bias that is best there (the logarithm of the class shares), and f: their entropy."""
        share = np.bincount(self.y, minlength=self.classes)[self.present] / self.rows
        bias = np.zeros(self.classes)
        bias[self.present] = np.log(share)
        return *self.lowered(np.zeros((self.classes, self.dim)), bias), float(-share @ np.log(share))

    def lowered(self, weight: Doubles, bias: Doubles) -> tuple[Doubles, Doubles]:
        """The same classifier with f no higher: mean weight 0 over the present classes, others far below.

        The largest of the present logits is at least their mean, and that is now the mean bias whatever x is:
        an absent class, 100 nats below it, never wins.
        """
        low_weight, low_bias = np.zeros_like(weight), np.empty_like(bias)
        low_weight[self.present] = weight[self.present] - weight[self.present].mean(axis=0)
        low_bias[:] = bias[self.present].mean() - NATS_BELOW
        low_bias[self.present] = bias[self.present]
        return low_weight, low_bias

    def to_sklearn(self, weight: Doubles, bias: Doubles) -> tuple[Doubles, Doubles]:
        """coef_ and intercept_ on the centred, scaled rows."""
        coef, intercept = (weight * self.length)[self.present], (bias + weight @ self.mean)[self.present]
        return (coef[1:] - coef[:1], intercept[1:] - intercept[:1]) if len(self.present) == 2 else (coef, intercept)

    def from_sklearn(self, coef: Doubles, intercept: Doubles) -> tuple[Doubles, Doubles]:
        coef, intercept = coef.astype(np.float64) / self.length, intercept.astype(np.float64)
        if len(self.present) == 2:
            coef, intercept = np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
        weight, bias = np.zeros((self.classes, self.dim)), np.zeros(self.classes)
        weight[self.present], bias[self.present] = coef, intercept - coef @ self.mean
        return self.lowered(weight, bias)

    @property
    def inverse_strength(self) -> float:
        """scikit-learn's C."""
        return (2.0 if len(self.present) == 2 else 1) * self.length**2 / (self.weight_decay * len(self.y))


def _minimise(objective: _Objective, at_head: _Point, ends: float) -> tuple[_Point, int]:
    """The lowest point that lbfgs reaches by then, and its iterations."""
    weight, bias, value = objective.zero()
    if at_head.value < value:  # never where the head is nan
        weight, bias = objective.lowered(at_head.weight, at_head.bias)
        value = at_head.value
    solver = LogisticRegression(C=objective.inverse_strength, tol=AIM * value, warm_start=True)
    solver.coef_, solver.intercept_ = objective.to_sklearn(weight, bias)
    iterations, end = 0, None
    ends -= 2 * at_head.seconds  # for the final measurement and the scores
    chunk = 2 if len(objective.present) > 1 and time.perf_counter() + 3 * at_head.seconds < ends else 0
    while chunk:
        began = time.perf_counter()
        solver.max_iter = chunk
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` says it
            solver.fit(objective.centred, objective.y)
        now = time.perf_counter()
        took, end = int(solver.n_iter_[0]), None
        iterations += took
        if took < chunk:  # within `tol`, which was set for a higher objective; or at the end of its precision
            end = objective.at(*objective.from_sklearn(solver.coef_, solver.intercept_))
            if not took or objective.converged(end):
                break
            solver.tol = AIM * end.value
        # Half of what fits at this speed: a later iteration may search its line longer, a neighbour may come.
        chunk = int(0.5 * max(0, ends - now) * max(took, 1) / (now - began))
    if iterations and end is None:
        end = objective.at(*objective.from_sklearn(solver.coef_, solver.intercept_))
    if end is None or not end.value <= at_head.value:  # from the optimum itself, rounding can lead upwards
        start = objective.at(weight, bias)
        end = start if end is None or start.value < end.value else end
    return end, iterations


def _iterations(count: int) -> str:
    return "1 iteration" if count == 1 else f"{count:,} iterations"


def _percent(share: float) -> str:
    """In percent, rounded down, so that "at least" stays true."""
    return f"{math.floor(share * 100)} %" if share >= 0.01 else f"{math.floor(share * 1000) / 10:.1f} %"


def _said(found: Scores) -> str:
    return f"macro recall {found.macro_recall:.1%} and loss {found.loss:.3f}".replace("%", " %")
