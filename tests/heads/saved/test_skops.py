"""A model file from anybody: unpacked in bounded memory, held to itself before it answers, or refused."""

import io
import json
import os
import resource
import struct
import warnings
import zipfile

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import RadiusNeighborsClassifier
from sklearn.svm import SVC
from skops.io import dumps

from featcache.heads.classifiers import ModelOutput
from featcache.heads.classifiers.estimators import Estimator
from featcache.heads.saved import RefusedModelError, classifier_files
from featcache.heads.saved.skops import estimator_file, own_models
from tests.heads.saved.mutations import CLASSES, FEATURES, fitted, members, packed

PRESENT = np.arange(0, 6, 2)


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """Nobody's list of own models but the test's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/featcache/fitted-models"


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.standard_normal((60, FEATURES)).astype(np.float32)
    x[np.arange(60), y] += 3
    return x, y


@pytest.fixture(scope="module")
def svc(points):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `probability`
        return SVC(probability=True, random_state=0).fit(*points)


def read(data, present=PRESENT, features=FEATURES):
    return estimator_file.estimator_from_bytes(data, present, CLASSES, features)


@pytest.mark.parametrize("classes", [2, 3])
def test_every_classifier_that_is_kept_can_be_checked_and_answers_as_before(classes, own_state):
    """Bit for bit, without the list of own models, whatever its settings."""
    tried = set()
    for name, settings, model, x in fitted(classes):
        present = np.arange(classes) * 2
        before = Estimator(model, present, CLASSES).predict(x)
        after = read(estimator_file.estimator_to_bytes(Estimator(model, present, CLASSES)), present).predict(x)
        assert after.predicted.tolist() == before.predicted.tolist(), (name, settings)
        if before.probabilities is not None:
            np.testing.assert_array_equal(after.probabilities, before.probabilities, err_msg=f"{name} {settings}")
        tried.add(name)
    assert len(tried) >= 30
    assert not own_state.exists()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_dual_coef_", np.zeros((2, 1))), ("support_", np.zeros(1, np.int32)), ("_intercept_", np.zeros(1)),
        ("_n_support", np.array([400_000, 0, 0], np.int32)), ("_n_support", np.array([-5, 5, 5], np.int32)),
        ("support_vectors_", np.zeros((400_000, FEATURES))), ("_probA", np.zeros(1)), ("_probB", np.zeros(0)),
        ("kernel", "precomputed"), ("_sparse", True), ("_gamma", np.nan), ("classes_", np.arange(400)),
        ("n_features_in_", 7), ("predict", 3), ("_impl", "one_class"),
    ],
)  # fmt: skip
def test_a_support_vector_machine_that_does_not_fit_itself_is_refused(svc, attribute, value):
    """Libsvm reads what the lengths say and looks at nothing: each is held to the others."""
    broken = dumps_with(svc, attribute, value)
    with pytest.raises(RefusedModelError):
        read(broken)


def dumps_with(model, name, value):
    """The file of a model that has another value under this name."""
    before = vars(model).get(name, model)
    vars(model)[name] = value
    try:
        return dumps(model)
    finally:
        if before is model:
            del vars(model)[name]
        else:
            vars(model)[name] = before


def test_a_model_of_another_width_is_refused(points):
    """A model belongs to embeddings of its own width; exit 3 where the store's are others."""
    data = dumps(LogisticRegression().fit(*points))
    with pytest.raises(RefusedModelError, match="takes 6 features"):
        read(data, features=8)


def schema_of(data, change):
    parts = members(data)
    schema = json.loads(parts["schema.json"])
    change(schema)
    return packed({**parts, "schema.json": json.dumps(schema).encode()})


def zipped(parts, *, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return out.getvalue()


def npy(header):
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def hostile(kind, good):
    """A file of this kind, made from a good one."""
    parts = members(good)
    name = next(name for name in parts if name.endswith(".npy"))
    schema = parts["schema.json"]
    match kind:
        case "deflated" | "bzip2" | "lzma":
            method = {"deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}[kind]
            return zipped([*parts.items(), ("1.npy", bytes(1 << 24))], compression=method)
        case "named twice":
            with pytest.warns(UserWarning, match="Duplicate"):
                return zipped([*parts.items(), ("schema.json", schema)])
        case "absolute" | "parent" | "nested":
            return zipped([*parts.items(), ({"absolute": "/1.npy", "parent": "../1.npy"}.get(kind, "1.zip"), b"x")])
        case "members":
            return good + b"PK\x01\x02" * 200_000
        case "spaces":
            return packed({**parts, "schema.json": schema + b" " * (1 << 27)})
        case "values":
            return packed({**parts, "schema.json": b"[" + b"[]," * (1 << 22) + b"[]]"})
        case "depth":
            return packed({**parts, "schema.json": b"[" * 100_000 + b"]" * 100_000})
        case "huge array":
            header = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 8), }")
            return packed({**parts, name: header})
        case "endless number":
            return packed(
                {**parts, name: npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 40 + ",), }")}
            )
        case "objects":
            return packed({**parts, name: npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + bytes(8)})
        case "header":
            return packed({**parts, name: npy("(" * 100)})
        case "overlap":
            at = good.rindex(b"PK\x01\x02")
            return good[: at + 42] + struct.pack("<I", 0) + good[at + 46 :]
        case "size":
            at = good.rindex(b"PK\x01\x02")
            return good[: at + 20] + struct.pack("<II", 1 << 31, 1 << 31) + good[at + 28 :]
        case "encrypted":
            at = good.rindex(b"PK\x01\x02")
            return good[: at + 8] + struct.pack("<H", 1) + good[at + 10 :]
        case "local header":
            at = good.index(b"PK\x03\x04")
            return good[: at + 8] + struct.pack("<H", 8) + good[at + 10 :]
    raise AssertionError(kind)


