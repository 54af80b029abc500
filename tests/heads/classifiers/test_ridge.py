"""Ridge against scikit-learn's RidgeClassifier, alpha by alpha."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier

from featcache.errors import UsageError
from featcache.heads.classifiers import ridge
from featcache.heads.classifiers.trials import SearchOptions
from tests.builders import clusters


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99), rows=st.integers(12, 80), classes=st.integers(2, 5), dim=st.integers(1, 40),
    balanced=st.booleans(), alpha=st.floats(1e-3, 1e5),
)  # fmt: skip
def test_every_alpha_is_scikit_learns(seed, rows, classes, dim, balanced, alpha):
    """Coefficients and intercept within 1e-4: more rows than dimensions or fewer, two classes or more, weighted."""
    found = clusters(seed, rows, classes=classes, dim=dim)
    if len(np.unique(found.y)) < 2:
        return
    weight = "balanced" if balanced else None
    theirs = RidgeClassifier(alpha=alpha, class_weight=weight).fit(found.x.astype(np.float64), found.y)
    coef, intercept = ridge.decompose(found.x, found.y, weight).solve(alpha)
    np.testing.assert_allclose(coef, np.atleast_2d(theirs.coef_), atol=1e-4 * max(1, np.abs(theirs.coef_).max()))
    np.testing.assert_allclose(intercept, theirs.intercept_, atol=1e-4 * max(1, np.abs(theirs.intercept_).max()))


@pytest.mark.parametrize("classes", [2, 3])
def test_predictions_are_scikit_learns(classes):
    """On rows that were not trained on; a class without training rows is never answered."""
    train, val = clusters(0, 90, classes=classes + 1, absent=1), clusters(1, 200, classes=classes + 1)
    found = ridge.search_ridge(train, None, {"alpha": (3.0,)}, SearchOptions()).classifier
    theirs = RidgeClassifier(alpha=3.0).fit(train.x, train.y)
    assert found.predict(val.x).predicted.tolist() == theirs.predict(val.x).tolist()
    assert found.predict(val.x).probabilities is None


def test_the_best_alpha_on_val_is_chosen():
    """Of all alphas the one with the highest macro recall on val, and its scores are what its answers give."""
    train, val = clusters(2, 40, dim=30), clusters(3, 200, dim=30)
    found = ridge.search_ridge(train, val, {"class_weight": (None, "balanced")}, SearchOptions())
    assert len(found.trials) == 2 * len(ridge.WITH_VAL)
    best = max(trial.val.macro_recall for trial in found.trials)
    assert found.trials[found.best].val.macro_recall == best
    predicted = found.classifier.predict(val.x).predicted
    recall = np.mean([(predicted[val.y == label] == label).mean() for label in range(3)])
    assert recall == pytest.approx(best)


@pytest.mark.parametrize(
    "choices", [{"alpha": (0,)}, {"alpha": (-1.0,)}, {"alpha": ("x",)}, {"class_weight": ("b",)}, {"C": (1,)}]
)
def test_a_setting_out_of_range_is_named(choices):
    """What was found and what is expected, exit code 2."""
    with pytest.raises(UsageError):
        ridge.search_ridge(clusters(0), None, choices, SearchOptions())
