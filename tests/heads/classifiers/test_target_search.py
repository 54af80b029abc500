"""Models of several labels or numbers that fit makes: scikit-learn's, setting by setting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsRegressor

from featcache.errors import CacheError, UsageError
from featcache.heads.classifiers import SearchOptions, refuse_other_models, search_target_model
from featcache.metrics import label_metrics, value_metrics
from tests.target_rows import rows_with_targets


def fitted(classifier, train, val=None, **choices):
    """What a search finds with these settings."""
    return search_target_model(classifier, train, val, choices, SearchOptions())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), rows=st.integers(4, 60), alpha=st.floats(1e-3, 1e5))
def test_ridge_on_numbers_is_scikit_learns(seed, rows, alpha):
    """To 1e-4 of each number's spread, more rows than dimensions or fewer."""
    train, other = rows_with_targets("value", rows, seed), rows_with_targets("value", 50, seed + 1)
    found = fitted("ridge", train, alpha=(alpha,)).model
    theirs = Ridge(alpha=alpha).fit(train.x.astype(np.float64), train.targets.values)
    spread = train.targets.values.std(axis=0) + 1e-9
    assert (np.abs(found.outputs(other.x) - theirs.predict(other.x.astype(np.float64))) / spread).max() < 1e-3


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), c=st.sampled_from([1e-3, 0.1, 10.0]), balanced=st.booleans())
def test_logreg_on_labels_is_scikit_learns_one_versus_rest(seed, c, balanced):
    """The probability of each label, and that of a label that no row has is 0."""
    train, other = rows_with_targets("labels", 40, seed), rows_with_targets("labels", 30, seed + 1)
    weight = "balanced" if balanced else None
    train.targets.values[:, 2] = 0
    model = fitted("logreg", train, C=(c,), class_weight=(weight,)).model
    p = 1 / (1 + np.exp(-model.outputs(other.x)))
    theirs = OneVsRestClassifier(LogisticRegression(C=c, class_weight=weight, max_iter=1000))
    theirs.fit(train.x, train.targets.values[:, :2].astype(int))
    np.testing.assert_allclose(p[:, :2], theirs.predict_proba(other.x), atol=1e-5)
    assert p[:, 2].max() < 1e-12


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), k=st.integers(1, 20), kind=st.sampled_from(["labels", "value"]), even=st.booleans())
def test_knn_is_scikit_learns_on_the_unit_sphere(seed, k, kind, even):
    """The mean of the neighbours, each with its weight; of labels it is the probability."""
    train, other = rows_with_targets(kind, 40, seed), rows_with_targets(kind, 30, seed + 1)
    weights = "uniform" if even else "temperature"
    model = fitted("knn", train, k=(k,), weights=(weights,), temperature=(0.2,)).model
    unit = [part.x / np.linalg.norm(part.x, axis=1, keepdims=True) for part in (train, other)]
    by_cosine = "uniform" if even else lambda distance: np.exp(-(distance**2) / 2 / 0.2)
    theirs = KNeighborsRegressor(k, weights=by_cosine).fit(unit[0], train.targets.values).predict(unit[1])
    outputs = model.outputs(other.x)
    answers = 1 / (1 + np.exp(-outputs)) if kind == "labels" else outputs
    scale = 1 if kind == "labels" else train.targets.values.std(axis=0)
    assert (np.abs(answers - theirs.reshape(answers.shape)) / scale).max() < 1e-3


@pytest.mark.parametrize(("classifier", "kind"), [("ridge", "value"), ("knn", "value"), ("knn", "labels"),
                                                  ("logreg", "labels")])  # fmt: skip
def test_val_chooses_by_the_targets_metric(classifier, kind):
    """The best of all trials is kept, with the thresholds and scores that its own answers on val give."""
    train, val = rows_with_targets(kind, 60, 0), rows_with_targets(kind, 50, 1, "val")
    found = fitted(classifier, train, val)
    chief = "mean_average_precision" if kind == "labels" else "r2"
    figures = [trial.val.metrics[chief] for trial in found.trials]
    assert len(figures) > 1
    assert found.trials[found.best].val.metrics[chief] == max(figures)
    outputs = found.model.outputs(val.x)
    if kind == "labels":
        again = label_metrics(val.targets.values, 1 / (1 + np.exp(-outputs)), np.array(found.kept.thresholds))
    else:
        again = value_metrics(val.targets.values, outputs)
        assert found.kept.deviation == tuple(train.targets.values.std(axis=0))
    assert dict(found.trials[found.best].val.metrics) == pytest.approx(dict(again))


@pytest.mark.parametrize(
    ("classifier", "kind", "choices"),
    [
        ("ridge", "value", {"alpha": (0,)}), ("ridge", "value", {"class_weight": ("balanced",)}),
        ("logreg", "labels", {"C": (-1,)}), ("logreg", "labels", {"penalty": ("l1",)}),
        ("logreg", "labels", {"class_weight": ("b",)}), ("logreg", "labels", {"max_iter": (0,)}),
        ("knn", "value", {"k": (0,)}),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused(classifier, kind, choices):
    """What was found and what is expected."""
    with pytest.raises(UsageError):
        fitted(classifier, rows_with_targets(kind), **choices)


def test_what_cannot_learn_such_targets_is_refused_with_what_can():
    """In one sentence; and a choice needs val."""
    with pytest.raises(UsageError, match=r"fit ridge: several labels a row are learnt by knn and logreg, and by fit-h"):
        refuse_other_models("ridge", "labels")
    with pytest.raises(UsageError, match=r"fit lda: numbers are learnt by knn and ridge, and by fit-head") as refused:
        refuse_other_models("lda", "value")
    assert refused.value.corrections[0].right == "ridge"
    with pytest.raises(CacheError, match="a choice among 2 combinations of settings needs a val split"):
        fitted("ridge", rows_with_targets("value"), alpha=(1, 2))
