"""Models of `featcache fit` on several labels or numbers, as a store keeps them, beside the heads of the same log.

    stores/<store>/heads/<data set>/<variant>/<name>/
        targets.json          settings, every combination that was tried, scores, thresholds, sources, versions; sealed
        model.safetensors     a linear map: weight and bias; k-NN: digests and values of its rows, which the store holds

targets.json is published last and holds the sha256 of the other: a folder without it is no such model.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from featcache.errors import CacheError, UsageError
from featcache.features import Features
from featcache.files import FORMAT, Tensors, check_file_hash, read_tensors
from featcache.heads import KeptTargets, truth_of
from featcache.heads.classifiers import KnnTargets, LinearTargets, TargetModel, TargetSearchResult, check_knn
from featcache.heads.saved.classifier_folder import classifier_name, settings_from_document, trial_to_json, trials_of
from featcache.heads.saved.documents import (
    TARGET_MODEL,
    TargetModelDocument,
    scores_from_document,
    scores_to_json,
)
from featcache.heads.saved.fitted_targets import FittedTargets
from featcache.heads.saved.folders import heads_folder, installed_versions, publish_model
from featcache.heads.saved.model import ModelKind
from featcache.store import FeatureStore

DOCUMENT, TENSORS = "targets.json", "model.safetensors"
_PACKAGES = ("featcache", "numpy", "scikit-learn", "torch")


def save_target_model(
    store: FeatureStore, kind: str, result: TargetSearchResult, train: Features, val: Features | None, seconds: float
) -> FittedTargets:
    """Return a model as it is kept, once its folder is written.

    Args:
        store: The store that it was fitted on.
        kind: "knn", "ridge" or "logreg".
        result: The combinations that were tried, and the best one, fitted.
        train: The split that it was fitted on.
        val: The split that chose among the combinations; None where there was none.
        seconds: How long the search took.

    Raises:
        MachineError: the disk refuses.
    """
    assert train.targets is not None  # noqa: S101 (it was fitted to them)
    best, specs = result.trials[result.best], [part.trunk.spec.to_json() for part in store.parts]
    sources = {"train": train.source} | ({"val": val.source} if val is not None else {})
    name = classifier_name(kind, best.settings, result.trials, sources)
    tensors = save_tensors(_tensors_of(result.model, train))
    saved = FittedTargets(
        name=name,
        folder=heads_folder(store, train.source["data_set"], train.source["variant"]) / name,
        kind=kind,
        target_kind=train.targets.kind,
        settings=best.settings,
        trials=result.trials,
        classes=train.classes,
        train=result.train,
        val=best.val,
        seconds=seconds,
        sources=sources,
        model=result.model,
        kept_targets=result.kept,
        versions=installed_versions(_PACKAGES),
    )
    document = {
        "format": FORMAT,
        "name": name,
        "classifier": kind,
        "targets": saved.target_kind,
        "settings": saved.settings,
        "trials": [trial_to_json(trial) for trial in saved.trials],
        "best": result.best,
        "classes": saved.classes,
        "train": scores_to_json(saved.train),
        "val": scores_to_json(saved.val),
        "seconds": round(seconds, 3),
        **({"trunk": specs[0]} if len(specs) == 1 else {"trunks": specs}),
        "sources": sources,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "thresholds": list(result.kept.thresholds),
        "deviation": list(result.kept.deviation),
        "versions": saved.versions,
    }
    publish_model(saved.folder, {TENSORS: tensors}, DOCUMENT, document)
    return saved


def _tensors_of(model: TargetModel, train: Features) -> dict[str, Any]:
    if isinstance(model, LinearTargets):
        return {"weight": np.ascontiguousarray(model.weight), "bias": model.bias}
    return {"digests": np.ascontiguousarray(train.digests), "values": np.ascontiguousarray(truth_of(train))}


def load_target_model(folder: Path, store: FeatureStore, device: str = "cpu") -> FittedTargets:
    """Return the model of a folder. Nothing in the folder is executed.

    Args:
        folder: The model's folder.
        store: The store that it was fitted on; k-NN reads its rows from there.
        device: Where k-NN compares rows.

    Raises:
        CacheError: none, a damaged one, or one of a newer format.
    """
    document = _read_document(folder)
    saved = _from_document(folder, document)
    tensors = read_tensors(folder / TENSORS, document.sha256, way_out=TARGET_MODEL.way_out)
    try:
        model = _read_knn(saved, tensors, store, device) if saved.kind == "knn" else _read_linear(saved, tensors)
    except (KeyError, TypeError, UsageError, ValueError) as error:
        raise CacheError(f"{folder}: this model cannot be read by this version: {error}") from None
    return replace(saved, model=model)


def _read_linear(saved: FittedTargets, tensors: Tensors) -> LinearTargets:
    """Return the linear map of these tensors.

    Raises:
        ValueError: they are of other shapes or types, or not finite.
    """
    weight, bias = tensors.take("weight", np.float32, 2), tensors.take("bias", np.float32, 1)
    if len(weight) != len(saved.classes) or len(bias) != len(weight):
        raise ValueError(f"weight {weight.shape} and bias {bias.shape} for {len(saved.classes)} outputs")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError("its weights are not finite")
    return LinearTargets(weight, bias)


def _read_knn(saved: FittedTargets, tensors: Tensors, store: FeatureStore, device: str) -> KnnTargets:
    """Return the k-NN of these rows, which the store holds.

    Raises:
        ValueError: they are of other shapes or types, or not finite.
        UsageError: a setting is out of its range.
        CacheError: the store lacks a row.
    """
    digests, values = tensors.take("digests", np.uint8, 2), tensors.take("values", np.float64, 2)
    if digests.shape != (len(values), 32) or values.shape[1] != len(saved.classes) or not len(values):
        raise ValueError(f"digests {digests.shape} and values {values.shape} for {len(saved.classes)} outputs")
    if not np.isfinite(values).all():
        raise ValueError("its values are not finite")
    settings = check_knn(len(values), **dict(saved.settings))
    return KnnTargets(store.load(digests), values, saved.target_kind, *settings, device)


def describe_target_model(folder: Path) -> FittedTargets:
    """Return the model of a folder without its tensors: cheap, however many rows it has.

    Raises:
        CacheError: none, a damaged one, or one of a newer format.
    """
    return _from_document(folder, _read_document(folder))


def check_target_model(folder: Path) -> None:
    """Hold the files of a model against its document.

    Raises:
        CacheError: none, a damaged one, or one of a newer format.
    """
    check_file_hash(folder / TENSORS, _read_document(folder).sha256, way_out=TARGET_MODEL.way_out)


def _read_document(folder: Path) -> TargetModelDocument:
    document = TARGET_MODEL.read(folder / DOCUMENT)
    if document.name != folder.name:
        raise CacheError(f"{folder}: this model cannot be read by this version: its name is {document.name!r}")
    return document


def _from_document(folder: Path, document: TargetModelDocument) -> FittedTargets:
    return FittedTargets(
        name=document.name,
        folder=folder,
        kind=document.classifier,
        target_kind=document.targets,
        settings=settings_from_document(document.settings),
        trials=trials_of(document.trials),
        classes=tuple(document.classes),
        train=scores_from_document(document.train),
        val=scores_from_document(document.val),
        seconds=document.seconds,
        sources=document.sources,
        model=None,
        kept_targets=KeptTargets(tuple(document.thresholds), tuple(document.deviation)),
        versions=document.versions,
    )


KIND: ModelKind = ModelKind(
    document=DOCUMENT, load=load_target_model, describe=describe_target_model, check=check_target_model
)
