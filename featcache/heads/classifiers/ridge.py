"""Ridge: least squares on one target a class, every regularisation strength from one eigendecomposition.

With the rows weighted by w (1, or balanced over the classes), centred by their weighted means, and targets
Y (rows, classes) of +1 for a row's own class and -1 for others (one column where there are two classes):

    G = X' diag(w) X = V diag(s) V',   M = X' diag(w) Y         one pass over the rows, in float64
    coef(alpha) = V diag(1 / (s + alpha)) V' M                  two small products for each alpha
    intercept(alpha) = mean(Y) - mean(X) coef(alpha)            it carries no penalty

These are the solutions of scikit-learn's RidgeClassifier, which solves anew for each alpha. G must be float64: in
float32 its smallest eigenvalues are rounding, and a small alpha divides by them.
"""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads import BLOCK_ROWS, linear_logits
from featcache.heads.classifiers.answers import (
    Answers,
    Choices,
    Found,
    Labels,
    Means,
    Rows,
    Trial,
    best_of,
    refuse_choice,
    scores_of,
)
from featcache.heads.classifiers.settings import combinations, refuse_unknown

Doubles = npt.NDArray[np.float64]

DEFAULTS: Choices = {"alpha": (1.0,), "class_weight": (None,)}
WITH_VAL = tuple(float(f"1e{power}") for power in range(-3, 7))  # the alpha to choose among where val can choose
_BLOCK = 8_192  # rows in float64 at a time


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """One linear map; it has scores and no probabilities."""

    weight: npt.NDArray[np.float32]  # (present classes, dim)
    bias: npt.NDArray[np.float32]  # (present classes,)
    present: Labels  # the classes that have training rows, rising

    def answer(self, x: Rows) -> Answers:
        """The class with the largest score; of equals, the first."""
        predicted = np.empty(len(x), dtype=np.int64)
        for start in range(0, len(x), BLOCK_ROWS):
            z = linear_logits(x[start : start + BLOCK_ROWS], self.weight, self.bias)
            predicted[start : start + BLOCK_ROWS] = self.present[z.argmax(axis=1)]
        return Answers(predicted, None)


@dataclass(frozen=True, slots=True, eq=False)
class Decomposed:
    """The training rows, as far as ridge needs them."""

    mean: Doubles  # (dim,)
    target_mean: Doubles  # (targets,)
    values: Doubles  # (dim,), the eigenvalues of G, none below 0
    vectors: Doubles  # (dim, dim), V
    rotated: Doubles  # (dim, targets), V' M
    present: Labels

    def solve(self, alpha: float) -> tuple[Doubles, Doubles]:
        """Coef (targets, dim) and intercept (targets,), as scikit-learn has them."""
        coef = (self.vectors @ (self.rotated / (self.values + alpha)[:, None])).T
        return coef, self.target_mean - coef @ self.mean

    def ridge(self, alpha: float) -> Ridge:
        """The classifier; two classes have one target, so the first class gets the opposite score."""
        coef, intercept = self.solve(alpha)
        if len(self.present) == 2:
            coef, intercept = np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
        return Ridge(coef.astype(np.float32, order="C"), intercept.astype(np.float32), self.present)


def decompose(x: Rows, y: Labels, class_weight: str | None = None) -> Decomposed:
    """One pass over x (rows, dim) and y (rows,), and one eigendecomposition."""
    present, own = np.unique(y, return_inverse=True)
    support = np.bincount(own)
    weight = len(y) / (len(present) * support) if class_weight == "balanced" else np.ones(len(present))
    each = weight[own]  # (rows,)
    total = each.sum()
    two = len(present) == 2
    targets = np.array([[-1.0], [1.0]]) if two else 2 * np.eye(len(present)) - 1  # (present, targets)
    target_mean = (weight * support) @ targets / total
    dim = x.shape[1]
    mean = np.zeros(dim)
    for start in range(0, len(y), _BLOCK):
        mean += each[start : start + _BLOCK] @ x[start : start + _BLOCK]
    mean /= total
    gram, moment = np.zeros((dim, dim)), np.zeros((dim, targets.shape[1]))
    root = np.sqrt(each)
    for start in range(0, len(y), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = x[part] - mean
        block *= root[part, None]
        gram += block.T @ block  # NumPy computes one triangle of it
        moment += block.T @ (root[part, None] * (targets[own[part]] - target_mean))
    values, vectors = np.linalg.eigh(gram)
    return Decomposed(mean, target_mean, values.clip(0), vectors, vectors.T @ moment, present)


def search_ridge(train: Features, val: Features | None, choices: Choices, means: Means) -> Found:
    """Every alpha, judged on val.

    Raises:
        UsageError: a setting that ridge does not have, or one out of its range.
    """
    refuse_unknown("ridge", choices, tuple(DEFAULTS))
    defaults = DEFAULTS if val is None else {**DEFAULTS, "alpha": WITH_VAL}
    asked = combinations({**defaults, **choices})
    refuse_choice(train, val, len(asked))
    for settings in asked:
        alpha, balance = settings["alpha"], settings["class_weight"]
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < np.inf:
            raise UsageError(f"alpha is {alpha!r}, expected a number above 0")
        if balance not in (None, "balanced"):
            raise UsageError(f"class_weight is {balance!r}, expected None or balanced")
    classes = len(train.classes)
    decomposed: dict[object, Decomposed] = {}
    trials, found, answers = [], [], []
    for number, settings in enumerate(asked):
        means.progress("fitting", number, len(asked))
        began = time.perf_counter()
        balance = settings["class_weight"]
        if balance not in decomposed:
            decomposed[balance] = decompose(train.x, train.y, None if balance is None else str(balance))
        ridge = decomposed[balance].ridge(float(settings["alpha"]))  # type: ignore[arg-type]
        on_val = None if val is None else ridge.answer(val.x)
        judged = None if val is None or on_val is None else scores_of(on_val, val.y, classes)
        trials.append(Trial(settings=settings, val=judged, seconds=time.perf_counter() - began))
        found.append(ridge)
        answers.append(on_val)
    best = best_of(trials)
    train_scores = scores_of(found[best].answer(train.x), train.y, classes)
    return Found(tuple(trials), best, found[best], train_scores, answers[best])
