"""The temperature that is kept beside a model: written with it, used wherever probabilities are, and never needed."""

import json
import math
import shutil

import numpy as np
import pytest

import featcache
from featcache import CacheError
from featcache.files.sealed import seal_document, unseal_document
from featcache.heads.saved import read_temperature, verify_heads
from featcache.metrics import apply_temperature, mean_loss
from tests.builders import fit_head, record_clusters
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture
def where(tmp_path):
    record_clusters(tmp_path, "train", "val", "test")
    return {"data": "/data/toy", "cache": tmp_path}


def test_every_head_of_a_run_gets_one(tmp_path, where):
    """Each at least as likely on val as without; the JSON of fit-head has the number, and so has the file."""
    fit = fit_head(tmp_path, [0.01, 0.3])
    val = featcache.load("val", **where)
    for saved, entry in zip(fit.heads, fit.to_json()["heads"], strict=True):
        kept = read_temperature(saved.folder)
        p = saved.predict(val).probabilities
        assert kept.value == entry["temperature"] != 1
        assert kept.rows == 30
        assert kept.loss_before == pytest.approx(mean_loss(p, val.y))
        assert kept.loss == pytest.approx(mean_loss(apply_temperature(p, kept.value), val.y))
        assert kept.loss < kept.loss_before


def test_classifiers_with_probabilities_get_one_and_others_none(where):
    """Logreg has one; ridge gives no probabilities, and has none."""
    fitted = featcache.fit("logreg", {"C": 0.01}, **where)
    assert read_temperature(fitted.best.folder).value == fitted.to_json()["temperature"] != 1
    fitted = featcache.fit("ridge", **where)
    assert (read_temperature(fitted.best.folder), fitted.temperature) == (None, None)


def test_the_report_says_both_errors_and_no_prediction_changes(tmp_path, where):
    """A head and the same one without its file, as an earlier version left it: other probabilities, the same matrix."""
    folder = fit_head(tmp_path, 0.01).best.folder
    after, scaled = featcache.evaluate(**where), featcache.predict_split(**where)
    (folder / "temperature.json").unlink()
    before, plain = featcache.evaluate(**where), featcache.predict_split(**where)
    assert before.to_json()["temperature"] is None
    document = after.to_json()
    assert document["temperature"]["ece_before"] == before.calibration.ece != after.calibration.ece
    assert document["temperature"]["ece_before_interval"] == list(before.to_json()["calibration"]["ece_interval"])
    assert after.confusion.tolist() == before.confusion.tolist()
    assert after.intervals == before.intervals
    value = document["temperature"]["value"]
    np.testing.assert_allclose(scaled.probabilities, apply_temperature(plain.probabilities, value))
    json.dumps(document, allow_nan=False)


def test_a_damaged_one_is_named_and_another_models_is_passed_over(tmp_path, where):
    """Reading it is an error that says what to do, which verify finds too; a document about other bytes is no one's."""
    folder = fit_head(tmp_path, 0.01).best.folder
    path = folder / "temperature.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"rows", b"rowz"))
    with pytest.raises(CacheError, match="train the head again"):
        featcache.evaluate(**where)
    problems = []
    verify_heads(folder.parents[3], problems, [])
    assert "temperature.json" in problems[0].message
    document = {**unseal_document(whole), "model_sha256": "0" * 64}
    path.write_bytes(seal_document(document))
    assert read_temperature(folder) is None
    assert featcache.evaluate(**where).temperature is None
    fit_head(tmp_path, 0.01)
    assert path.read_bytes() == whole


def test_without_val_and_where_val_shows_none_the_probabilities_stay(tmp_path, where):
    """No val: no file. A val whose rows are all right and sure: the file says that there is none, and why is shown."""
    fit = fit_head(tmp_path, 3.0, epochs=60)
    val = featcache.load("val", **where)
    right = (fit.best.predict(val).predicted == val.y).all()
    kept = read_temperature(fit.best.folder)
    assert (kept.value is None) == right
    assert not math.isnan(kept.loss)
    shutil.rmtree(tmp_path)
    record_clusters(tmp_path, "train", "test")
    assert read_temperature(fit_head(tmp_path, 0.01).best.folder) is None
