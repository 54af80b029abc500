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
from featcache.heads.classifiers.classifier import (
    ClassifierSettings,
    Embeddings,
    Labels,
    ModelOutput,
    SettingChoices,
    score_output,
)
from featcache.heads.classifiers.refusals import explain_refusal, unknown_class, unknown_classifier
from featcache.heads.classifiers.settings import combinations, format_value, refuse_unknown
from featcache.heads.classifiers.trials import (
    SearchOptions,
    SearchResult,
    SearchTrial,
    refuse_choice_without_val,
    trial_merit_key,
)
from featcache.recipe import SHORT_NAMES, SKLEARN

PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

# What scikit-learn's own defaults do badly on embeddings of hundreds of dimensions; all can be set otherwise.
_DEFAULTS: Mapping[str, ClassifierSettings] = {
    "logreg": {"max_iter": 1000},
    "lda": {"solver": "lsqr", "shrinkage": "auto"},  # the others form no covariance that a small class supports
    "mlp": {"hidden_layer_sizes": (256,)},
}
# C of logistic regression where nobody gives one: from embeddings that need strong regularisation to those that need
# hardly any. A fit of many rows takes minutes, and they need little.
LOGREG_C = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
LOGREG_C_OF_MANY_ROWS = (0.001, 0.1, 10.0)
MANY_ROWS = 50_000
_IGNORE_THREADS = ("LogisticRegression",)  # n_jobs does nothing there since 1.8, and complains
_BLOCK = 16_384  # rows that are predicted at a time
PROCESS_SECONDS = 10.0  # twice what processes with scikit-learn in them take to start


@dataclass(frozen=True, slots=True, eq=False)
class Estimator:
    """A fitted estimator of scikit-learn's kind. It was given the classes that have training rows as 0, 1, 2, …"""

    model: Any
    present: Labels  # the classes that have training rows, rising
    classes: int

    @property
    def gives_probabilities(self) -> bool:
        """Whether the estimator has `predict_proba`."""
        return getattr(self.model, "predict_proba", None) is not None

    def predict(self, x: Embeddings) -> ModelOutput:
        """Return what the estimator predicts for embeddings, and its probabilities where it has some.

        A class without training rows has probability 0.

        Args:
            x: (rows, dim) float32, as the trunk gave them.

        Raises:
            Exception: whatever the estimator raises, such as ValueError for embeddings of another width.
        """
        proba = getattr(self.model, "predict_proba", None)
        predicted = np.empty(len(x), dtype=np.int64)
        probabilities = None if proba is None else np.zeros((len(x), self.classes), dtype=np.float32)
        for start in range(0, len(x), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(x)))
            predicted[part] = self.present[np.asarray(self.model.predict(x[part])).astype(np.int64)]
            if proba is not None and probabilities is not None:
                probabilities[part, self.present] = proba(x[part])
        return ModelOutput(predicted, probabilities)


@dataclass(frozen=True, slots=True, eq=False)
class _FittingTask:
    """What every combination of settings is fitted with; it is sent to processes that fit."""

    estimator_class: type[Any]
    threads: int | None  # that each fit may use, where it can use any
    x: Embeddings
    y: Labels  # as the estimator gets them: 0, 1, 2, … for the classes that have rows
    present: Labels
    classes: int
    x_val: Embeddings | None


@dataclass(frozen=True, slots=True, eq=False)
class _FittedTrial:
    number: int
    trial: SearchTrial  # without scores yet
    estimator: Estimator
    on_val: ModelOutput | None


def resolve_import_path(name: str) -> str:
    """Return the import path of a classifier: `logreg` -> `sklearn.linear_model:LogisticRegression`.

    Raises:
        UsageError: neither a short name nor `package.module:Class`.
    """
    path = SHORT_NAMES.get(name, name)
    if not PATH.fullmatch(path):
        raise unknown_classifier(name)
    return path


