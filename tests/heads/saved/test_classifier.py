"""Classifiers on disk: read back as they were, refused when they are not, and nothing in them is executed."""

import hashlib
import json
import pickle
import shutil
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors
from skops.io import dumps

import featcache
from featcache.errors import CacheError
from featcache.files.sealed import seal_document, unseal_document
from featcache.heads.fit_classifier import fit
from featcache.heads.saved import classifier_folder, read_temperature
from featcache.heads.saved.classifier import SavedClassifier
from featcache.heads.saved.skops import estimator_file
from featcache.store.store import FeatureStore
from tests.builders import record_clusters

FOREST = "sklearn.ensemble:RandomForestClassifier"
BOOSTING = "sklearn.ensemble:HistGradientBoostingClassifier"
ALL = {
    "knn": {"k": [1, 3]},
    "ridge": {},
    "logreg": {"C": [0.1, 10]},
    "lda": {},
    "centroid": {},
    "linear-svm": {},
    "mlp": {"hidden_layer_sizes": [(4,)], "max_iter": 5},
    "sklearn.svm:SVC": {"probability": False, "class_weight": "balanced"},
    "sklearn.naive_bayes:GaussianNB": {},
    FOREST: {"n_estimators": 3},
    BOOSTING: {"max_iter": 3},
}


def fitted(cache: Path, name: str, **options) -> SavedClassifier:
    means = {"device": "cpu"} if name in ("knn", "ridge") else {"jobs": 1}  # each refuses what it does not use
    return fit(name, ALL.get(name, {}), data="/data/toy", cache=cache, **means, **options).best


def load(cache: Path, split: str):
    return featcache.load(split, data="/data/toy", cache=cache)


@pytest.mark.parametrize("name", ALL)
def test_a_classifier_comes_back_as_it_was_kept(tmp_path, name):
    """The same answers on a split that it never saw, the same settings, trials, scores and sources."""
    store = record_clusters(tmp_path, "train", "val", "test")
    made = fitted(tmp_path, name)
    found = classifier_folder.load_classifier(made.folder, store)
    test = load(tmp_path, "test")
    before, after = made.classifier.predict(test.x), found.predict(test)
    assert after.predicted.tolist() == before.predicted.tolist()
    if before.probabilities is not None:
        np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-6)
    assert dict(found.settings) == dict(made.settings)
    assert [(trial.settings, trial.notes) for trial in found.trials] == [(t.settings, t.notes) for t in made.trials]
    assert (found.val.macro_recall, found.classes, found.sources) == (made.val.macro_recall, made.classes, made.sources)


def test_what_it_came_from_is_written_beside_it(tmp_path):
    """Listing, trunk spec in full, settings, versions; and the same fit again writes the same folder."""
    store = record_clusters(tmp_path, "train", "val")
    made = fitted(tmp_path, "logreg")
    document = json.loads((made.folder / classifier_folder.DOCUMENT).read_bytes())
    assert document["sources"]["train"]["listing"] == store.listings[("toy", "all", "train")].sha256
    assert document["trunk"] == json.loads(json.dumps(store.trunk.spec.to_json()))
    assert {"featcache", "numpy", "scikit-learn", "skops"} <= set(document["versions"])
    assert document["settings"]["C"] in (0.1, 10)
    assert fitted(tmp_path, "logreg").folder == made.folder
    assert fit("logreg", {"C": 10.0}, data="/data/toy", cache=tmp_path).best.folder != made.folder


def test_no_file_of_a_classifier_is_pickle(tmp_path):
    """Whatever is kept is JSON, safetensors, or skops's archive of JSON and plain arrays."""
    record_clusters(tmp_path, "train", "val")
    for name in ALL:
        for path in fitted(tmp_path, name).folder.iterdir():
            data = path.read_bytes()
            with pytest.raises(Exception):  # noqa: B017, PT011 (whatever pickle says of what is none)
                pickle.loads(data)
            if path.suffix == ".skops":
                names = zipfile.ZipFile(BytesIO(data)).namelist()
                assert {Path(name).suffix for name in names} <= {".json", ".npy"}


