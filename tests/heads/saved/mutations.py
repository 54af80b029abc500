"""Random damage to model files, tried in a process of its own, because what is to be ruled out would end it.

    python -m tests.heads.saved.mutations SEED COUNT

Each of COUNT files is refused, or it answers (rows,) labels of its own classes; the process ends with 0.
"""

import io
import json
import random
import sys
import warnings
import zipfile

import numpy as np
from sklearn.utils import all_estimators
from skops.io import dumps

from featcache.heads.saved import RefusedModelError
from featcache.heads.saved.skops import estimator_file

FEATURES, ROWS, CLASSES = 6, 48, 7
SETTINGS = {
    "AdaBoostClassifier": [{"n_estimators": 3}],
    "BaggingClassifier": [{"n_estimators": 3, "max_features": 0.5}],
    "CalibratedClassifierCV": [{"cv": 2}, {"cv": 2, "method": "isotonic"}, {"ensemble": False}],
    "DummyClassifier": [{}, {"strategy": "constant", "constant": 1}],
    "ExtraTreesClassifier": [{"n_estimators": 3}],
    "GaussianProcessClassifier": [{}],
    "GradientBoostingClassifier": [{"n_estimators": 2}, {"n_estimators": 2, "init": "zero", "subsample": 0.5}],
    "HistGradientBoostingClassifier": [{"max_iter": 2, "min_samples_leaf": 3}, {"max_iter": 2, "early_stopping": True}],
    "KNeighborsClassifier": [{"algorithm": "brute"}, {"algorithm": "brute", "weights": "distance"}],
    "LinearDiscriminantAnalysis": [{}, {"solver": "lsqr", "shrinkage": "auto"}, {"solver": "eigen"}],
    "LinearSVC": [{}, {"fit_intercept": False}],
    "LogisticRegressionCV": [{"cv": 2, "Cs": 2}],
    "MLPClassifier": [
        {"hidden_layer_sizes": (5, 4), "max_iter": 3, "early_stopping": True}, {"solver": "lbfgs", "max_iter": 3},
        {"solver": "sgd", "max_iter": 3},
    ],
    "NearestCentroid": [{}, {"metric": "manhattan"}],
    "RandomForestClassifier": [{"n_estimators": 3, "oob_score": True}],
    "RidgeClassifierCV": [{"alphas": (0.1, 1.0), "store_cv_results": True}],
    "SGDClassifier": [{}, {"loss": "log_loss", "average": True}],
    "SVC": [{}, {"probability": True}, {"kernel": "poly"}],
}  # fmt: skip
PLAIN = (
    "-1", "0", "1", "2", "7", "1000000000", "null", "true", "false", "NaN", "-Infinity", "0.5", '"rbf"',
    '"precomputed"', '"zero"', '"constant"', '"cosine"', '""',
)  # fmt: skip
NOT_KEPT = ("KNeighborsClassifier", "LabelSpreading", "RadiusNeighborsClassifier")  # with a tree or a graph


def fitted(classes=3, seed=0):
    """(name, settings, model, x) of every classifier of scikit-learn that needs no other estimator and is kept."""
    rng = np.random.default_rng(seed)
    y = np.arange(ROWS) % classes
    x = np.abs(rng.standard_normal((ROWS, FEATURES))).astype(np.float32)
    x[np.arange(ROWS), y] += 3
    for name, found in all_estimators("classifier"):
        for settings in SETTINGS.get(name, [{}]):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model = found(**settings).fit(x, y)
            except (TypeError, ValueError):  # it wants another estimator
                continue
            try:
                estimator_file._check_types(dumps(model))
            except RefusedModelError:
                assert name in NOT_KEPT
                continue
            yield name, settings, model, x


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def damaged(data, rng):
    """The same file with one array or one plain value in it changed."""
    parts = members(data)
    arrays = [name for name in parts if name.endswith(".npy")]
    if arrays and rng.random() < 0.7:
        name = rng.choice(arrays)
        out = io.BytesIO()
        np.save(out, changed(np.load(io.BytesIO(parts[name])), rng))
        return packed({**parts, name: out.getvalue()})
    schema = json.loads(parts["schema.json"])
    plain = []

    def walk(node):
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(value)
        if isinstance(node, dict) and node.get("__loader__") == "JsonNode":
            plain.append(node)

    walk(schema)
    node = rng.choice(plain)
    node["content"] = rng.choice(PLAIN)
    node["__id__"] = rng.randrange(1, 1 << 40)
    return packed({**parts, "schema.json": json.dumps(schema).encode()})


def changed(array, rng):
    kind = rng.randrange(8)
    if array.dtype.names and kind > 1 and array.size:
        name = rng.choice(array.dtype.names)
        array[name].ravel()[rng.randrange(array.size)] = rng.choice([0, 1, 2, 100, 255])
        if array[name].dtype.kind == "i":
            array[name].ravel()[rng.randrange(array.size)] = rng.choice([-2, -1, 1 << 40, -(1 << 40)])
        return array
    if kind == 0:
        return array[..., : max(0, array.shape[-1] - 1)] if array.ndim else array
    if kind == 1:
        return np.concatenate([array, array]) if array.ndim else np.stack([array, array])
    if kind == 2:
        return array.astype(rng.choice(["f4", "f8", "i4", "i8", "u1", "U8", "?", "c16"]))
    if kind == 3:
        return np.zeros(rng.choice([(0,), (1,), (1, 1), (0, 6), (400_000, 6), (2, 3, 4), ()]), array.dtype)
    if kind == 4:
        return array.T if array.ndim > 1 else array.reshape(-1, 1)
    if array.size:
        values = [np.nan, np.inf, -np.inf, 1e300] if array.dtype.kind == "f" else [-1, 3, 100, 2**31 - 1, -(2**31)]
        with np.errstate(all="ignore"):
            flat = array.reshape(-1).copy()
            flat[rng.randrange(array.size)] = np.array(rng.choice(values)).astype(array.dtype)
            array = flat.reshape(array.shape)
    return array


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()  # what was tried last is to be seen after a crash


def main(seed, count):
    warnings.simplefilter("ignore")
    rng = random.Random(seed)
    known = [(name, settings, dumps(model), x) for name, settings, model, x in fitted()]
    refused = 0
    for number in range(count):
        name, settings, data, x = known[number % len(known)]
        present = np.arange(0, 6, 2)
        data = damaged(data, rng)
        say(f"{number} {name} {settings}: ")
        try:
            estimator = estimator_file.estimator_from_bytes(data, present, CLASSES, FEATURES)
        except RefusedModelError as error:
            refused += 1
            say(f"{error}"[:100] + "\n")
            continue
        answers = estimator.predict(x)
        assert answers.predicted.shape == (len(x),)
        assert set(answers.predicted.tolist()) <= set(present.tolist())
        say("answers\n")
    say(f"refused {refused} of {count}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
