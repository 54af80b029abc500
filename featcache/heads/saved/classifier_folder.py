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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import CacheError
from featcache.features import Features
from featcache.files import FORMAT, check_file_hash, read_hashed_file
from featcache.heads.classifiers import (
    ClassifierSettings,
    ModelOutput,
    SearchResult,
    SearchTrial,
    format_value,
    freeze_value,
)
from featcache.heads.saved.classifier import SavedClassifier
from featcache.heads.saved.classifier_files import (
    MODEL_FILES,
    model_to_file,
    output_to_bytes,
    predictions_file,
    read_model,
)
from featcache.heads.saved.documents import (
    CLASSIFIER,
    ClassifierDocument,
    ModelDocument,
    TrialDocument,
    scores_from_document,
    scores_to_json,
)
from featcache.heads.saved.folders import hashed_name, heads_folder, installed_versions, publish_model
from featcache.heads.saved.model import ModelKind, RefusedModelError
from featcache.store import FeatureStore

DOCUMENT = "classifier.json"
_UNNAMED = ("random_state", "weights", "class_weight", "max_iter")  # shown by the table; the hash tells them apart
_PACKAGES = ("featcache", "numpy", "scikit-learn", "skops", "torch")


def save_classifier(
    store: FeatureStore, kind: str, result: SearchResult, train: Features, val: Features | None,
    outputs: Mapping[str, tuple[Features, ModelOutput]], seconds: float,
) -> SavedClassifier:  # fmt: skip
    """Write the folder of one classifier.

    Args:
        store: The store that it was fitted on.
        kind: The classifier's name or import path, as it was asked for.
        result: The combinations that were tried, and the best one, fitted.
        train: The split that it was fitted on.
        val: The split that chose among the combinations; None where there was none.
        outputs: By split, the splits whose predictions are kept too, with those predictions.
        seconds: How long the search took.

    Returns:
        The classifier as it is kept: without its model where that cannot be written, and then with the reason.

    Raises:
        MachineError: the disk refuses.
    """
    best = result.trials[result.best]
    sources = {"train": train.source} | ({"val": val.source} if val is not None else {})
    name = classifier_name(kind, best.settings, result.trials, sources)
    model, data, without_model = model_to_file(store, result.classifier, train)
    files = {model: data} if data is not None else {}
    predictions, specs = {}, [part.trunk.spec.to_json() for part in store.parts]
    for split, (features, output) in outputs.items():
        files[predictions_file(split)] = output_to_bytes(output)
        sha256 = hashlib.sha256(files[predictions_file(split)]).hexdigest()
        predictions[split] = {"listing": features.source["listing"], "sha256": sha256}
    saved = SavedClassifier(
        name=name,
        folder=heads_folder(store, train.source["data_set"], train.source["variant"]) / name,
        kind=kind,
        settings=best.settings,
        trials=result.trials,
        classes=train.classes,
        train=result.train,
        val=best.val,
        seconds=seconds,
        sources=sources,
        classifier=result.classifier if data is not None else None,
        without_model=without_model,
        predictions=predictions,
        versions=installed_versions((*_PACKAGES, *_package_of(kind))),
    )
    document = {
        "format": FORMAT,
        "name": name,
        "classifier": kind,
        "settings": saved.settings,
        "trials": [trial_to_json(trial) for trial in saved.trials],
        "best": result.best,
        "classes": saved.classes,
        "present": np.unique(train.y).tolist(),
        "train": scores_to_json(saved.train),
        "val": scores_to_json(saved.val),
        "seconds": round(seconds, 3),
        **({"trunk": specs[0]} if len(specs) == 1 else {"trunks": specs}),
        "sources": sources,
        "model": None if data is None else {"file": model, "sha256": hashlib.sha256(data).hexdigest()},
        "without_model": without_model,
        "predictions": predictions,
        "versions": saved.versions,
    }
    publish_model(saved.folder, files, DOCUMENT, document)
    return saved


def load_classifier(folder: Path, store: FeatureStore, device: str = "cpu") -> SavedClassifier:
    """Return the classifier of a folder, with its model. Nothing in the folder is executed.

    Args:
        folder: The classifier's folder.
        store: The store that it was fitted on; k-NN reads its rows from there.
        device: Where k-NN compares rows.

    Raises:
        CacheError: none, a damaged one, one of a newer format, or one that holds a type that is not trusted.
    """
    document = _read_document(folder)
    saved, model = _from_document(folder, document), document.model
    if model is None:
        return saved
    present = np.array(document.present, dtype=np.int64)
    data = read_hashed_file(_model_path(folder, model), model.sha256, way_out=CLASSIFIER.way_out)
    try:
        classifier = read_model(
            data, model.file, saved.kind, saved.settings, present, len(saved.classes), store, device
        )
    except RefusedModelError as error:
        raise CacheError(f"{folder}: this classifier is refused: {error}") from None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise CacheError(f"{folder}: this classifier cannot be read by this version: {error}") from None
    return replace(saved, classifier=classifier)


