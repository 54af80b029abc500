"""The search for the settings of a model of several labels or numbers: k-NN, ridge, and logistic regressions.

    ridge     numbers: least squares with a penalty alpha |w|^2, the solution of scikit-learn's Ridge
    logreg    labels: scikit-learn's LogisticRegression for each label by itself, as its OneVsRestClassifier fits them
    knn       either: the mean over the nearest training rows

What val chooses by is the mean average precision of labels, or R2.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads import KeptTargets, Scores, score_answers, truth_of
from featcache.heads.classifiers.classifier import ClassifierSettings, SettingChoices
from featcache.heads.classifiers.estimators import LOGREG_C
from featcache.heads.classifiers.knn import check_knn, find_neighbours, knn_combinations
from featcache.heads.classifiers.ridge import DEFAULTS as RIDGE_DEFAULTS
from featcache.heads.classifiers.ridge import WITH_VAL, decompose_values, refuse_bad_strength
from featcache.heads.classifiers.settings import combinations, refuse_unknown
from featcache.heads.classifiers.target_models import Doubles, KnnTargets, LinearTargets, TargetModel
from featcache.heads.classifiers.trials import SearchOptions, SearchTrial, best_trial, refuse_choice_without_val
from featcache.metrics import choose_thresholds
from featcache.recipe import LABELS, VALUE

TARGET_MODELS = {LABELS: ("knn", "logreg"), VALUE: ("knn", "ridge")}
_LOGREG_DEFAULTS: SettingChoices = {"C": (1.0,), "class_weight": (None,), "max_iter": (1000,)}
_NEVER = -30.0  # the output for a label that no training row has: a probability of 1e-13; its negative, for one of all


@dataclass(frozen=True, slots=True, eq=False)
class TargetSearchResult:
    """Every combination that a search tried, and the best one, fitted."""

    trials: tuple[SearchTrial, ...]
    best: int
    model: TargetModel
    kept: KeptTargets  # thresholds of labels, chosen on val; or the deviations of numbers over the training rows
    train: Scores | None  # of the best; None of k-NN: the nearest of its own rows is each row itself


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """One combination, fitted, and what it answers on val."""

    settings: ClassifierSettings
    model: TargetModel
    on_val: Doubles | None
    seconds: float
    notes: tuple[str, ...] = ()


def search_target_model(
    classifier: str, train: Features, val: Features | None, choices: SettingChoices, options: SearchOptions
) -> TargetSearchResult:
    """Return every combination of settings with its scores on val, and the best one, fitted.

    Args:
        classifier: One of `TARGET_MODELS` of the rows' targets.
        train: The rows to fit.
        val: The split that chooses; None where there is none, and then one combination is all that can be asked for.
        choices: The values of each setting to choose among; what is not named has its default.
        options: The device of k-NN, and whom to tell how far it is.

    Raises:
        CacheError: several combinations, and no val split.
        UsageError: a setting that the model does not have, or one out of its range.
    """
    assert train.targets is not None  # noqa: S101 (who has classes searches elsewhere)
    kind, truth = train.targets.kind, train.targets.values
    tried = _combinations(classifier, choices, len(truth), has_val=val is not None)
    refuse_choice_without_val(train, val, len(tried))
    find = {"knn": _fit_knn, "ridge": _fit_ridge, "logreg": _fit_logreg}[classifier]
    deviation = () if kind == LABELS else tuple(truth.std(axis=0).tolist())
    best, kept_of_best, trials = None, KeptTargets(), []
    for done, candidate in enumerate(find(train, val, tried, options), start=1):
        options.progress("fitting", done, len(tried))
        kept = _keep(kind, KeptTargets(deviation=deviation), candidate.on_val, val)
        on_val = candidate.on_val
        scores = None if val is None or on_val is None else score_answers(kind, kept, on_val, truth_of(val))
        trials.append(
            SearchTrial(
                settings=candidate.settings, val=scores, seconds=candidate.seconds, notes=candidate.notes,
            )
        )  # fmt: skip
        if best_trial(trials) == len(trials) - 1:
            best, kept_of_best = candidate, kept
    assert best is not None  # noqa: S101 (the first one was)
    on_train = None if classifier == "knn" else score_answers(kind, kept_of_best, best.model.outputs(train.x), truth)
    return TargetSearchResult(tuple(trials), best_trial(trials), best.model, kept_of_best, on_train)


def refuse_other_models(classifier: str, kind: str) -> None:
    """Raise a UsageError unless a classifier can learn such targets.

    Args:
        classifier: As it was typed.
        kind: LABELS or VALUE.

    Raises:
        UsageError: it cannot; the message names those that can.
    """
    known = TARGET_MODELS[kind]
    if classifier in known:
        return
    what, others = ("several labels a row", "numbers") if kind == LABELS else ("numbers", "several labels a row")
    other = TARGET_MODELS[VALUE if kind == LABELS else LABELS]
    also = f" ({classifier} learns {others}, and classes)" if classifier in other else ""
    error = UsageError(f"fit {classifier}: {what} are learnt by {' and '.join(known)}, and by fit-head{also}")
    raise error.correct(classifier, known[-1])


def _combinations(classifier: str, choices: SettingChoices, rows: int, *, has_val: bool) -> list[ClassifierSettings]:
    """Return every combination of settings, checked.

    Raises:
        UsageError: as `search_target_model`.
    """
    if classifier == "knn":
        tried = knn_combinations(choices, rows, has_val=has_val)
        for settings in tried:
            check_knn(rows, **settings)
        return tried
    if classifier == "ridge":
        defaults: SettingChoices = {"alpha": WITH_VAL if has_val else RIDGE_DEFAULTS["alpha"]}
    else:
        defaults = {**_LOGREG_DEFAULTS, "C": LOGREG_C if has_val else _LOGREG_DEFAULTS["C"]}
    refuse_unknown(classifier, choices, tuple(defaults))
    tried = combinations({**defaults, **choices})
    for settings in tried:
        _check_settings(settings)
    return tried


def _check_settings(settings: ClassifierSettings) -> None:
    for name in ("alpha", "C"):
        if name in settings:
            refuse_bad_strength(name, settings[name])
    if settings.get("class_weight") not in (None, "balanced"):
        raise UsageError(f"class_weight is {settings['class_weight']!r}, expected None or balanced")
    steps = settings.get("max_iter", 1)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UsageError(f"max_iter is {steps!r}, expected a whole number from 1 up")


def _keep(kind: str, kept: KeptTargets, on_val: Doubles | None, val: Features | None) -> KeptTargets:
    """Return what a model keeps: of labels the thresholds that are best on val."""
    if kind != LABELS or on_val is None or val is None:
        return kept
    probabilities = np.exp(-np.logaddexp(0, -on_val))
    return replace(kept, thresholds=tuple(choose_thresholds(truth_of(val), probabilities).tolist()))


def _fit_knn(
    train: Features, val: Features | None, tried: Sequence[ClassifierSettings], options: SearchOptions
) -> Iterator[_Candidate]:
    """Yield each combination; the neighbours of val are looked for once."""
    truth, kind, began = truth_of(train), train.targets.kind if train.targets else VALUE, time.perf_counter()
    models = [
        KnnTargets(train.x, truth, kind, *check_knn(len(truth), **settings), options.device) for settings in tried
    ]
    largest = max(model.k for model in models)
    found = None
    if val is not None:
        found = find_neighbours(train.x, val.x, largest, device=options.device, progress=options.progress)
    share = (time.perf_counter() - began) / len(tried)
    for settings, model in zip(tried, models, strict=True):
        yield _Candidate(settings, model, None if found is None else model.average(*found), share)


def _fit_ridge(
    train: Features, val: Features | None, tried: Sequence[ClassifierSettings], options: SearchOptions
) -> Iterator[_Candidate]:
    """Yield each alpha, all from one eigendecomposition."""
    options.progress("fitting", 0, len(tried))
    began = time.perf_counter()
    decomposed = decompose_values(train.x, truth_of(train))
    share = (time.perf_counter() - began) / len(tried)
    for settings in tried:
        began = time.perf_counter()
        coef, intercept = decomposed.solve(float(settings["alpha"]))  # type: ignore[arg-type]
        model = LinearTargets(coef.astype(np.float32, order="C"), intercept.astype(np.float32))
        on_val = None if val is None else model.outputs(val.x)
        yield _Candidate(settings, model, on_val, share + time.perf_counter() - began)


def _fit_logreg(
    train: Features, val: Features | None, tried: Sequence[ClassifierSettings], options: SearchOptions
) -> Iterator[_Candidate]:
    """Yield each combination: a logistic regression for each label."""
    options.progress("fitting", 0, len(tried))
    for settings in tried:
        began, notes = time.perf_counter(), []
        maps = []
        for label, column in zip(train.classes, truth_of(train).T, strict=True):
            weight, bias, complaints = _fit_label(train, column, settings)
            maps.append((weight, bias))
            notes += [f"logreg C={settings['C']:g}, label {label}: {text}" for text in complaints]
        model = LinearTargets(
            np.stack([weight for weight, _ in maps]), np.array([bias for _, bias in maps], np.float32)
        )
        on_val = None if val is None else model.outputs(val.x)
        yield _Candidate(settings, model, on_val, time.perf_counter() - began, tuple(notes))


def _fit_label(
    train: Features, column: Doubles, settings: ClassifierSettings
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], float, list[str]]:
    """Return the weights and the bias of one label, and what the solver complained of."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(column)) < 2:
        return np.zeros(train.x.shape[1], np.float32), -_NEVER if column.any() else _NEVER, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(**settings).fit(train.x, column.astype(np.int64))
    complaints = [" ".join(str(each.message).split("\n")[0].split()) for each in caught]
    return model.coef_[0].astype(np.float32), float(model.intercept_[0]), list(dict.fromkeys(complaints))