def _predict(folder, store, val):
    classifier_folder.load_classifier(folder, store).predict(val)
    read_temperature(folder)


@pytest.mark.parametrize("name", ["knn", "ridge", FOREST])
def test_a_flipped_byte_is_refused(tmp_path, name):
    """No byte of any file changes without an error that says to fit it again, or names what is damaged."""
    store = record_clusters(tmp_path, "train", "val")
    made = fitted(tmp_path, name)
    val = load(tmp_path, "val")
    for path in made.folder.iterdir():
        whole = path.read_bytes()
        path.chmod(0o644)
        for place in range(0, len(whole), max(1, len(whole) // 12)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(CacheError):
                _predict(made.folder, store, val)
        path.write_bytes(whole)
    classifier_folder.load_classifier(made.folder, store).predict(val)


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> dict[str, tuple[SavedClassifier, FeatureStore]]:
    """A logreg and a ridge that were fitted once."""
    found = {}
    for name in ("logreg", "ridge"):
        cache = tmp_path_factory.mktemp("cache")
        store = record_clusters(cache, "train", "val")
        found[name] = fit(name, {}, data="/data/toy", cache=cache).best, store
    return found


def copy(made: SavedClassifier, to: Path) -> SavedClassifier:
    """The same classifier in a folder that a test may spoil."""
    shutil.copytree(made.folder, to / made.name)
    for path in (to / made.name).iterdir():
        path.chmod(0o644)
    return replace(made, folder=to / made.name)


def rewrite(made: SavedClassifier, data: bytes | None = None, **changes: object) -> None:
    """The same folder with other content, its checksums put right: what a stranger could hand over."""
    document = unseal_document((made.folder / classifier_folder.DOCUMENT).read_bytes())
    document.update(changes)
    if data is not None:
        (made.folder / document["model"]["file"]).write_bytes(data)
        document["model"]["sha256"] = hashlib.sha256(data).hexdigest()
    (made.folder / classifier_folder.DOCUMENT).write_bytes(seal_document(document))


class Canary:
    def __reduce__(self):
        return (Path("/tmp/canary-of-classifiers").touch, ())


class Stranger:
    """A type that skops writes and that nobody here trusts."""

    n_features_in_ = 6
    classes_ = (0, 1, 2)

    def __setstate__(self, state):
        Path("/tmp/canary-of-classifiers").touch()

    def __getstate__(self):
        return {"a": 1}

    def predict(self, x):
        raise AssertionError


def evil_import(folder: Path) -> bytes:
    """An archive that names a module whose import leaves a mark."""
    (folder / "evil_module.py").write_text("import pathlib; pathlib.Path('/tmp/canary-of-classifiers').touch()\n")
    data = dumps(Stranger())
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(Stranger.__module__.encode(), b"evil_module"))
    return out.getvalue()


KINDS = ("pickle", "garbage", "empty", "a foreign type", "a module to import", "no classifier")


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_model_is_refused_and_nothing_is_executed(tmp_path, once, monkeypatch, kind):
    """With checksums put right: an error, exit 3; and the canary lives."""
    from sklearn.preprocessing import StandardScaler

    canary = Path("/tmp/canary-of-classifiers")
    canary.unlink(missing_ok=True)
    monkeypatch.syspath_prepend(tmp_path)
    made, store = once["logreg"]
    made = copy(made, tmp_path / "copy")
    data = {
        "pickle": pickle.dumps(Canary()),
        "garbage": b"\xff" * 200,
        "empty": b"",
        "a foreign type": dumps(Stranger()),
        "a module to import": evil_import(tmp_path),
        "no classifier": dumps(StandardScaler().fit([[1.0], [2.0]])),
    }[kind]
    rewrite(made, data)
    with pytest.raises(CacheError):
        classifier_folder.load_classifier(made.folder, store)
    assert not canary.exists()
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("name", [FOREST, BOOSTING])
def test_a_tree_that_leads_out_of_itself_is_refused(tmp_path, name):
    """scikit-learn follows a tree's nodes unchecked: one that points beyond its end, or back, is an error, no crash."""
    store = record_clusters(tmp_path, "train", "val")
    made = fitted(tmp_path, name)
    model = made.classifier.model
    classifier_folder.load_classifier(made.folder, store)
    if name == FOREST:
        state = model.estimators_[1].tree_.__getstate__()
        state["nodes"]["left_child"][0] = 10**6
        model.estimators_[1].tree_.__setstate__(state)
    else:
        nodes = model._predictors[0][0].nodes
        nodes["is_leaf"][0], nodes["left"][0] = 0, 10**6
    rewrite(made, dumps(model))
    with pytest.raises(CacheError, match="lies outside"):
        classifier_folder.load_classifier(made.folder, store)


W = np.ones((3, 6), np.float32)


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": W},
        {"weight": W, "bias": W[:, 0], "present": np.array([0, 1, 3])},
        {"weight": W, "bias": W[:, 0], "present": np.array([2, 1, 0])},
        {"weight": W, "bias": W[:2, 0], "present": np.arange(3)},
        {"weight": W.astype(np.float64), "bias": W[:, 0], "present": np.arange(3)},
    ],
)
def test_a_ridge_of_another_make_is_refused(tmp_path, once, tensors):
    """Missing tensors, classes that there are not, other shapes and dtypes: exit 3."""
    made, store = once["ridge"]
    made = copy(made, tmp_path / "copy")
    rewrite(made, save_tensors(tensors))
    with pytest.raises(CacheError):
        classifier_folder.load_classifier(made.folder, store)