def describe_classifier(folder: Path) -> SavedClassifier:
    """Return the classifier of a folder without its model: cheap, however large that is.

    Raises:
        CacheError: none, a damaged one, or one of a newer format.
    """
    return _from_document(folder, _read_document(folder))


def check_classifier(folder: Path) -> None:
    """Hold every file of a classifier against its document; no model is read.

    Raises:
        CacheError: none, a damaged one, or one of a newer format.
    """
    document = _read_document(folder)
    files = [(folder / predictions_file(split), kept.sha256) for split, kept in document.predictions.items()]
    if document.model is not None:
        files.append((_model_path(folder, document.model), document.model.sha256))
    for path, sha256 in files:
        check_file_hash(path, sha256, way_out=CLASSIFIER.way_out)


def classifier_name(
    kind: str, settings: ClassifierSettings, trials: Sequence[SearchTrial], sources: Mapping[str, Mapping[str, str]]
) -> str:  # fmt: skip
    """Return a folder's name: the kind, its settings in words, and a hash over them, the trunk and the listings."""
    made_from = {
        "classifier": kind,
        "settings": settings,
        "tried": [trial.settings for trial in trials],
        "sources": {split: dict(source) for split, source in sources.items()},
    }
    words = [kind.partition(":")[2].lower() or kind]
    words += [
        f"{key}{format_value(value)}" for key, value in settings.items() if key not in _UNNAMED and value is not None
    ]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in "-".join(words))[:80]
    return hashed_name(safe, made_from)


def trial_to_json(trial: SearchTrial) -> dict[str, Any]:
    """Return one combination of settings, with its scores, as JSON values.

    Args:
        trial: Of a search; where there was no val split its scores on val are None, and stay None.
    """
    return {
        "settings": dict(trial.settings),
        "val": scores_to_json(trial.val),
        "seconds": round(trial.seconds, 3),
        "notes": list(trial.notes),
    }


def _read_document(folder: Path) -> ClassifierDocument:
    document = CLASSIFIER.read(folder / DOCUMENT)
    if document.name != folder.name:
        raise CacheError(f"{folder}: this classifier cannot be read by this version: its name is {document.name!r}")
    return document


def trials_of(documents: Sequence[TrialDocument]) -> tuple[SearchTrial, ...]:
    """Return the combinations of settings that `trial_to_json` wrote.

    Args:
        documents: One a combination.
    """
    return tuple(
        SearchTrial(
            settings=settings_from_document(trial.settings),
            val=scores_from_document(trial.val),
            seconds=trial.seconds,
            notes=tuple(trial.notes),
        )
        for trial in documents
    )


def _from_document(folder: Path, document: ClassifierDocument) -> SavedClassifier:
    return SavedClassifier(
        name=document.name,
        folder=folder,
        kind=document.classifier,
        settings=settings_from_document(document.settings),
        trials=trials_of(document.trials),
        classes=tuple(document.classes),
        train=scores_from_document(document.train),
        val=scores_from_document(document.val),
        seconds=document.seconds,
        sources=document.sources,
        classifier=None,
        without_model=document.without_model,
        predictions={split: kept.model_dump() for split, kept in document.predictions.items()},
        versions=document.versions,
    )


def settings_from_document(document: Mapping[str, Any]) -> ClassifierSettings:
    """Return settings as a document has them, each list as a tuple.

    Args:
        document: By name.
    """
    return {key: freeze_value(value) for key, value in document.items()}  # JSON has no tuples


def _model_path(folder: Path, model: ModelDocument) -> Path:
    if model.file not in MODEL_FILES:
        raise CacheError(f"{folder}: this classifier is refused: its file is called {model.file!r}")
    return folder / model.file


def _package_of(kind: str) -> list[str]:
    """Return the package that an import path starts with; none for a short name."""
    return [kind.partition(":")[0].partition(".")[0]] if ":" in kind else []


KIND: ModelKind = ModelKind(
    document=DOCUMENT, load=load_classifier, describe=describe_classifier, check=check_classifier
)
