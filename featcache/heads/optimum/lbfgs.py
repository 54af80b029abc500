"""L-BFGS for softmax regression, preconditioned by what the Hessian looks like (Liu & Nocedal 1989).

The Hessian of the mean cross-entropy is about diag(s) (x) S, with S = X'X / n of centred rows and s_c the mean of
p_c (1 - p_c): exact for one class against the rest where p does not depend on x. So the first guess of its inverse is,
class by class and in the eigenvectors Q of S with eigenvalues l,

    H0 g = ((g Q) / (s_c l + lambda)) Q'

with s as it is now. It costs one S and one eigendecomposition, whatever lambda is, and a product of (classes, dim) with
(dim, dim) an iteration; none where X stands in the eigenvectors already. Without it the directions in which rows hardly
vary take hundreds of iterations. It is a first guess: of many rows some are enough, and of very wide ones the diagonal.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from featcache.heads.training import LN_2, LOG2_E

Doubles = npt.NDArray[np.float64]
Vector = tuple[Doubles, Doubles]  # what belongs to the weights, and to the biases
Pairs = list[tuple[Vector, Vector]]  # steps, and how the gradient changed along each

MEMORY = 20  # pairs of step and change of gradient
SUFFICIENT = 1e-4  # Armijo's share of the slope
HALVINGS = 12
BLOCK_ROWS = 8_192
ROUNDING = {torch.float32: 1e-8, torch.float64: 1e-15}  # of f: less than this is not worth a step
LEAST_CURVATURE = 1e-10
CURVATURE_ROWS = 32_768  # of which S is the mean, at least
MAX_EIGEN_WIDTH = 2_048  # eigenvectors of wider rows would take longer than they save


@dataclass(frozen=True, slots=True, eq=False)
class LossTarget:
    """What the loss of a row of class y is: a_y log sum exp(z + offset) - <t_y, z + offset>, in nats.

    t_y = kept_y onehot(y) + each_y spread; a_y is its sum. Plain cross-entropy: kept = 1, each = 0, offset = 0.
    """

    kept: Doubles  # (classes,)
    each: Doubles  # (classes,)
    spread: Doubles  # (classes,)
    offset: Doubles  # (classes,)

    @property
    def a(self) -> Doubles:
        """The sum of t_y, (classes,)."""
        total: Doubles = self.kept + self.each * self.spread.sum()
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """The objective f and its gradient at one W, b."""

    weight: Doubles  # (classes, dim)
    bias: Doubles  # (classes,)
    value: float  # f
    d_weight: Doubles  # (classes, dim) of f
    d_bias: Doubles  # (classes,) of f
    all_right: bool  # every row's own logit is above all others
    spread: Doubles  # (classes,) mean of p (1 - p)


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """S = X'X / n of centred rows X (n, width), by its eigenvalues and eigenvectors."""

    eigenvalues: torch.Tensor  # (width,) float64
    eigenvectors: torch.Tensor | None  # (width, width) float64; None where X stands in them
    least: float  # that counts as the mean of p (1 - p)

    @classmethod
    def of(cls, x: torch.Tensor) -> "Curvature":
        """Return that of rows x (n, width): of every k-th where they are many, of the diagonal where they are wide."""
        rows, width = x.shape
        some = x[:: max(1, rows // max(CURVATURE_ROWS, 32 * width))]
        least = 1e-3 / rows
        if width > MAX_EIGEN_WIDTH:
            return cls(some.square().mean(0).double().cpu(), None, least)
        eigenvalues, eigenvectors = torch.linalg.eigh((some.T @ some).double().cpu() / len(some))
        return cls(eigenvalues.clamp(min=0), eigenvectors, least)

    def precondition(self, gradient: Vector, spread: Doubles, weight_decay: float) -> Vector:
        """Return H0 times a gradient.

        Args:
            gradient: by the weights (classes, width) and by the biases (classes,).
            spread: (classes,) the mean of p (1 - p).
            weight_decay: lambda.
        """
        s = np.maximum(spread, self.least)
        scale = torch.from_numpy(s)[:, None] * self.eigenvalues + weight_decay
        d_weight = torch.from_numpy(gradient[0])
        if self.eigenvectors is None:
            return (d_weight / scale).numpy(), gradient[1] / s
        return ((d_weight @ self.eigenvectors / scale) @ self.eigenvectors.T).numpy(), gradient[1] / s


class SoftmaxRegression:
    """The objective f(W, b) = sum of the rows' losses / total + lambda / 2 |W|^2, computed in blocks on the device."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, target: LossTarget, total: float, weight_decay: float) -> None:
        """Take rows x (rows, dim), their classes y (rows,), their loss, its divisor and lambda."""
        self.x, self.y, self.target, self.total, self.weight_decay = x, y, target, total, weight_decay
        self.classes = len(target.kept)

        def tensor(values: Doubles) -> torch.Tensor:
            return torch.from_numpy(values).to(x.device, x.dtype)

        self.a, self.kept, self.each = tensor(target.a), tensor(target.kept), tensor(target.each)
        self.spread = tensor(target.spread)[:, None] if target.each.any() else None
        self.offset = tensor(target.offset * LOG2_E)[:, None] if target.offset.any() else None

    @torch.inference_mode()
    def evaluate(self, weight: Doubles, bias: Doubles) -> Point:
        """Return f and its gradient at W (classes, dim), b (classes,).

        Two products over all rows, as in `heads.training.stack`: cut by rows, exp2, logits in bits.
        """
        w = torch.from_numpy(weight * LOG2_E).to(self.x.device, self.x.dtype)
        b = torch.from_numpy(bias * LOG2_E).to(self.x.device, self.x.dtype)[:, None]
        total, all_right = 0.0, True
        d_weight = self.weight_decay * weight
        d_bias, spread = np.zeros_like(bias), np.zeros_like(bias)
        cores = torch.get_num_threads() if self.x.device.type == "cpu" else 1
        for start in range(0, len(self.y), BLOCK_ROWS):
            x, y = self.x[start : start + BLOCK_ROWS], self.y[start : start + BLOCK_ROWS]
            slices = cores if len(y) % cores == 0 else 1
            x, y = x.view(slices, -1, x.shape[1]), y.view(slices, 1, -1)
            z = torch.bmm(w.expand(slices, -1, -1), x.transpose(1, 2)).add_(b)  # (slices, classes, rows)
            own = z.gather(1, y)
            all_right = all_right and bool((z.scatter(1, y, -torch.inf).amax(1, keepdim=True) < own).all())
            if self.offset is not None:
                z.add_(self.offset)
                own = z.gather(1, y)
            top = z.amax(1, keepdim=True)
            a, kept = self.a[y], self.kept[y]
            rest = 0 if self.spread is None else self.each[y] * (self.spread * z).sum(1, keepdim=True)
            p = z.sub_(top).exp2_()
            norm = p.sum(1, keepdim=True)
            total += float((a * (norm.log2() + top) - kept * own - rest).sum(dtype=torch.float64)) * LN_2
            p.div_(norm)
            spread += (p - p.square()).sum((0, 2)).cpu().double().numpy() / len(self.y)
            g = p.mul_(a)
            if self.spread is not None:
                g.sub_(self.each[y] * self.spread)
            g.scatter_add_(1, y, -kept)
            d_weight += torch.bmm(g, x).sum(0).cpu().double().numpy() / self.total
            d_bias += g.sum((0, 2)).cpu().double().numpy() / self.total
        value = total / self.total + self.weight_decay / 2 * float(np.sum(weight**2))
        return Point(weight, bias, value, d_weight, d_bias, all_right, spread)

    def with_rows(self, x: torch.Tensor) -> "SoftmaxRegression":
        """Return the same objective of the same rows in another basis, (rows, width)."""
        other = copy.copy(self)
        other.x = x
        return other

    def with_weight_decay(self, weight_decay: float) -> "SoftmaxRegression":
        """Return the same objective with another lambda; the rows are shared."""
        other = copy.copy(self)
        other.weight_decay = weight_decay
        return other

    def move(self, point: Point, weight_decay: float) -> Point:
        """Return f and its gradient at a point that was evaluated with another lambda; it costs no pass over rows."""
        added = self.weight_decay - weight_decay
        return replace(
            point,
            value=point.value + added / 2 * float(np.sum(point.weight**2)),
            d_weight=point.d_weight + added * point.weight,
        )


def minimise(
    problem: SoftmaxRegression,
    start: Point,
    *,
    is_done: Callable[[Point], bool],
    deadline: float,
    curvature: Curvature | None = None,
    worth: float = 0.0,
    pairs: Pairs | None = None,
) -> tuple[Point, int]:
    """Return the lowest point that is reached, and how many iterations it took.

    Rounding ends it too: where no step along the search direction lowers f any more.

    Args:
        problem: the objective.
        start: where it begins.
        is_done: whether a point is good enough.
        deadline: what the clock (`time.perf_counter`) may read at the end.
        curvature: of the objective's rows; None measures it.
        worth: the share of f that a step must promise to lower it by, by the slope along it.
        pairs: steps and changes of gradient of this objective from an earlier search, which are changed; None: none.
    """
    worth = max(worth, ROUNDING[problem.x.dtype])
    measured = Curvature.of(problem.x) if curvature is None else curvature

    def h0(gradient: Vector, spread: Doubles) -> Vector:
        return measured.precondition(gradient, spread, problem.weight_decay)

    point, iterations = start, 0
    pairs = [] if pairs is None else pairs
    longest = 0.0  # that an iteration took
    while not is_done(point) and time.perf_counter() + longest < deadline:
        began = time.perf_counter()
        step = _direction(point, pairs, h0)
        slope = _dot((point.d_weight, point.d_bias), step)
        if -slope < worth * abs(point.value):
            break
        length = 1.0
        for _ in range(HALVINGS):
            candidate = problem.evaluate(point.weight + length * step[0], point.bias + length * step[1])
            if candidate.value <= point.value + SUFFICIENT * length * slope or time.perf_counter() > deadline:
                break
            length *= 0.5
        if not candidate.value < point.value:
            if not pairs:
                break
            pairs.clear()  # the curvature may be stale; once more from the first guess
            continue
        s = candidate.weight - point.weight, candidate.bias - point.bias
        change = candidate.d_weight - point.d_weight, candidate.d_bias - point.d_bias
        if _dot(s, change) > LEAST_CURVATURE * _norm(s) * _norm(change):
            pairs.append((s, change))
            del pairs[:-MEMORY]
        point, iterations = candidate, iterations + 1
        longest = max(longest, time.perf_counter() - began)
    return point, iterations


def move_pairs(pairs: Pairs, added: float) -> None:
    """Have steps and changes of gradient stand for an objective whose lambda is so much larger, in place.

    Args:
        pairs: as `minimise` left them; those of too little curvature are taken out.
        added: to lambda, of which the change of gradient has `added` times the step of the weights.
    """
    moved = [(s, (change[0] + added * s[0], change[1])) for s, change in pairs]
    pairs[:] = [(s, change) for s, change in moved if _dot(s, change) > LEAST_CURVATURE * _norm(s) * _norm(change)]


def _direction(point: Point, pairs: Pairs, h0: Callable[[Vector, Doubles], Vector]) -> Vector:
    """Return -H g by the two loops of L-BFGS, with H0 as p has it now, scaled to the newest pair."""
    q: Vector = (point.d_weight.copy(), point.d_bias.copy())
    alphas = []
    for s, change in reversed(pairs):
        alpha = _dot(s, q) / _dot(s, change)
        alphas.append(alpha)
        q = (q[0] - alpha * change[0], q[1] - alpha * change[1])
    r = h0(q, point.spread)
    if pairs:
        s, change = pairs[-1]
        scale = _dot(s, change) / _dot(change, h0(change, point.spread))
        r = (r[0] * scale, r[1] * scale)
    for (s, change), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = alpha - _dot(change, r) / _dot(s, change)
        r = (r[0] + beta * s[0], r[1] + beta * s[1])
    return -r[0], -r[1]


def _dot(u: Vector, v: Vector) -> float:
    """Return the inner product of two vectors."""
    return float(np.vdot(u[0], v[0]) + np.vdot(u[1], v[1]))


def _norm(v: Vector) -> float:
    """Return the length of a vector."""
    return float(np.sqrt(_dot(v, v)))