@pytest.mark.parametrize("key", ["name", "classes", "settings", "trials", "sources", "model", "predictions", "present"])
@pytest.mark.parametrize("value", [3, ["x"]])
def test_a_sealed_document_of_another_make_is_refused(tmp_path, once, key, value):
    """A key of another type is an error of the cache, never a crash."""
    made, store = once["logreg"]
    made = copy(made, tmp_path / "copy")
    rewrite(made, **{key: value})
    with pytest.raises(CacheError):
        classifier_folder.load_classifier(made.folder, store)


def test_features_of_another_trunk_are_refused(tmp_path):
    """Their width may fit; their meaning does not. Kept predictions and models refuse alike."""
    store = record_clusters(tmp_path, "train", "val", "test")
    record_clusters(tmp_path, "train", "val", "test", weights="cd")
    made = fit("ridge", data="/data/toy", cache=tmp_path, store=store.name).best
    other = next(found for found in tmp_path.glob("stores/*") if found.name != store.name).name
    for split in ("val", "test"):
        with pytest.raises(CacheError, match="of trunk"):
            made.predict(featcache.load(split, data="/data/toy", cache=tmp_path, store=other))


def test_a_model_that_cannot_be_kept_leaves_its_predictions(tmp_path, monkeypatch):
    """A class of another package: val is answered from what is kept, test is an error that says how to keep it."""
    (tmp_path / "ofmine2.py").write_text(
        "from sklearn.naive_bayes import GaussianNB\nclass Mine(GaussianNB):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    store = record_clusters(tmp_path / "cache", "train", "val", "test")
    made = fitted(tmp_path / "cache", "ofmine2:Mine", foreign=True)
    found = classifier_folder.load_classifier(made.folder, store)
    assert found.classifier is None
    assert "ofmine2.Mine" in found.without_model
    assert len(found.predict(load(tmp_path / "cache", "val")).predicted) == 30
    with pytest.raises(CacheError, match="--predict test"):
        found.predict(load(tmp_path / "cache", "test"))
    again = fitted(tmp_path / "cache", "ofmine2:Mine", foreign=True, predict=["test"])
    kept = classifier_folder.load_classifier(again.folder, store)
    assert len(kept.predict(load(tmp_path / "cache", "test")).predicted) == 30


def test_every_trusted_type_is_scikit_learns():
    """The list beyond skops's own holds nothing of any other package."""
    assert all(name.startswith("sklearn.") for name in estimator_file.TRUSTED)
