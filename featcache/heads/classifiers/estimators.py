"""scikit-learn's classifiers, and whatever else fits and predicts as they do, by name or by import path."""

import importlib
import inspect
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featcache.errors import MachineError, UsageError
from featcache.features import Features
from featcache.heads.classifiers.answers import (
    Answers,
    Choices,
    Found,
    Labels,
    Means,
    Rows,
    Settings,
    Trial,
    rank,
    refuse_choice,
    scores_of,
)
from featcache.heads.classifiers.settings import combinations, refuse_unknown, text_of
from featcache.recipe import SHORT_NAMES, SKLEARN

PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

# What scikit-learn's own defaults do badly on embeddings of hundreds of dimensions; all can be set otherwise.
_DEFAULTS: Mapping[str, Settings] = {
    "logreg": {"max_iter": 1000},
    "lda": {"solver": "lsqr", "shrinkage": "auto"},  # the others form no covariance that a small class supports
    "mlp": {"hidden_layer_sizes": (256,)},
}
_IGNORE_THREADS = ("LogisticRegression",)  # n_jobs does nothing there since 1.8, and complains
_BLOCK = 16_384  # rows answered at a time
PROCESS_SECONDS = 10.0  # twice what processes with scikit-learn in them take to start


@dataclass(frozen=True, slots=True, eq=False)
class Estimator:
    """A fitted estimator. It was given the classes that have training rows as 0, 1, 2, …"""

    model: Any
    present: Labels  # the classes that have training rows, rising
    classes: int

    def answer(self, x: Rows) -> Answers:
        """What `predict` says, and `predict_proba` where there is one; an absent class has probability 0."""
        proba = getattr(self.model, "predict_proba", None)
        predicted = np.empty(len(x), dtype=np.int64)
        probabilities = None if proba is None else np.zeros((len(x), self.classes), dtype=np.float32)
        for start in range(0, len(x), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(x)))
            predicted[part] = self.present[np.asarray(self.model.predict(x[part])).astype(np.int64)]
            if proba is not None and probabilities is not None:
                probabilities[part, self.present] = proba(x[part])
        return Answers(predicted, probabilities)


def import_path(name: str) -> str:
    """`logreg` -> `sklearn.linear_model:LogisticRegression`; a path stays what it is.

    Raises:
        UsageError: neither a short name nor `package.module:Class`.
    """
    path = SHORT_NAMES.get(name, name)
    if not PATH.fullmatch(path):
        raise UsageError(
            f"no classifier {name[:80]!r}: expected knn, ridge, {', '.join(SHORT_NAMES)}, or an import path such as "
            f"sklearn.svm:SVC"
        )
    return path


def classifier_class(name: str, *, foreign: bool) -> type[Any]:
    """The class that a name or an import path means; importing it runs its package, so only scikit-learn's unless
    `foreign`, which a person at the command line may grant and a recipe may not.

    Raises:
        UsageError: no such module or class, one of another package, or one that is no classifier.
    """
    path = import_path(name)
    if not foreign and not re.fullmatch(SKLEARN, path):
        raise UsageError(f"{path}: expected a public class of scikit-learn, such as sklearn.svm:SVC")
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a package can fail in any way when it is imported
        raise UsageError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from None
    if not isinstance(found, type) or not all(callable(getattr(found, name, None)) for name in ("fit", "predict")):
        raise UsageError(f"{path}: no classifier: expected a class with fit and predict")
    from sklearn.base import RegressorMixin

    at_home = found.__module__.partition(".")[0] == "sklearn"
    if not foreign and not at_home:
        raise UsageError(f"{path}: is {found.__module__}'s, expected a class of scikit-learn")
    if issubclass(found, RegressorMixin):
        raise UsageError(f"{path}: is a regressor, expected a classifier")
    return found


