"""scikit-learn's classifiers by name and by path; whose code a recipe may run; what is kept and read back."""

import sys
import textwrap
from dataclasses import astuple

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from featcache.errors import CacheError, UsageError
from featcache.heads.classifiers import estimators
from featcache.heads.classifiers.trials import SearchOptions
from featcache.recipe import SHORT_NAMES
from tests.builders import clusters


def search(name, train, val, choices, foreign=False, **means):
    return estimators.search_estimators(name, train, val, choices, SearchOptions(**means), foreign=foreign)


@pytest.mark.parametrize("name", sorted(SHORT_NAMES))
def test_every_short_name_learns(name):
    """Each beats chance by far on clusters, and knows which class an answer is where one has no training rows."""
    train, val = clusters(0, 120, classes=4, absent=1), clusters(1, 150, classes=4, absent=1)
    found = search(name, train, val, {})
    assert found.trials[found.best].val.macro_recall > 0.7
    answer = found.classifier.predict(val.x)
    assert set(answer.predicted.tolist()) <= {0, 2, 3}
    if answer.probabilities is not None:
        np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-5)
        assert (answer.probabilities[:, 1] == 0).all()


def test_answers_are_the_estimators_own():
    """Predictions are `predict`, probabilities `predict_proba`; a classifier without them has no loss."""
    train, val = clusters(2), clusters(3, 40)
    found = search("logreg", train, val, {"C": (0.5,)})
    theirs = LogisticRegression(C=0.5, max_iter=1000).fit(train.x, train.y)
    np.testing.assert_allclose(found.classifier.predict(val.x).probabilities, theirs.predict_proba(val.x), atol=1e-5)
    svm = search("sklearn.svm:SVC", train, val, {"C": (10,)})
    assert svm.classifier.predict(val.x).predicted.tolist() == SVC(C=10).fit(train.x, train.y).predict(val.x).tolist()
    assert np.isnan(svm.trials[0].val.loss)


def test_the_best_combination_is_kept_whatever_finishes_first(monkeypatch):
    """In processes or here: the same trials in the same order, the same best, and the model that belongs to it."""
    train, val = clusters(4), clusters(5, 90)
    choices = {"C": (1e-4, 1.0), "gamma": (1e-3, 0.1)}
    here = search("sklearn.svm:SVC", train, val, choices)
    monkeypatch.setattr(estimators, "PROCESS_SECONDS", 0.0)
    there = search("sklearn.svm:SVC", train, val, choices, jobs=2)
    assert [trial.settings for trial in here.trials] == [trial.settings for trial in there.trials]
    for one, other in zip(here.trials, there.trials, strict=True):
        np.testing.assert_equal(astuple(one.val), astuple(other.val))  # a loss of nan is one too
    assert here.best == there.best
    model = there.classifier.model
    assert {"C": model.C, "gamma": model.gamma} == {key: here.trials[here.best].settings[key] for key in choices}


def test_complaints_of_a_solver_are_notes():
    """A ConvergenceWarning is neither an error nor lost: it stands beside the combination that it is about."""
    found = search("logreg", clusters(6), None, {"max_iter": (1,)})
    assert "ConvergenceWarning" in found.trials[0].notes[0]
    assert "max_iter=1" in found.trials[0].notes[0]


@pytest.mark.parametrize(
    ("name", "choices", "words"),
    [
        ("svm", {}, "linear-svm"), ("sklearn.svm.SVC", {}, "sklearn.svm:SVC"),
        ("sklearn.svm:SVMC", {}, "did you mean SVC"),
        ("sklearn.svm:SVR", {}, "regressor"), ("sklearn.preprocessing:StandardScaler", {}, "fit and predict"),
        ("os:system", {}, "scikit-learn"), ("sklearn.utils._testing:ignore_warnings", {}, "public"),
        ("sklearn.tests.test_base:MyEstimator", {}, "public"), ("sklearn.externals.array_api_compat:X", {}, "public"),
        ("logreg", {"c": (1,)}, "it has"), ("logreg", {"C": (-1,)}, "C is -1, expected a number above 0"),
        ("sklearn.ensemble:VotingClassifier", {}, "cannot be made"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_error(name, choices, words):
    """An unknown name, another package, a regressor, a setting that the class lacks or refuses: exit code 2."""
    with pytest.raises(UsageError, match=words):
        search(name, clusters(0), None, choices)


def test_a_choice_needs_val():
    """Several combinations without a val split are exit 3, before anything is fitted."""
    with pytest.raises(CacheError, match="featcache extract --split val"):
        search("logreg", clusters(0), None, {"C": (1, 2)})


def test_other_packages_are_for_the_command_line_alone(tmp_path, monkeypatch):
    """Without `foreign` a package is not even imported; with it, it fits, and gets labels without gaps."""
    (tmp_path / "ofmine.py").write_text(
        textwrap.dedent(
            """
            import pathlib, numpy
            pathlib.Path(__file__).with_name("imported").touch()
            class Constant:
                def __init__(self, **settings): self.settings = settings
                def fit(self, x, y): self.most = numpy.bincount(y).argmax(); assert set(y) == {0, 1}
                def predict(self, x): return numpy.full(len(x), self.most)
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    train = clusters(7, 40, classes=3, absent=1)
    with pytest.raises(UsageError, match="scikit-learn"):
        search("ofmine:Constant", train, None, {"a": (1,)})
    assert not (tmp_path / "imported").exists()
    found = search("ofmine:Constant", train, None, {"a": (1,)}, foreign=True)
    assert found.classifier.model.settings == {"a": 1}
    assert set(found.classifier.predict(train.x).predicted.tolist()) <= {0, 2}
    sys.modules.pop("ofmine", None)


def test_logistic_regression_without_a_c_tries_several():
    """Where val can choose; one that is given is all that is tried, and without val the class's own default holds."""
    train, val = clusters(0), clusters(1)
    assert [trial.settings["C"] for trial in search("logreg", train, val, {}).trials] == list(estimators.LOGREG_C)
    assert [trial.settings["C"] for trial in search("logreg", train, val, {"C": (0.5,)}).trials] == [0.5]
    (alone,) = search("logreg", train, None, {}).trials
    assert "C" not in alone.settings