KINDS = (
    "deflated", "bzip2", "lzma", "named twice", "absolute", "parent", "nested", "members", "spaces", "values", "depth",
    "huge array", "endless number", "objects", "header", "overlap", "size", "encrypted", "local header",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_archive_is_refused_in_bounded_memory(svc, kind):
    """Bombs, lies about sizes, names and members: one clear refusal, and less than 700 MiB."""
    data = hostile(kind, dumps(svc))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RefusedModelError):
        read(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700 << 10


def test_one_array_under_many_names_is_refused(svc):
    """A small file whose arrays are meant a thousand times over is endless work: refused."""

    def repeat(schema):
        content = schema["content"]["content"]
        array = content["support_vectors_"]
        many = [{**array, "__id__": 10**15 + number} for number in range(5000)]
        content["more"] = {**content["shape_fit_"], "__id__": 10**16, "content": many}

    with pytest.raises(RefusedModelError, match="more often"):
        read(schema_of(dumps(svc), repeat))


def test_an_object_in_two_places_is_refused(points):
    """Objects that hold each other, or stand in many places, mean more work than their file is long."""

    def cycle(schema):
        schema["content"]["content"]["coef_"] = {"__id__": schema["__id__"]}

    with pytest.raises(RefusedModelError, match="holds itself"):
        read(schema_of(dumps(LogisticRegression().fit(*points)), cycle))


@pytest.fixture
def exotic(points):
    """A classifier that is kept, and that no table can check."""
    model = RadiusNeighborsClassifier(algorithm="brute", radius=100).fit(*points)
    return Estimator(model, PRESENT, CLASSES)


def test_what_this_user_fitted_here_is_read_though_it_cannot_be_checked(exotic, points, own_state):
    """Its sha256 stands in the user's own folder; any other bytes are refused, with the way out."""
    data = estimator_file.estimator_to_bytes(exotic)
    assert own_state.stat().st_mode & 0o777 == 0o600
    after = read(data).predict(points[0])
    np.testing.assert_array_equal(after.probabilities, exotic.predict(points[0]).probabilities)
    estimator_file.estimator_to_bytes(exotic)  # other bytes: skops names members by address
    own_state.unlink()
    with pytest.raises(RefusedModelError, match="only on the machine, and by the user, that fitted it"):
        read(data)


def test_a_list_that_others_can_write_to_says_nothing(exotic, own_state):
    """Else anybody on the machine could have any model read."""
    data = estimator_file.estimator_to_bytes(exotic)
    own_state.chmod(0o666)
    assert not own_models.is_known("ab" * 32)
    with pytest.raises(RefusedModelError, match="cannot be checked"):
        read(data)


def test_without_a_folder_of_the_users_own_the_model_is_not_kept(exotic, own_state, monkeypatch, tmp_path):
    """A home that cannot be written: the fit says so and keeps the predictions alone."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(RefusedModelError, match="cannot be noted"):
        estimator_file.estimator_to_bytes(exotic)


def test_a_link_in_the_place_of_the_list_is_not_followed(exotic, own_state, tmp_path):
    """Nor is a pipe waited for."""
    own_state.parent.mkdir(parents=True)
    os.mkfifo(own_state)
    with pytest.raises(RefusedModelError, match="cannot be noted"):
        estimator_file.estimator_to_bytes(exotic)
    own_state.unlink()
    own_state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedModelError, match="cannot be noted"):
        estimator_file.estimator_to_bytes(exotic)
    assert not (tmp_path / "elsewhere").exists()


def predictions(predicted, probabilities):
    return classifier_files.output_to_bytes(ModelOutput(predicted, probabilities))


def tensors_file(header, body=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff" * 64, struct.pack("<Q", 1 << 60) + b"{}", tensors_file({}),
        tensors_file({"predicted": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}, bytes(6)),
        tensors_file({"predicted": {"dtype": "I32", "shape": [1 << 40], "data_offsets": [0, 12]}}, bytes(12)),
        tensors_file({f"t{number}": {"dtype": "I32", "shape": [0], "data_offsets": [0, 0]} for number in range(9999)}),
        predictions(np.zeros(4, np.int64), None), predictions(np.full(3, 9), None),
        predictions(np.full(3, -1), None), predictions(np.zeros(3, np.int64), np.zeros((3, 8))),
        predictions(np.zeros(3, np.int64), np.full((3, 7), np.nan)),
    ],
)  # fmt: skip
def test_predictions_of_another_make_are_refused(data):
    """Headers that lie, other types, rows, classes and values: one refusal."""
    with pytest.raises(RefusedModelError):
        classifier_files.output_from_bytes(data, 3, 7)
    with pytest.raises(RefusedModelError):
        classifier_files.ridge_from_bytes(data, 7)
