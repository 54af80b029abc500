"""The temperature of a saved model: temperature.json beside its document, which stays as it is.

A model of an earlier version has none, and so has one that was trained without a val split: their probabilities are
those of the model itself. The document names the model's own document by its sha256, so that a temperature is never
taken for that of a model which has replaced another one.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import CacheError
from featcache.features import Features
from featcache.files import FORMAT, publish, read_cache_file, seal_document
from featcache.heads import compute_outputs, truth_of
from featcache.heads.saved.documents import TEMPERATURE, finite_or_none
from featcache.heads.saved.kinds import model_document
from featcache.heads.saved.model import SavedModel, is_function, predicts_targets
from featcache.metrics import apply_temperature, fit_label_temperature, fit_temperature, label_loss, mean_loss
from featcache.recipe import LABELS

FILE = "temperature.json"


@dataclass(frozen=True, slots=True)
class SavedTemperature:
    """What divides a model's logits before their softmax, or the sigmoid of labels, and what it was fitted on."""

    value: float | None  # None: no number is the best one, and the probabilities stay as they are
    rows: int  # of val
    loss_before: float  # of val without it: the mean negative log-likelihood, nats; of labels that of one label
    loss: float  # and with it


def keep_temperature(saved: SavedModel, val: Features | None) -> float | None:
    """Fit a model's temperature on val, and write it beside the model.

    Args:
        saved: a model that was just saved.
        val: the split; None where there is none.

    Returns:
        The temperature; None where no number is the best one, without val, for a model without probabilities (a head
            on numbers, too), and for a function of Python, whose probabilities are its author's.

    Raises:
        MachineError: the disk refuses.
    """
    if val is None or is_function(saved.kind):
        return None
    fitted = _fit_on_labels(saved, val) if val.targets is not None else _fit_on_classes(saved, val)
    if fitted is None:
        return None
    value, before, after = fitted
    document = {
        "format": FORMAT,
        "model_sha256": _model_sha256(saved.folder),
        "temperature": value,
        "rows": len(val.y),
        "loss_before": finite_or_none(before),
        "loss": finite_or_none(after),
    }
    publish(saved.folder / FILE, seal_document(document), replace=True)
    return value


def _fit_on_classes(saved: SavedModel, val: Features) -> tuple[float | None, float, float] | None:
    """Return the temperature of a softmax, and val's loss without and with it; None without probabilities."""
    probabilities = saved.predict(val).probabilities if saved.gives_probabilities else None
    if probabilities is None:
        return None
    value = fit_temperature(probabilities, val.y)
    before = mean_loss(probabilities, val.y)
    return value, before, before if value is None else mean_loss(apply_temperature(probabilities, value), val.y)


def _fit_on_labels(saved: SavedModel, val: Features) -> tuple[float | None, float, float] | None:
    """Return the temperature of the sigmoids, and val's loss without and with it; None of a head on numbers."""
    if not predicts_targets(saved) or saved.target_kind != LABELS or saved.has_diverged:
        return None
    truth, layer = truth_of(val), saved.layer
    if layer is None:
        outputs = saved.predict_targets(val.x, as_answers=False)
    else:  # of one over clips, val has a row for each clip
        outputs = compute_outputs(layer.logits, val.x, truth.shape[1])
    value, before = fit_label_temperature(outputs, truth), label_loss(outputs, truth)
    return value, before, before if value is None else label_loss(outputs / value, truth)


def read_temperature(folder: Path) -> SavedTemperature | None:
    """Return the temperature of a model; None where it has none.

    Args:
        folder: the model's folder; it need not exist.

    Raises:
        CacheError: it is damaged, or of a newer format.
    """
    if not (folder / FILE).exists() and not (folder / FILE).is_symlink():
        return None
    document = TEMPERATURE.read(folder / FILE)
    if document.model_sha256 != _model_sha256(folder):
        return None
    losses = (math.nan if loss is None else loss for loss in (document.loss_before, document.loss))
    return SavedTemperature(document.temperature, document.rows, *losses)


def _model_sha256(folder: Path) -> str:
    path = model_document(folder)
    try:
        return hashlib.sha256(read_cache_file(path)).hexdigest()
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}; train the head again") from None
