"""Ridge: least squares on one target a class, every regularisation strength from one eigendecomposition.

With the rows weighted by w (1, or balanced over the classes), centred by their weighted options, and targets
Y (rows, classes) of +1 for a row's own class and -1 for others (one column where there are two classes):

    G = X' diag(w) X = V diag(s) V',   M = X' diag(w) Y         one pass over the rows, in float64
    coef(alpha) = V diag(1 / (s + alpha)) V' M                  two small products for each alpha
    intercept(alpha) = mean(Y) - mean(X) coef(alpha)            it carries no penalty

These are the solutions of scikit-learn's RidgeClassifier, which solves anew for each alpha. G must be float64: in
float32 its smallest eigenvalues are rounding, and a small alpha divides by them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads import BLOCK_ROWS, linear_logits
from featcache.heads.classifiers.classifier import Embeddings, Labels, ModelOutput, SettingChoices, score_output
from featcache.heads.classifiers.settings import combinations, refuse_unknown
from featcache.heads.classifiers.trials import (
    SearchOptions,
    SearchResult,
    SearchTrial,
    best_trial,
    refuse_choice_without_val,
)

Doubles = npt.NDArray[np.float64]

DEFAULTS: SettingChoices = {"alpha": (1.0,), "class_weight": (None,)}
WITH_VAL = tuple(float(f"1e{power}") for power in range(-3, 7))  # the alpha to choose among where val can choose
_BLOCK = 8_192  # rows in float64 at a time


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """One linear map; it has scores and no probabilities."""

    weight: npt.NDArray[np.float32]  # (present classes, dim)
    bias: npt.NDArray[np.float32]  # (present classes,)
    present: Labels  # the classes that have training rows, rising

    @property
    def gives_probabilities(self) -> bool:
        """Never: its scores are no probabilities."""
        return False

    def predict(self, x: Embeddings) -> ModelOutput:
        """Return the class with the largest score for each embedding; of equals, the first.

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            ValueError: x has another width than the training rows.
        """
        predicted = np.empty(len(x), dtype=np.int64)
        for start in range(0, len(x), BLOCK_ROWS):
            scores = linear_logits(x[start : start + BLOCK_ROWS], self.weight, self.bias)
            predicted[start : start + BLOCK_ROWS] = self.present[scores.argmax(axis=1)]
        return ModelOutput(predicted, None)


@dataclass(frozen=True, slots=True, eq=False)
class Eigendecomposition:
    """The training rows as far as ridge needs them: enough to solve for any alpha."""

    mean: Doubles  # (dim,)
    target_mean: Doubles  # (targets,)
    values: Doubles  # (dim,), the eigenvalues of G, none below 0
    vectors: Doubles  # (dim, dim), V
    rotated: Doubles  # (dim, targets), V' M
    present: Labels

    def solve(self, alpha: float) -> tuple[Doubles, Doubles]:
        """Return coef (targets, dim) and intercept (targets,), as scikit-learn has them."""
        coef = (self.vectors @ (self.rotated / (self.values + alpha)[:, None])).T
        return coef, self.target_mean - coef @ self.mean

    def to_ridge(self, alpha: float) -> Ridge:
        """Return the classifier; two classes have one target, so the first class gets the opposite score."""
        coef, intercept = self.solve(alpha)
        if len(self.present) == 2:
            coef, intercept = np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
        return Ridge(coef.astype(np.float32, order="C"), intercept.astype(np.float32), self.present)


def decompose(x: Embeddings, y: Labels, class_weight: str | None = None) -> Eigendecomposition:
    """Return the eigendecomposition of the training rows, from one pass over x (rows, dim) and y (rows,)."""
    present, own = np.unique(y, return_inverse=True)
    support = np.bincount(own)
    weight = len(y) / (len(present) * support) if class_weight == "balanced" else np.ones(len(present))
    each = weight[own]  # (rows,)
    total = each.sum()
    is_binary = len(present) == 2
    targets = np.array([[-1.0], [1.0]]) if is_binary else 2 * np.eye(len(present)) - 1  # (present, targets)
    target_mean = (weight * support) @ targets / total
    return _decompose(x, each, lambda part: targets[own[part]], target_mean, present)


def decompose_values(x: Embeddings, values: Doubles) -> Eigendecomposition:
    """Return the eigendecomposition of rows x (rows, dim) with numbers (rows, outputs) to predict."""
    outputs = np.arange(values.shape[1])
    return _decompose(x, np.ones(len(x)), lambda part: values[part], values.mean(axis=0), outputs)


def _decompose(
    x: Embeddings, each: Doubles, targets: Callable[[slice], Doubles], target_mean: Doubles, present: Labels
) -> Eigendecomposition:
    """Return the eigendecomposition of rows, each with its weight; `targets` gives those of a part of the rows."""
    dim, rows = x.shape[1], len(x)
    mean = np.zeros(dim)
    for start in range(0, rows, _BLOCK):
        mean += each[start : start + _BLOCK] @ x[start : start + _BLOCK]
    mean /= each.sum()
    gram, moment = np.zeros((dim, dim)), np.zeros((dim, len(target_mean)))
    root = np.sqrt(each)
    for start in range(0, rows, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = x[part] - mean
        block *= root[part, None]
        gram += block.T @ block  # NumPy computes one triangle of it
        moment += block.T @ (root[part, None] * (targets(part) - target_mean))
    values, vectors = np.linalg.eigh(gram)
    return Eigendecomposition(mean, target_mean, values.clip(0), vectors, vectors.T @ moment, present)


def refuse_bad_strength(name: str, value: object) -> None:
    """Raise a UsageError unless a strength of regularisation is a number above 0.

    Args:
        name: Of the setting: "alpha", "C".
        value: It.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < np.inf:
        raise UsageError(f"{name} is {value!r}, expected a number above 0")


