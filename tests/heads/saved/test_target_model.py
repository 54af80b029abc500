"""Models of several labels or numbers on disk: what was fitted is what is read, compared, reported and exported."""

import json

import numpy as np
import pytest
import torch

import featcache
from featcache import CacheError, UsageError
from featcache.dataset import DatasetRequest
from featcache.files import seal_document
from featcache.heads.saved import FittedTargets, load_model, read_temperature, verify_heads
from featcache.prediction.head_module import make_head_module
from tests.conftest import single_thread
from tests.target_rows import record_targets, type_in_process

one_thread = pytest.fixture(autouse=True)(single_thread)
typed = pytest.fixture(type_in_process)
CASES = [("knn", "labels"), ("logreg", "labels"), ("knn", "value"), ("ridge", "value")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, tmp_path_factory):
    """A fitted model, and the options of its data set."""
    classifier, kind = request.param
    where = record_targets(tmp_path_factory.mktemp("models"), kind, people=4)
    return featcache.fit(classifier, device="cpu", **where), where


def test_what_is_read_answers_as_what_was_fitted(case):
    """To the bit; the report has its scores, and compare lists it beside a head, best first."""
    fitted, where = case
    best, request = fitted.best, DatasetRequest(**where)
    read = load_model(best.folder, request.store_of("train"))
    assert isinstance(read, FittedTargets)
    val = featcache.load("val", **where)
    np.testing.assert_array_equal(read.predict_targets(val.x), best.predict_targets(val.x))
    assert read.kept_targets == best.kept_targets
    head = featcache.fit_head(1e-5, epochs=1, batch_size=16, device="cpu", **where).best
    evaluation = featcache.evaluate_targets(best.name, split="val", **where)
    assert evaluation.metrics == pytest.approx(dict(best.val.metrics))
    ranked = sorted((best, head), key=lambda saved: -saved.val.figure(saved.val.chief))
    assert featcache.evaluate_targets(**where).head == ranked[0].name
    table = featcache.compare(split="val", **where)
    assert [row.name for row in table.heads] == [saved.name for saved in ranked]
    for row, saved in zip(table.heads, ranked, strict=True):
        assert row.scores.metrics == pytest.approx(dict(saved.val.metrics))
    pair = featcache.evaluate_target_pair(best.name, head.name, **where)
    assert pair.first.head == best.name
    assert fitted.to_json()["targets"] == read.target_kind


def test_a_linear_one_is_the_last_layer_of_a_network(case):
    """Its outputs are the model's, by the temperature of labels; k-NN is none."""
    fitted, where = case
    kept = read_temperature(fitted.best.folder)
    assert (kept is not None) == (fitted.best.target_kind == "labels")
    module = make_head_module(fitted.best, None if kept is None else kept.value)
    if fitted.best.kind == "knn":
        assert module is None
        return
    test = featcache.load("test", **where)
    outputs = module.module(torch.from_numpy(test.x)).numpy()
    answers = 1 / (1 + np.exp(-outputs)) if fitted.best.target_kind == "labels" else outputs
    predictions = featcache.evaluate_targets(fitted.best.name, **where).predictions
    np.testing.assert_allclose(answers, predictions.answers, rtol=1e-4, atol=1e-5)


def test_a_damaged_or_odd_one_is_refused(case, tmp_path):
    """Another byte in the tensors, and a document that says what cannot be, under a right checksum."""
    fitted, where = case
    folder, store = fitted.best.folder, DatasetRequest(**where).store_of("train")
    document, tensors = (folder / "targets.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    try:
        (folder / "model.safetensors").write_bytes(tensors[:-1] + bytes([tensors[-1] ^ 1]))
        problems = []
        verify_heads(store.root, problems, [])
        assert [problem.where for problem in problems] == [str(folder)]
        with pytest.raises(CacheError, match="fit the model again"):
            load_model(folder, store)
        (folder / "model.safetensors").write_bytes(tensors)
        content = json.loads(document)
        for name, value in (("classifier", "svm"), ("targets", "label"), ("classes", ["one"]), ("best", 99),
                            ("settings", {}), ("name", "other")):  # fmt: skip
            changed = {key: part for key, part in content.items() if key != "sum"}
            changed[name] = value
            (folder / "targets.json").write_bytes(seal_document(changed))
            if name == "settings" and content["classifier"] != "knn":
                continue
            with pytest.raises(CacheError):
                load_model(folder, store)
    finally:
        (folder / "targets.json").write_bytes(document)
        (folder / "model.safetensors").write_bytes(tensors)


def test_the_command_prints_the_targets_metric_and_refuses_what_is_of_classes(case, typed):
    """Best first, and the report comes next; --predict, --jobs and --protocol are one sentence each."""
    fitted, where = case
    words = ["fit", fitted.best.kind, "--pipeline", where["pipeline"], "--cache", where["cache"]]
    told = typed(*words)
    assert told.code == 0, told.err
    name = "mean average precision" if fitted.best.target_kind == "labels" else "R2"
    assert f"* best by {name} on val" in told.out
    assert told.out.splitlines()[-1].startswith("next: featcache report ")
    for flag, value in (("--predict", "test"), ("--jobs", "2"), ("--protocol", "dinov2")):
        refused = typed(*words, flag, value)
        assert (refused.code, f"{flag} has no effect with targets = " in refused.err) == (2, True)


def test_a_model_that_cannot_learn_the_targets_is_refused_before_anything_is_read(tmp_path):
    """Its name is enough."""
    where = record_targets(tmp_path, "labels")
    with pytest.raises(UsageError, match="fit ridge: several labels a row are learnt by knn and logreg"):
        featcache.fit("ridge", **where)
