"""Classifiers on disk, beside the linear heads of the same store and in the same log.

    stores/<store>/heads/<data set>/<variant>/<name>/
        classifier.json               settings, every combination that was tried, scores, sources, versions; sealed
        model.safetensors             ridge: one linear map; k-NN: digests and labels of its rows, which the store holds
        model.skops                   scikit-learn's
        predictions-<split>.safetensors

classifier.json is published last and holds the sha256 of the others: a folder without it is no classifier. What cannot
be read back without running code of another package has no model, only its predictions.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from featcache.errors import CacheError
from featcache.features import Features
from featcache.files import (
    FORMAT,
    check_file_hash,
    make_folder,
    parse_tensors,
    publish,
    read_hashed_file,
    seal_document,
)
from featcache.heads import Scores
from featcache.heads.classifiers import (
    WEIGHTS,
    Answers,
    Classifier,
    Found,
    Knn,
    Ridge,
    Settings,
    Trial,
    frozen,
    text_of,
)
from featcache.heads.saved import linear
from featcache.heads.saved.documents import CLASSIFIER, ClassifierDocument, ModelDocument
from featcache.heads.saved.skops import (
    RefusedError,
    answers_bytes,
    answers_of,
    estimator_bytes,
    estimator_of,
    ridge_bytes,
    ridge_of,
)
from featcache.store import FeatureStore

DOCUMENT = "classifier.json"
_UNNAMED = ("random_state", "weights", "class_weight", "max_iter")  # said by the table; the hash tells them apart
_PACKAGES = ("featcache", "numpy", "scikit-learn", "skops", "torch")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SavedClassifier:
    """A classifier with what it came from; what `SavedHead` is for linear heads."""

    name: str
    folder: Path
    kind: str  # as it was asked for: "knn", "sklearn.svm:SVC"
    settings: Settings
    trials: tuple[Trial, ...]  # every combination that was tried
    classes: tuple[str, ...]
    train: Scores | None
    val: Scores | None
    seconds: float
    sources: Mapping[str, Mapping[str, str]]  # "train" and, where it was used, "val": see Features.source
    classifier: Classifier | None  # None: only its predictions are kept
    without_model: str = ""  # why
    predictions: Mapping[str, Mapping[str, str]]  # by split: the listing's sha256, and the file's
    versions: Mapping[str, str]

    def answer(self, features: Features) -> Answers:
        """Its answers on a split: as they were kept where it is that very listing, else of the model.

        Raises:
            CacheError: features of another trunk, a damaged file, or no model and no predictions.
        """
        refuse_foreign_trunk(self.name, self.sources, features)
        kept = self.predictions.get(features.split)
        if kept is not None and kept["listing"] == features.source["listing"]:
            return _read_answers(self.folder, features, kept["sha256"], len(self.classes))
        if self.classifier is None:
            there = ", ".join(self.predictions) or "none"
            raise CacheError(
                f"{self.name} was kept without its model: {self.without_model}. Its predictions are kept for: {there}. "
                f"`featcache fit {self.kind} --predict {features.split}` keeps those of {features.split!r} too."
            )
        return self.classifier.answer(features.x)


def refuse_foreign_trunk(name: str, sources: Mapping[str, Mapping[str, str]], features: Features) -> None:
    """Embeddings of another trunk mean nothing to a classifier, even where their width is the same.

    Raises:
        CacheError: these are such.
    """
    if sources["train"]["trunk"] != features.source.get("trunk"):
        raise CacheError(
            f"{name} was trained on embeddings of trunk {sources['train']['trunk'][:8]}, these are of trunk "
            f"{features.source.get('trunk', 'unknown')[:8]}; name the store that it belongs to with --store"
        )


def save_classifier(
    store: FeatureStore, kind: str, found: Found, train: Features, val: Features | None,
    answered: Mapping[str, tuple[Features, Answers]], seconds: float,
) -> SavedClassifier:  # fmt: skip
    """Write one classifier's folder; `answered` are the splits whose predictions are kept.

    Raises:
        MachineError: the disk refuses.
    """
    settings = found.trials[found.best].settings
    sources = {"train": train.source} | ({"val": val.source} if val is not None else {})
    name = name_of(kind, settings, found.trials, sources)
    folder = linear.head_folder(store, train.source["data_set"], train.source["variant"]) / name
    model, data, without_model = _model(store, found.classifier, train)
    files = {model: data} if data is not None else {}
    predictions = {}
    for split, (features, answers) in answered.items():
        files[_predictions(split)] = answers_bytes(answers.predicted, answers.probabilities)
        digest = hashlib.sha256(files[_predictions(split)]).hexdigest()
        predictions[split] = {"listing": features.source["listing"], "sha256": digest}
    made = SavedClassifier(
        name=name,
        folder=folder,
        kind=kind,
        settings=settings,
        trials=found.trials,
        classes=train.classes,
        train=found.train,
        val=found.trials[found.best].val,
        seconds=seconds,
        sources=sources,
        classifier=found.classifier if data is not None else None,
        without_model=without_model,
        predictions=predictions,
        versions=_versions(kind),
    )
    document = {
        "format": FORMAT,
        "name": name,
        "classifier": kind,
        "settings": settings,
        "trials": [trial_json(trial) for trial in found.trials],
        "best": found.best,
        "classes": train.classes,
        "present": np.unique(train.y).tolist(),
        "train": linear.scores_json(made.train),
        "val": linear.scores_json(made.val),
        "seconds": round(seconds, 3),
        "trunk": store.trunk.spec.to_json(),
        "sources": sources,
        "model": None if data is None else {"file": model, "sha256": hashlib.sha256(data).hexdigest()},
        "without_model": without_model,
        "predictions": predictions,
        "versions": made.versions,
    }
    make_folder(folder)
    for file, content in files.items():
        publish(folder / file, content, replace=True)
    publish(folder / DOCUMENT, seal_document(document), replace=True)
    return made


def load_classifier(folder: Path, store: FeatureStore, *, device: str = "cpu") -> SavedClassifier:
    """Read one classifier's folder. Nothing in it is executed; k-NN's rows are read from the store.

    Raises:
        CacheError: none, a damaged one, one of a newer format, or one that holds a type that is not trusted.
    """
    document = _document(folder)
    made, model = _described(folder, document), document.model
    if model is None:
        return made
    present = np.array(document.present, dtype=np.int64)
    data = read_hashed_file(_model_path(folder, model), model.sha256, way_out=CLASSIFIER.way_out)
    try:
        return replace(made, classifier=_classifier(made, model.file, data, present, store, device))
    except RefusedError as error:
        raise CacheError(f"{folder}: this classifier is refused: {error}") from None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise CacheError(f"{folder}: this is no classifier that this version reads: {error}") from None


def describe(folder: Path) -> SavedClassifier:
    """What a folder says of its classifier, without its model: cheap, however large that is.

    Raises:
        CacheError: none, a damaged one, or one of a newer format.
    """
    return _described(folder, _document(folder))


def check(folder: Path) -> None:
    """Hold every file of a classifier against its document; no model is read.

    Raises:
        CacheError: none, a damaged one, or one of a newer format.
    """
    document = _document(folder)
    files = [(folder / _predictions(split), kept.sha256) for split, kept in document.predictions.items()]
    if document.model is not None:
        files.append((_model_path(folder, document.model), document.model.sha256))
    for path, sha256 in files:
        check_file_hash(path, sha256, way_out=CLASSIFIER.way_out)


def name_of(
    kind: str, settings: Settings, trials: Sequence[Trial], sources: Mapping[str, Mapping[str, str]]
) -> str:  # fmt: skip
    """The classifier, what was set, and the start of a hash over them, the trunk and the listings."""
    parts = {
        "classifier": kind,
        "settings": settings,
        "tried": [trial.settings for trial in trials],
        "sources": {split: dict(source) for split, source in sources.items()},
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    words = [kind.partition(":")[2].lower() or kind]
    words += [f"{key}{text_of(value)}" for key, value in settings.items() if key not in _UNNAMED and value is not None]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in "-".join(words))[:80]
    return f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def trial_json(trial: Trial) -> dict[str, Any]:
    """One combination as plain values."""
    return {
        "settings": dict(trial.settings),
        "val": linear.scores_json(trial.val),
        "seconds": round(trial.seconds, 3),
        "notes": list(trial.notes),
    }


def _model(store: FeatureStore, classifier: Classifier, train: Features) -> tuple[str, bytes | None, str]:
    """The file's name, its bytes, and why there are none."""
    if isinstance(classifier, Knn):
        extracted = store.listing((train.source["data_set"], train.source["variant"], train.split))
        digests = extracted.digests[extracted.embedded]
        tensors: dict[str, Any] = {"digests": np.ascontiguousarray(digests), "labels": train.y.astype(np.int32)}
        return "model.safetensors", save_tensors(tensors), ""
    if isinstance(classifier, Ridge):
        return "model.safetensors", ridge_bytes(classifier), ""
    try:
        return "model.skops", estimator_bytes(classifier), ""  # type: ignore[arg-type]
    except RefusedError as error:
        return "", None, str(error)


