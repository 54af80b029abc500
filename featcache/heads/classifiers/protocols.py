"""Published protocols of `featcache fit`: what is tried and how, so that figures can stand beside those of papers.

dinov2 is the evaluation of DINOv2 (Oquab et al. 2023; `dinov2/eval/log_regression.py` and `knn.py` of its repository):
logistic regression with 45 values of C, 10 to the power of -6 to 5, evenly spaced; k-NN by cosine with k 10, 20, 100
and 200 and temperature 0.07. Val chooses. Two things differ: the choice is by macro recall, as everywhere here, and the
classifier that is kept has learnt from train alone, where theirs is fitted once more on train and val together.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from featcache.errors import UsageError
from featcache.features import Features
from featcache.heads import linear_logits
from featcache.heads.classifiers.classifier import (
    ClassifierSettings,
    Embeddings,
    Labels,
    ModelOutput,
    SettingChoices,
    score_output,
)
from featcache.heads.classifiers.estimators import Estimator
from featcache.heads.classifiers.trials import (
    SearchOptions,
    SearchResult,
    SearchTrial,
    best_trial,
    refuse_choice_without_val,
)
from featcache.metrics import softmax

if TYPE_CHECKING:
    from featcache.heads.optimum import LogregOptimum

DINOV2 = "dinov2"
LOGREG_C = tuple(float(f"{c:.4g}") for c in np.logspace(-6, 5, 45))
KNN: Mapping[str, tuple[float, ...]] = {"k": (10, 20, 100, 200), "temperature": (0.07,)}
CLASSIFIERS = ("logreg", "knn")  # that have a protocol


def refuse_protocol(protocol: str | None, classifier: str, choices: SettingChoices) -> None:
    """Raise a UsageError unless a classifier can be fitted by a protocol, which states all of its settings.

    Args:
        protocol: its name; None where none was given.
        classifier: as it was typed.
        choices: settings that were given beside it.

    Raises:
        UsageError: no such protocol, a classifier that it does not have, or settings beside it.
    """
    if protocol is None:
        return
    if protocol != DINOV2:
        raise UsageError(f"--protocol: found {protocol[:40]!r}, expected {DINOV2}").correct("--protocol", DINOV2)
    if classifier not in CLASSIFIERS:
        error = UsageError(f"--protocol {protocol} has {' and '.join(CLASSIFIERS)}, found {classifier}; leave it out")
        raise error.correct("--protocol", None)
    if choices:
        given = ", ".join(choices)
        error = UsageError(
            f"--protocol {protocol} states all settings of {classifier}, and {given} was given: leave out one"
        )
        raise error.correct("--protocol", None)


def knn_choices(rows: int) -> tuple[SettingChoices, str]:
    """Return what k-NN chooses among, and a note on the k that there are too few training rows for; "" where none is.

    Args:
        rows: how many training rows there are.
    """
    possible = tuple(k for k in KNN["k"] if k <= rows)
    left = [f"{k:g}" for k in KNN["k"] if k > rows]
    note = f"--protocol {DINOV2}: k {' and '.join(left)} left out, train has {rows:,} rows" if left else ""
    return {**KNN, "k": possible or (rows,)}, note


def search_logreg_path(
    train: Features, val: Features | None, choices: SettingChoices, options: SearchOptions
) -> SearchResult:
    """Return every C of the protocol, scored on val, from one path of optima; and the best of them.

    Args:
        train: The rows to fit.
        val: The split that chooses.
        choices: C alone.
        options: The device, and whom to tell how far it is.

    Raises:
        CacheError: no val split.
    """
    from featcache.heads.optimum import solve_logreg_path  # which imports torch

    values = [float(c) for c in choices["C"]]  # type: ignore[arg-type]
    refuse_choice_without_val(train, val, len(values))
    assert val is not None  # noqa: S101 (a path is a choice)
    present, classes = np.unique(train.y), len(train.classes)
    trials: list[SearchTrial] = []
    best: LogregOptimum | None = None
    on_val: ModelOutput | None = None
    options.progress("fitting", 0, len(values))
    for optimum in solve_logreg_path(train, values, device=options.device):
        began = time.perf_counter()
        output = predict_optimum(optimum, present, classes, val.x)
        seconds = optimum.seconds + time.perf_counter() - began
        settings: ClassifierSettings = {"protocol": DINOV2, "C": optimum.c}
        trials.append(SearchTrial(settings=settings, val=score_output(output, val.y, classes), seconds=seconds))
        options.progress("fitting", len(trials), len(values))
        if best_trial(trials) == len(trials) - 1:
            best, on_val = optimum, output
    assert best is not None  # noqa: S101 (the first one was)
    train_scores = score_output(predict_optimum(best, present, classes, train.x), train.y, classes)
    estimator = Estimator(make_logreg(best), present, classes)
    return SearchResult(tuple(trials), best_trial(trials), estimator, train_scores, on_val)


def predict_optimum(optimum: "LogregOptimum", present: Labels, classes: int, x: Embeddings) -> ModelOutput:
    """Return what an optimum answers, over all classes; one without training rows has probability 0.

    Args:
        optimum: of the present classes.
        present: which these are, rising.
        classes: how many there are.
        x: (rows, dim) embeddings.
    """
    logits = linear_logits(x, optimum.weight, optimum.bias)
    probabilities = np.zeros((len(x), classes), dtype=np.float32)
    probabilities[:, present] = softmax(logits)
    return ModelOutput(present[logits.argmax(axis=1)], probabilities)


def make_logreg(optimum: "LogregOptimum") -> object:
    """Return an optimum as scikit-learn's LogisticRegression, as its `fit` would have left it.

    Args:
        optimum: of the classes 0, 1, 2, …
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=optimum.c)
    weight, bias = optimum.weight, optimum.bias
    if len(weight) == 2:  # it has one row of weights then: the logit of the second class
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    model.classes_ = np.arange(len(optimum.weight))
    model.coef_, model.intercept_ = np.ascontiguousarray(weight), np.ascontiguousarray(bias)
    model.n_features_in_, model.n_iter_ = weight.shape[1], np.array([optimum.iterations], dtype=np.int32)
    return model