def search_estimators(
    name: str, train: Features, val: Features | None, choices: Choices, means: Means, *, foreign: bool
) -> Found:
    """Fit every combination, in parallel through joblib, and judge it on val.

    Raises:
        UsageError: no such classifier, a setting that it refuses, or data that it cannot learn from.
        MachineError: not enough memory.
    """
    from joblib import Parallel, delayed

    found = classifier_class(name, foreign=foreign)
    known = _settings_of(found)
    if known is not None:
        refuse_unknown(name, choices, [key for key in known if key != "memory"])  # joblib.Memory unpickles
    defaults: dict[str, Any] = {**_DEFAULTS.get(name, {})}
    if known is not None and "random_state" in known:
        defaults["random_state"] = 0
    asked = combinations({**{key: (value,) for key, value in defaults.items()}, **choices})
    refuse_choice(train, val, len(asked))
    threads = means.jobs if len(asked) == 1 and _has_threads(found) else None
    present, own = np.unique(train.y, return_inverse=True)
    classes = len(train.classes)
    x_val = None if val is None else val.x

    def fits() -> Iterator[_Fitted]:
        """The first one here; the others in processes where they take longer than those take to start."""
        first = _fit(0, found, asked[0], threads, train.x, own, present, classes, x_val)
        yield first
        long = first.trial.seconds * (len(asked) - 1) > PROCESS_SECONDS
        yield from Parallel(n_jobs=min(means.jobs, len(asked) - 1) if long else 1, return_as="generator_unordered")(
            delayed(_fit)(number, found, settings, threads, train.x, own, present, classes, x_val)
            for number, settings in enumerate(asked[1:], start=1)
        )

    trials: dict[int, Trial] = {}
    best: _Fitted | None = None
    means.progress("fitting", 0, len(asked))
    try:
        for done, fitted in enumerate(fits(), start=1):
            means.progress("fitting", done, len(asked))
            judged = None if val is None or fitted.on_val is None else scores_of(fitted.on_val, val.y, classes)
            trials[fitted.number] = replace(fitted.trial, val=judged)
            # Only the best one is held: a forest on 260,000 rows is large.
            if best is None or rank(trials, fitted.number) < rank(trials, best.number):
                best = fitted
    except MemoryError:
        fewer = f" for {means.jobs} fits at once; fewer --jobs take less" if means.jobs > 1 and len(asked) > 1 else ""
        raise MachineError(f"{name}: not enough memory{fewer}") from None
    assert best is not None  # noqa: S101 (there is at least one combination)
    on_train = scores_of(best.estimator.answer(train.x), train.y, classes)
    in_order = tuple(trials[number] for number in range(len(asked)))
    return Found(in_order, best.number, best.estimator, on_train, best.on_val)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    number: int
    trial: Trial  # not judged yet
    estimator: Estimator
    on_val: Answers | None


def _fit(
    number: int,
    found: type[Any],
    settings: Settings,
    threads: int | None,
    x: Rows,
    own: Labels,
    present: Labels,
    classes: int,
    x_val: Rows | None,
) -> _Fitted:
    """One combination; may run in a process of its own."""
    began = time.perf_counter()
    said = f"{found.__name__}({', '.join(f'{key}={text_of(value)}' for key, value in settings.items())})"
    model = _made(found, settings)
    if threads is not None and "n_jobs" not in settings:
        model.set_params(n_jobs=threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(x, own)
            estimator = Estimator(model, present, classes)
            on_val = None if x_val is None else estimator.answer(x_val)
        except (ValueError, TypeError, AttributeError, ArithmeticError, np.linalg.LinAlgError) as error:
            first = str(error).strip().split("\n")[0]
            raise UsageError(f"{said} cannot be fitted: {type(error).__name__}: {first}") from None
    if threads is not None and "n_jobs" not in settings:
        model.set_params(n_jobs=None)  # of this machine, not of the classifier
    notes = {" ".join(str(warning.message).split("\n")[0].split()): warning.category.__name__ for warning in caught}
    kept = tuple(f"{said}: {kind}: {text}" for text, kind in notes.items())
    return _Fitted(
        number,
        Trial(settings=settings, val=None, seconds=time.perf_counter() - began, notes=kept),
        estimator,
        on_val,
    )


def _made(found: type[Any], settings: Settings) -> Any:
    try:
        return found(**settings)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{found.__name__} cannot be made: {error}") from None


def _has_threads(found: type[Any]) -> bool:
    """Whether a class takes n_jobs; where that is no longer None by default, it is on its way out."""
    taken = inspect.signature(found).parameters.get("n_jobs")
    return taken is not None and taken.default is None and found.__name__ not in _IGNORE_THREADS


def _settings_of(found: type[Any]) -> Sequence[str] | None:
    """The settings that a class takes; None where it takes any."""
    parameters = inspect.signature(found).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]