def _classifier(
    made: SavedClassifier, file: str, data: bytes, present: Any, store: FeatureStore, device: str
) -> Classifier:  # fmt: skip
    if file == "model.skops":
        return estimator_of(data, present, len(made.classes), store.dim)
    if made.kind == "ridge":
        return ridge_of(data, len(made.classes), store.dim)
    if made.kind != "knn":
        raise RefusedError(f"its classifier is {made.kind!r} and its file {file!r}")
    tensors = parse_tensors(data)
    digests, labels = tensors["digests"], tensors["labels"].astype(np.int64)
    if digests.dtype != np.uint8 or digests.shape != (len(labels), 32) or labels.ndim != 1:
        raise RefusedError(f"digests are {digests.dtype} {digests.shape}, labels {labels.shape}")
    if not len(labels) or not 0 <= labels.min() <= labels.max() < len(made.classes):
        raise RefusedError("a label lies outside the classes")
    wanted = made.settings
    k, temperature = wanted["k"], wanted["temperature"]
    if type(k) is not int or not 1 <= k <= len(labels):
        raise RefusedError(f"k is {k!r} for {len(labels)} rows")
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:  # type: ignore[operator]
        raise RefusedError(f"temperature is {temperature!r}, expected a number above 0")
    if wanted["weights"] not in WEIGHTS:
        raise RefusedError(f"weights is {wanted['weights']!r}, expected {' or '.join(WEIGHTS)}")
    x = store.load(digests)
    return Knn(x, labels, len(made.classes), k, float(temperature), str(wanted["weights"]), device)  # type: ignore[arg-type]


