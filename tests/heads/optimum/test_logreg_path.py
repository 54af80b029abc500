"""The path of C against scikit-learn's LogisticRegression, one fit each."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from featcache.heads.classifiers.protocols import make_logreg
from featcache.heads.optimum.logreg_path import logreg_c, logreg_weight_decay, solve_logreg_path
from tests.builders import clusters, features
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)
VALUES = (1e-6, 1e-3, 0.1, 1.0, 30.0, 1e3)


def fit(x, y, c):
    """scikit-learn's own, to the end."""
    return LogisticRegression(C=c, tol=1e-10, max_iter=20_000).fit(x.astype(np.float64), y)


def loss(weight, bias, x, y, c):
    """C sum(loss) + |W|^2 / 2 of as many rows of weights as classes, in float64, by C n."""
    z = x.astype(np.float64) @ weight.T + bias
    z -= z.max(axis=1, keepdims=True)
    nats = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
    return nats.mean() + (weight**2).sum() / (2 * c * len(y))


@pytest.mark.parametrize("labels", [(0, 1, 2), (0, 2)], ids=["three classes", "two of three"])
def test_each_point_is_scikit_learns_optimum(labels):
    """The objective is no higher by more than 1e-6 of it, and every row gets the same answer: of two classes, too."""
    train = clusters(0, 240)
    kept = np.isin(train.y, labels)
    x, y = train.x[kept], train.y[kept]
    own = np.searchsorted(labels, y)
    for optimum in solve_logreg_path(features(x, y, train.classes), VALUES):
        model, theirs = make_logreg(optimum), fit(x, own, optimum.c)
        np.testing.assert_array_equal(model.predict(x), theirs.predict(x))
        np.testing.assert_allclose(model.predict_proba(x), theirs.predict_proba(x), atol=2e-4)
        if len(labels) > 2:
            reached = loss(optimum.weight.astype(np.float64), optimum.bias, x, own, optimum.c)
            assert reached <= loss(theirs.coef_, theirs.intercept_, x, own, optimum.c) * (1 + 1e-6)


def test_the_lambda_of_a_c_and_back():
    """Of two classes it is twice as large: scikit-learn has one row of weights there."""
    assert logreg_weight_decay(0.5, 100, 3) == pytest.approx(0.02)
    assert logreg_weight_decay(0.5, 100, 2) == pytest.approx(0.04)
    for classes in (2, 3):
        assert logreg_c(logreg_weight_decay(0.5, 100, classes), 100, classes) == pytest.approx(0.5)
