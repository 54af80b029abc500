"""A classifier's model and its predictions as the bytes of a file, and back; every tensor is held to what it must be.

k-NN keeps the digests and labels of its rows, whose embeddings the store holds; ridge its linear map; both as
safetensors. scikit-learn's estimators are files of skops: see `skops`.
"""

import math
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from featcache.features import Features
from featcache.files import parse_tensors
from featcache.heads.classifiers import (
    WEIGHTS,
    Classifier,
    ClassifierSettings,
    FunctionClassifier,
    Knn,
    Labels,
    ModelOutput,
    Ridge,
)
from featcache.heads.saved.model import RefusedModelError
from featcache.heads.saved.skops import check_present, check_width, estimator_from_bytes, estimator_to_bytes
from featcache.store import FeatureStore

TENSORS, SKOPS = MODEL_FILES = ("model.safetensors", "model.skops")


def model_to_file(store: FeatureStore, classifier: Classifier, train: Features) -> tuple[str, bytes | None, str]:
    """Return the name of a model's file and its bytes; or no bytes, and why the model cannot be kept."""
    if isinstance(classifier, Knn):
        return TENSORS, knn_to_bytes(store, train), ""
    if isinstance(classifier, Ridge):
        return TENSORS, ridge_to_bytes(classifier), ""
    if isinstance(classifier, FunctionClassifier):
        return "", None, "it is a function of Python"
    try:
        return SKOPS, estimator_to_bytes(classifier), ""  # type: ignore[arg-type]
    except RefusedModelError as error:
        return "", None, str(error)


def read_model(
    data: bytes, file: str, kind: str, settings: ClassifierSettings, present: Labels, classes: int,
    store: FeatureStore, device: str,
) -> Classifier:  # fmt: skip
    """Return the model that `model_to_file` wrote.

    Args:
        data: The bytes of the file, whose sha256 was checked.
        file: The name of the file, one of MODEL_FILES.
        kind: The classifier's name or import path.
        settings: Its settings, as its document has them.
        present: The classes (some,) that have training rows, rising.
        classes: How many classes the data set has.
        store: The store that it was fitted on.
        device: Where k-NN compares rows.

    Raises:
        RefusedModelError: it contradicts itself, its document or the store.
        CacheError: k-NN's rows are not in the store.
    """
    if file == SKOPS:
        return estimator_from_bytes(data, present, classes, store.dim)
    if kind == "ridge":
        return ridge_from_bytes(data, classes, store.dim)
    if kind == "knn":
        return knn_from_bytes(data, settings, classes, store, device)
    raise RefusedModelError(f"its classifier is {kind!r} and its file {file!r}")


def knn_to_bytes(store: FeatureStore, train: Features) -> bytes:
    """Return the digests (rows, 32) uint8 and the labels (rows,) int32 of the training rows."""
    extracted = store.listing((train.source["data_set"], train.source["variant"], train.split))
    digests = extracted.digests[extracted.embedded]
    tensors: dict[str, Any] = {"digests": np.ascontiguousarray(digests), "labels": train.y.astype(np.int32)}
    return save_tensors(tensors)


def knn_from_bytes(
    data: bytes, settings: ClassifierSettings, classes: int, store: FeatureStore, device: str
) -> Knn:  # fmt: skip
    """Return the k-NN of these rows, which the store holds, and settings.

    Raises:
        RefusedModelError: other tensors, labels outside the classes, or a setting out of its range.
        CacheError: the store lacks a row.
    """
    tensors = parse_tensors(data)
    digests, labels = tensors["digests"], tensors["labels"].astype(np.int64)
    if digests.dtype != np.uint8 or digests.shape != (len(labels), 32) or labels.ndim != 1:
        raise RefusedModelError(f"digests are {digests.dtype} {digests.shape}, labels {labels.shape}")
    if not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise RefusedModelError("a label lies outside the classes")
    k, temperature, weights = settings["k"], settings["temperature"], settings["weights"]
    if type(k) is not int or not 1 <= k <= len(labels):
        raise RefusedModelError(f"k is {k!r} for {len(labels)} rows")
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:  # type: ignore[operator]
        raise RefusedModelError(f"temperature is {temperature!r}, expected a number above 0")
    if weights not in WEIGHTS:
        raise RefusedModelError(f"weights is {weights!r}, expected {' or '.join(WEIGHTS)}")
    return Knn(store.load(digests), labels, classes, k, float(temperature), str(weights), device)  # type: ignore[arg-type]


def ridge_to_bytes(ridge: Ridge) -> bytes:
    """Return weight (present classes, dim) and bias (present classes,) float32, and the present classes."""
    return save_tensors({"weight": np.ascontiguousarray(ridge.weight), "bias": ridge.bias, "present": ridge.present})


def ridge_from_bytes(data: bytes, classes: int, width: int | None = None) -> Ridge:
    """Return the ridge that `ridge_to_bytes` wrote; `width` is that of the embeddings that it will be asked about.

    Raises:
        RefusedModelError: other tensors, shapes or dtypes, or values that are not finite.
    """
    tensors = _parse(data)
    if set(tensors) != {"weight", "bias", "present"}:
        raise RefusedModelError(f"its tensors are {', '.join(sorted(tensors))}, expected weight, bias and present")
    weight, bias, present = tensors["weight"], tensors["bias"], tensors["present"]
    if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise RefusedModelError(f"weight is {weight.dtype} {weight.shape}, bias {bias.dtype} {bias.shape}")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise RefusedModelError("its weights are not finite")
    check_width(weight.shape[1], width)
    check_present(present, len(weight), classes)
    return Ridge(weight, bias, present)


def output_to_bytes(output: ModelOutput) -> bytes:
    """Return predicted (rows,) int32 and, where there are some, probabilities (rows, classes) float32."""
    tensors: dict[str, Any] = {"predicted": output.predicted.astype(np.int32)}
    if output.probabilities is not None:
        tensors["probabilities"] = np.ascontiguousarray(output.probabilities, dtype=np.float32)
    return save_tensors(tensors)


def output_from_bytes(data: bytes, rows: int, classes: int) -> ModelOutput:
    """Return the predictions that `output_to_bytes` wrote of a split of so many rows and classes.

    Raises:
        RefusedModelError: other tensors, shapes or dtypes, labels outside the classes, or probabilities that are not
            finite.
    """
    tensors = _parse(data)
    if not {"predicted"} <= set(tensors) <= {"predicted", "probabilities"}:
        raise RefusedModelError(f"its tensors are {', '.join(sorted(tensors))}, expected predicted and probabilities")
    predicted, probabilities = tensors["predicted"], tensors.get("probabilities")
    if predicted.shape != (rows,) or predicted.dtype != np.int32:
        raise RefusedModelError(f"its predictions are {predicted.dtype} {predicted.shape}, expected int32 ({rows},)")
    if not 0 <= predicted.min(initial=0) <= predicted.max(initial=0) < classes:
        raise RefusedModelError(f"a prediction lies outside the {classes} classes")
    if probabilities is not None:
        if probabilities.shape != (rows, classes) or probabilities.dtype != np.float32:
            raise RefusedModelError(f"probabilities are {probabilities.dtype} {probabilities.shape}")
        if not np.isfinite(probabilities).all():
            raise RefusedModelError("its probabilities are not all numbers")
    return ModelOutput(predicted.astype(np.int64), probabilities)


def predictions_file(split: str) -> str:
    """Return the name of the file that keeps the predictions on a split."""
    return f"predictions-{split}.safetensors"


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return parse_tensors(data)
    except ValueError as error:
        raise RefusedModelError(str(error)) from None