def _document(folder: Path) -> ClassifierDocument:
    document = CLASSIFIER.read(folder / DOCUMENT)
    if document.name != folder.name:
        raise CacheError(f"{folder}: this is no classifier that this version reads: its name is {document.name!r}")
    return document


def _described(folder: Path, document: ClassifierDocument) -> SavedClassifier:
    return SavedClassifier(
        name=document.name,
        folder=folder,
        kind=document.classifier,
        settings=_settings(document.settings),
        trials=tuple(
            Trial(
                settings=_settings(trial.settings),
                val=linear.scores_of(trial.val),
                seconds=trial.seconds,
                notes=tuple(trial.notes),
            )
            for trial in document.trials
        ),
        classes=tuple(document.classes),
        train=linear.scores_of(document.train),
        val=linear.scores_of(document.val),
        seconds=document.seconds,
        sources=document.sources,
        classifier=None,
        without_model=document.without_model,
        predictions={split: kept.model_dump() for split, kept in document.predictions.items()},
        versions=document.versions,
    )


def _settings(document: Mapping[str, Any]) -> Settings:
    return {key: frozen(value) for key, value in document.items()}  # JSON has no tuples


def _model_path(folder: Path, model: ModelDocument) -> Path:
    if model.file not in ("model.safetensors", "model.skops"):
        raise CacheError(f"{folder}: this classifier is refused: its file is called {model.file!r}")
    return folder / model.file


def _read_answers(folder: Path, features: Features, sha256: str, classes: int) -> Answers:
    path = folder / _predictions(features.split)
    data = read_hashed_file(path, sha256, way_out=CLASSIFIER.way_out)
    try:
        return answers_of(data, len(features.y), classes)
    except RefusedError as error:
        raise CacheError(f"{path}: these are no predictions of this split: {error}; fit the classifier again") from None


def _predictions(split: str) -> str:
    return f"predictions-{split}.safetensors"


def _versions(kind: str) -> dict[str, str]:
    found = {}
    for package in (*_PACKAGES, kind.partition(":")[0].partition(".")[0] if ":" in kind else "featcache"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a module of the user's own
            continue
    return found
