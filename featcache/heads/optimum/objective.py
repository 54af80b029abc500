"""The objective that a head is held against, of its own settings, on its own training rows; `check` has the formula."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import ThreadpoolController

from featcache.features import Features
from featcache.heads import HeadConfig, LinearHead
from featcache.heads.optimum.lbfgs import (
    MAX_EIGEN_WIDTH,
    Curvature,
    LossTarget,
    Pairs,
    Point,
    SoftmaxRegression,
    minimise,
)
from featcache.heads.training import class_weights, compute_statistics, logit_offsets, one_thread

Doubles = npt.NDArray[np.float64]

MIN_WEIGHT_DECAY = 1e-6  # without any, separable rows have no finite optimum
# Of the largest gradient entry, on rows centred and scaled to a mean square length of 1, as a share of the
# objective: what lbfgs aims at, and what still counts as converged. float32 rows stop short of the first.
AIM, TOLERANCE = 5e-6, 3e-5
ROUGHLY = 1e-4  # what a step must promise to lower the objective by, as a share of it, where less is enough
MAX_FLOAT64_BYTES = 128 * 2**20  # beyond it the rows stay float32: 1.6 times the iterations a second, half the memory
PATH_FLOAT64_BYTES = 4 * 2**20  # the same for a path of many lambdas
FEW_ROWS_A_COLUMN = 32  # up to here a product with the eigenvectors costs as much as a tenth of a pass over the rows
ABSENT_CLASS_NATS = 100.0
FEW_MULTIPLICATIONS = 10**8  # of a pass over the rows, some 5 ms of a core
MAX_BASIS_WORK = 10**10  # rows^2 x dim, some two seconds: what finding a basis of the rows may cost


class Objective:
    """The objective f of one head's settings on one set of rows, centred (and scaled where the head standardizes).

    The gradient of the loss by a class's weights is a sum of rows, so with lambda > 0 the optimum lies in their span.
    Where there are fewer rows than dimensions it is looked for there: a `Point` has weights (classes, width), in an
    orthonormal basis of the span, the eigenvectors of X'X. Products with W, |W|^2 and gradients are the same in it.
    """

    def __init__(
        self, config: HeadConfig, train: Features, device: str = "cpu", *, is_for_path: bool = False
    ) -> None:  # fmt: skip
        """Take a head's settings and the rows of its objective.

        Args:
            config: the settings.
            train: the rows.
            device: where torch computes.
            is_for_path: whether many lambdas are solved from no head: rows are then float32 where they are more than a
                few, and where they are not many times their width, in the eigenvectors of X'X, which spares a product
                of the gradient with these in each iteration.
        """
        self.weight_decay, self.classes = max(config.weight_decay, MIN_WEIGHT_DECAY), len(train.classes)
        rows, dim = train.x.shape
        counts = self.counts = np.bincount(train.y, minlength=self.classes)
        target = make_loss_target(config, counts)
        self.present = np.flatnonzero((counts > 0) | (target.each.any() * target.spread > 0))
        # Rounded to float32, so that what is subtracted there is known exactly.
        self.mean = train.x.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.standardized = config.standardize
        self.std = compute_statistics(train, [config]).std if config.standardize else np.ones(dim)
        most_bytes = PATH_FLOAT64_BYTES if is_for_path else MAX_FLOAT64_BYTES
        double = self.is_double = rows * dim * 8 <= most_bytes and device != "mps"
        centred = np.subtract(train.x, self.mean, dtype=np.float64 if double else np.float32)
        if config.standardize:
            centred /= self.std
        flat = centred.reshape(-1)
        self.length = math.sqrt(float(flat @ flat) / rows) or 1.0
        all_rows = counts @ target.a  # what they weigh; without smoothing, the sum of their weights
        self.share = (counts * target.kept + counts @ target.each * target.spread)[self.present] / all_rows
        total = float(counts @ (target.kept / (1 - config.label_smoothing)))
        x, y = torch.from_numpy(centred), torch.from_numpy(train.y).to(device)
        self.regression = SoftmaxRegression(x.to(device), y, target, total, self.weight_decay)  # on rows as they are
        self.basis: Doubles | None = None  # (dim, width); None where points have the weights themselves
        self._in_basis, self._curvature = self.regression, None
        if double and rows < dim and rows**2 * dim <= MAX_BASIS_WORK:
            reduced, basis, self._curvature = _express_in_eigenvectors(x)
            self._in_basis, self.basis = self.regression.with_rows(reduced.to(device)), basis.numpy()
        elif is_for_path and dim <= MAX_EIGEN_WIDTH and rows <= FEW_ROWS_A_COLUMN * dim:
            measured = Curvature.of(self.regression.x)
            rotation, self._curvature = measured.eigenvectors, Curvature(measured.eigenvalues, None, measured.least)
            assert rotation is not None  # noqa: S101 (rows of this width have them)
            self._in_basis = self.regression.with_rows(self.regression.x @ rotation.to(device, self.regression.x.dtype))
            self.basis = rotation.numpy()

    def evaluate(self, head: LinearHead, weight_decay: float | None = None) -> Point:
        """Return f and its gradient at a head's weights (classes, dim).

        Args:
            head: may have diverged.
            weight_decay: lambda; None for the objective's own.
        """
        regression = self.regression.with_weight_decay(self.weight_decay if weight_decay is None else weight_decay)
        weight = head.weight.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged head has no f
            return regression.evaluate(weight * self.std, head.bias + weight @ self.mean)

    def weights_and_biases(self, point: Point) -> tuple[Doubles, Doubles]:
        """Return a point's weights (classes, dim) and biases (classes,) on rows as they are."""
        weight = (point.weight if self.basis is None else point.weight @ self.basis.T) / self.std
        return weight, point.bias - weight @ self.mean

    def gradient_norm(self, at_head: Point) -> float:
        """Return |grad f| by the weights and biases that the head learns: on rows as they are, or standardized."""
        with np.errstate(over="ignore", invalid="ignore"):
            from_zero = 0 if self.standardized else np.outer(at_head.d_bias, self.mean)
            d_weight = at_head.d_weight + from_zero
        return float(np.hypot(np.linalg.norm(d_weight), np.linalg.norm(at_head.d_bias)))

    def start_at_zero(self) -> Point:
        """Return f where all weights are zero, and the biases the best; it costs no product with the rows.

        Logits do not depend on x there: each class's rows may stand at their mean.
        """
        rows, counts = self._in_basis, self.counts
        classes = torch.from_numpy(np.flatnonzero(counts)).to(rows.y.device)
        sums = torch.zeros(self.classes, rows.x.shape[1], dtype=rows.x.dtype, device=rows.x.device)
        sums.index_add_(0, rows.y, rows.x)
        means = sums[classes] / torch.from_numpy(counts).to(sums.device)[classes, None]
        kept, each = rows.target.kept * counts, rows.target.each * counts
        target = replace(rows.target, kept=kept, each=each)
        by_class = SoftmaxRegression(means.to(sums.dtype), classes, target, rows.total, self.weight_decay)
        weight = np.zeros((self.classes, rows.x.shape[1]))
        return by_class.evaluate(*self._centred(weight, self._best_biases()))

    def start_at_head(self, at_head: Point) -> Point:
        """Return f at a head without what cannot lower it: f is no higher.

        Args:
            at_head: what `evaluate` returned.
        """
        weight = at_head.weight if self.basis is None else at_head.weight @ self.basis
        return self._in_basis.evaluate(*self._centred(weight, at_head.bias))

    def move(self, point: Point, weight_decay: float, to: float) -> Point:
        """Return a point, evaluated with one lambda, with f and its gradient of another."""
        return self._in_basis.with_weight_decay(to).move(point, weight_decay)

    def minimise(
        self, start: Point, weight_decay: float, deadline: float, worth: float = 0.0, pairs: Pairs | None = None
    ) -> tuple[Point, int]:
        """Return the lowest point that is reached in time with this lambda, and the iterations to it.

        Args:
            start: evaluated with this lambda.
            weight_decay: lambda.
            deadline: what the clock (`time.perf_counter`) may read at the end.
            worth: the share of the objective that a step must promise to lower it by.
            pairs: as of `lbfgs.minimise`.
        """
        if self._curvature is None:
            self._curvature = Curvature.of(self._in_basis.x)
        regression = self._in_basis.with_weight_decay(weight_decay)
        best, iterations = minimise(
            regression,
            start,
            is_done=self._is_solved,
            deadline=deadline,
            curvature=self._curvature,
            worth=worth,
            pairs=pairs,
        )
        if not iterations:
            return start, 0
        centred = regression.evaluate(*self._centred(best.weight, best.bias))
        return min(centred, start, key=lambda point: point.value), iterations

    def extrapolate(self, before: Point, point: Point, weight_decay: float) -> Point:
        """Return the lower of a point and of the one that lies as far beyond it as another lies before it.

        Args:
            before: the optimum of a stronger lambda.
            point: the optimum of the next one, evaluated with `weight_decay`.
            weight_decay: lambda, weaker than that by the same factor.
        """
        weight, bias = 2 * point.weight - before.weight, 2 * point.bias - before.bias
        beyond = self._in_basis.with_weight_decay(weight_decay).evaluate(weight, bias)
        return min(point, beyond, key=lambda candidate: candidate.value)

    def is_converged(self, point: Point, tolerance: float = TOLERANCE) -> bool:
        """Return whether the largest entry of the gradient, on rows centred and scaled to length 1, is small enough."""
        d_weight = point.d_weight if self.basis is None else point.d_weight @ self.basis.T
        return self._is_small(d_weight, point, tolerance)

    def _is_solved(self, point: Point) -> bool:
        """Return whether a point is as good as lbfgs aims at; in the basis first, where looking costs less."""
        return len(self.present) == 1 or (self._is_small(point.d_weight, point, AIM) and self.is_converged(point, AIM))

    def _is_small(self, d_weight: Doubles, point: Point, tolerance: float) -> bool:
        steepest = max(np.abs(d_weight).max() / self.length, np.abs(point.d_bias).max())
        return bool(steepest <= tolerance * max(point.value, 1e-9))

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


def _express_in_eigenvectors(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Curvature]:
    """Return fewer rows than dimensions in an orthonormal basis of their span, the basis, and the curvature in it.

    X' = Q R, so X = R' Q'. With V the eigenvectors of R R' / n, whose eigenvalues are those of X'X / n, it is
    X = (R' V) (Q V)'.

    Args:
        x: (rows, dim) float64.
    """
    q, r = torch.linalg.qr(x.T)
    eigenvalues, v = torch.linalg.eigh(r @ r.T / len(x))
    return r.T @ v, q @ v, Curvature(eigenvalues.clamp(min=0), None, 1e-3 / len(x))


@contextlib.contextmanager
def spare_threads(train: Features) -> Iterator[None]:
    """Compute with one thread where a pass over the rows takes that one a few milliseconds.

    Threads meet at the end of every operation. Where something else has one of two cores, each meeting waits until the
    system gives it back, and a check of 120 rows took 12 s instead of 0.3.
    """
    is_small = train.x.size * len(train.classes) <= FEW_MULTIPLICATIONS
    numpys = ThreadpoolController().limit(limits=1) if is_small else contextlib.nullcontext()
    with numpys, one_thread(where=is_small):
        yield


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