def find_estimator_class(name: str, *, foreign: bool) -> type[Any]:
    """Return the class that a name or an import path means.

    Importing it runs its package. So only scikit-learn's are, unless `foreign`, which a person at the command line may
    grant and a recipe may not.

    Args:
        name: One of `SHORT_NAMES`, such as "logreg", or an import path, such as "sklearn.svm:SVC".
        foreign: Whether classes of other packages than scikit-learn may be imported.

    Raises:
        UsageError: no such module or class, one of another package, or one that is no classifier.
    """
    path = resolve_import_path(name)
    if not foreign and not re.fullmatch(SKLEARN, path):
        raise UsageError(f"{path}: expected a public class of scikit-learn, such as sklearn.svm:SVC")
    module, _, attribute = path.partition(":")
    try:
        estimator_class = getattr(importlib.import_module(module), attribute)
    except AttributeError:
        raise unknown_class(name, importlib.import_module(module), attribute) from None
    except Exception as error:  # a package can fail in any way when it is imported
        raise UsageError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from None
    if not isinstance(estimator_class, type) or not all(
        callable(getattr(estimator_class, name, None)) for name in ("fit", "predict")
    ):
        raise UsageError(f"{path}: no classifier: expected a class with fit and predict")
    from sklearn.base import RegressorMixin

    is_sklearns = estimator_class.__module__.partition(".")[0] == "sklearn"
    if not foreign and not is_sklearns:
        raise UsageError(f"{path}: is {estimator_class.__module__}'s, expected a class of scikit-learn")
    if issubclass(estimator_class, RegressorMixin):
        raise UsageError(f"{path}: is a regressor, expected a classifier")
    return estimator_class


def search_estimators(
    name: str, train: Features, val: Features | None, choices: SettingChoices, options: SearchOptions, *, foreign: bool
) -> SearchResult:
    """Fit every combination of settings, in parallel through joblib, and score them on val.

    Args:
        name: A short name or an import path.
        train: The rows to fit.
        val: The split that chooses; None where there is none, and then one combination is all that can be asked for.
        choices: The values of each setting to choose among; what is not named has the class's default, or ours.
        options: How many fits run at once, and whom to tell how far they are.
        foreign: As for `find_estimator_class`.

    Returns:
        Every combination with its scores; and the best one, fitted, with its scores on train and predictions on val.

    Raises:
        UsageError: no such classifier, a setting that it refuses, or data that it cannot learn from.
        CacheError: several combinations, and no val split.
        MachineError: not enough memory.
    """
    estimator_class = find_estimator_class(name, foreign=foreign)
    completed = _with_defaults(name, estimator_class, choices)
    tried = combinations(completed if val is None else _with_default_choices(name, completed, len(train.y)))
    refuse_choice_without_val(train, val, len(tried))
    present, own = np.unique(train.y, return_inverse=True)
    task = _FittingTask(
        estimator_class=estimator_class,
        threads=options.jobs if len(tried) == 1 and _has_threads(estimator_class) else None,
        x=train.x,
        y=own,
        present=present,
        classes=len(train.classes),
        x_val=None if val is None else val.x,
    )
    trials: dict[int, SearchTrial] = {}
    best: _FittedTrial | None = None
    options.progress("fitting", 0, len(tried))
    try:
        for done, fitted in enumerate(_fit_all(task, tried, options.jobs), start=1):
            options.progress("fitting", done, len(tried))
            scores = None if val is None or fitted.on_val is None else score_output(fitted.on_val, val.y, task.classes)
            trials[fitted.number] = replace(fitted.trial, val=scores)
            # Only the best one is held: a forest on 260,000 rows is large.
            if best is None or trial_merit_key(trials, fitted.number) < trial_merit_key(trials, best.number):
                best = fitted
    except MemoryError:
        is_parallel = options.jobs > 1 and len(tried) > 1
        fewer = f" for {options.jobs} fits at once; fewer --jobs take less" if is_parallel else ""
        raise MachineError(f"{name}: not enough memory{fewer}") from None
    assert best is not None  # noqa: S101 (there is at least one combination)
    on_train = score_output(best.estimator.predict(train.x), train.y, task.classes)
    in_order = tuple(trials[number] for number in range(len(tried)))
    return SearchResult(in_order, best.number, best.estimator, on_train, best.on_val)