def search_ridge(
    train: Features, val: Features | None, choices: SettingChoices, options: SearchOptions
) -> SearchResult:
    """Return every alpha, scored on val, and the best ridge.

    Args:
        train: The rows to fit.
        val: The split that chooses; None where there is none, and then one combination is all that can be asked for.
        choices: The values of alpha and class_weight to choose among; what is not named has its default.
        options: Whom to tell how far it is; ridge always uses all cores.

    Raises:
        CacheError: several combinations, and no val split.
        UsageError: a setting that ridge does not have, or one out of its range.
    """
    refuse_unknown("ridge", choices, tuple(DEFAULTS))
    defaults = DEFAULTS if val is None else {**DEFAULTS, "alpha": WITH_VAL}
    tried = combinations({**defaults, **choices})
    refuse_choice_without_val(train, val, len(tried))
    for settings in tried:
        refuse_bad_strength("alpha", settings["alpha"])
        balance = settings["class_weight"]
        if balance not in (None, "balanced"):
            raise UsageError(f"class_weight is {balance!r}, expected None or balanced")
    classes = len(train.classes)
    decomposed: dict[object, Eigendecomposition] = {}
    trials, ridges, outputs = [], [], []
    for number, settings in enumerate(tried):
        options.progress("fitting", number, len(tried))
        began = time.perf_counter()
        balance = settings["class_weight"]
        if balance not in decomposed:
            decomposed[balance] = decompose(train.x, train.y, None if balance is None else str(balance))
        ridge = decomposed[balance].to_ridge(float(settings["alpha"]))  # type: ignore[arg-type]
        on_val = None if val is None else ridge.predict(val.x)
        scores = None if val is None or on_val is None else score_output(on_val, val.y, classes)
        trials.append(SearchTrial(settings=settings, val=scores, seconds=time.perf_counter() - began))
        ridges.append(ridge)
        outputs.append(on_val)
    best = best_trial(trials)
    train_scores = score_output(ridges[best].predict(train.x), train.y, classes)
    return SearchResult(tuple(trials), best, ridges[best], train_scores, outputs[best])
