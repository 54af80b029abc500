"""Published protocols: what is tried, that scikit-learn chooses the same, and what is refused."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import featcache
from featcache import CacheError, UsageError
from featcache.heads.classifiers.classifier import ModelOutput, score_output
from featcache.heads.classifiers.protocols import LOGREG_C, knn_choices, search_logreg_path
from featcache.heads.classifiers.trials import SearchOptions, SearchTrial, best_trial
from tests.builders import clusters, record_clusters
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.mark.parametrize("seed", [0, 1])
def test_scikit_learn_chooses_the_same_c_and_predicts_the_same(seed):
    """45 fits of LogisticRegression, scored on the same val: the same C is best, and every answer on val the same."""
    train, val = clusters(seed, 150), clusters(seed + 10, 120)
    result = search_logreg_path(train, val, {"C": LOGREG_C}, SearchOptions())
    newton = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 1_000}
    models = [LogisticRegression(C=c, **newton).fit(train.x.astype(float), train.y) for c in LOGREG_C]
    outputs = [ModelOutput(model.predict(val.x), model.predict_proba(val.x).astype(np.float32)) for model in models]
    theirs = [
        SearchTrial(settings={"C": c}, val=score_output(output, val.y, 3), seconds=0)
        for c, output in zip(LOGREG_C, outputs, strict=True)
    ]
    assert [trial.settings["C"] for trial in result.trials] == list(LOGREG_C)
    assert result.best == best_trial(theirs)
    np.testing.assert_array_equal(result.on_val.predicted, outputs[result.best].predicted)
    np.testing.assert_array_equal(result.classifier.predict(val.x).predicted, outputs[result.best].predicted)


def test_45_values_from_1e_6_to_1e5_evenly_spaced():
    """As DINOv2's linspace(-6, 5, 45), to four digits."""
    assert len(LOGREG_C) == 45
    np.testing.assert_allclose(np.log10(LOGREG_C), np.linspace(-6, 5, 45), atol=1e-4)


def test_the_kept_classifier_answers_as_it_was_fitted(tmp_path):
    """It is kept as any logreg, with 45 trials; `evaluate` of it has the score on val that chose it."""
    record_clusters(tmp_path, "train", "val")
    where = {"data": "/data/toy", "cache": tmp_path}
    fitted = featcache.fit("logreg", protocol="dinov2", **where)
    assert len(fitted.trials) == 45
    assert fitted.best.settings["protocol"] == "dinov2"
    again = featcache.evaluate(fitted.best.name, split="val", **where)
    assert again.macro_recall == pytest.approx(fitted.best.val.macro_recall)
    assert not any("goes further" in note for note in fitted.notes)


def test_knn_leaves_out_what_there_are_too_few_rows_for(tmp_path):
    """They are 10, 20, 100 and 200 with temperature 0.07; of 30 training rows 10 and 20, and a note says so."""
    assert knn_choices(1_000)[0] == {"k": (10, 20, 100, 200), "temperature": (0.07,)}
    record_clusters(tmp_path, "train", "val")
    fitted = featcache.fit("knn", protocol="dinov2", data="/data/toy", cache=tmp_path)
    assert [trial.settings["k"] for trial in fitted.trials] == [10, 20]
    assert "--protocol dinov2: k 100 and 200 left out, train has 30 rows" in fitted.notes
    assert knn_choices(5)[0]["k"] == (5,)


def test_what_a_protocol_is_not_is_one_sentence(tmp_path, run):
    """Another protocol, another classifier, settings beside it, jobs; no val to choose by."""
    record_clusters(tmp_path, "train", "val")
    where = {"data": "/data/toy", "cache": tmp_path}
    with pytest.raises(UsageError, match="--protocol: found 'dino', expected dinov2"):
        featcache.fit("logreg", protocol="dino", **where)
    with pytest.raises(UsageError, match="has logreg and knn, found ridge"):
        featcache.fit("ridge", protocol="dinov2", **where)
    with pytest.raises(UsageError, match="states all settings of logreg, and C was given"):
        featcache.fit("logreg", {"C": 1.0}, protocol="dinov2", **where)
    with pytest.raises(UsageError, match="--jobs has no effect"):
        featcache.fit("logreg", protocol="dinov2", jobs=2, **where)
    record_clusters(tmp_path / "one", "train")
    with pytest.raises(CacheError, match="a choice among 45 combinations of settings needs a val split"):
        featcache.fit("logreg", protocol="dinov2", data="/data/toy", cache=tmp_path / "one")
    shown = run("fit", "logreg", "--protocol", "dinov2", "--data", where["data"], "--cache", tmp_path)
    assert shown.code == 0, shown.err
    assert "45 combinations of settings" in shown.out