def _with_defaults(name: str, estimator_class: type[Any], choices: SettingChoices) -> SettingChoices:
    """Return the choices with our defaults beside them.

    Raises:
        UsageError: the class has no such setting.
    """
    known = _settings_of(estimator_class)
    if known is not None:
        refuse_unknown(name, choices, [key for key in known if key != "memory"])  # joblib.Memory unpickles
    defaults: dict[str, Any] = {**_DEFAULTS.get(name, {})}
    if known is not None and "random_state" in known:
        defaults["random_state"] = 0
    return {**{key: (value,) for key, value in defaults.items()}, **choices}


def _with_default_choices(name: str, choices: SettingChoices, rows: int) -> SettingChoices:
    """Return the choices with several C of logistic regression where none is given, and val can choose among them."""
    if name != "logreg" or "C" in choices or None in choices.get("penalty", ()):  # without a penalty C means nothing
        return choices
    return {"C": LOGREG_C if rows < MANY_ROWS else LOGREG_C_OF_MANY_ROWS, **choices}


def _fit_all(task: _FittingTask, tried: Sequence[ClassifierSettings], jobs: int) -> Iterator[_FittedTrial]:
    """Yield every combination, fitted, as they finish.

    The first one is fitted here; the others in processes, where they take longer than those take to start.
    """
    from joblib import Parallel, delayed

    first = _fit(task, 0, tried[0])
    yield first
    is_worth_processes = first.trial.seconds * (len(tried) - 1) > PROCESS_SECONDS
    processes = min(jobs, len(tried) - 1) if is_worth_processes else 1
    yield from Parallel(n_jobs=processes, return_as="generator_unordered")(
        delayed(_fit)(task, number, settings) for number, settings in enumerate(tried[1:], start=1)
    )


def _fit(task: _FittingTask, number: int, settings: ClassifierSettings) -> _FittedTrial:
    """Return one combination, fitted; may run in a process of its own."""
    began = time.perf_counter()
    class_name = task.estimator_class.__name__
    call = f"{class_name}({', '.join(f'{key}={format_value(value)}' for key, value in settings.items())})"
    model = _make_estimator(task.estimator_class, settings)
    uses_threads = task.threads is not None and "n_jobs" not in settings
    if uses_threads:
        model.set_params(n_jobs=task.threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(task.x, task.y)
            estimator = Estimator(model, task.present, task.classes)
            on_val = None if task.x_val is None else estimator.predict(task.x_val)
        except (ValueError, TypeError, AttributeError, ArithmeticError, np.linalg.LinAlgError) as error:
            raise explain_refusal(error, task.estimator_class, call) from None
    if uses_threads:
        model.set_params(n_jobs=None)  # of this machine, not of the classifier
    complaints = {" ".join(str(each.message).split("\n")[0].split()): each.category.__name__ for each in caught}
    notes = tuple(f"{call}: {category}: {text}" for text, category in complaints.items())
    seconds = time.perf_counter() - began
    return _FittedTrial(
        number, SearchTrial(settings=settings, val=None, seconds=seconds, notes=notes), estimator, on_val
    )


def _make_estimator(estimator_class: type[Any], settings: ClassifierSettings) -> Any:
    try:
        return estimator_class(**settings)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{estimator_class.__name__} cannot be made: {error}") from None


def _has_threads(estimator_class: type[Any]) -> bool:
    """Whether a class takes n_jobs; where that is no longer None by default, it is on its way out."""
    parameter = inspect.signature(estimator_class).parameters.get("n_jobs")
    return parameter is not None and parameter.default is None and estimator_class.__name__ not in _IGNORE_THREADS


def _settings_of(estimator_class: type[Any]) -> Sequence[str] | None:
    """Return the settings that a class takes; None where it takes any."""
    parameters = inspect.signature(estimator_class).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]
