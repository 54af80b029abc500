"""Heads on disk: one folder a head, below the store that it was trained on; no pickle anywhere.

    stores/<store>/heads/<data set>/<variant>/<head>/          head.safetensors, head.json, history.csv

head.json is published last and holds the sha256 of head.safetensors: a folder without it is no head. A head's
folder is named by its settings, its trunk and its listings; training it again writes the same bytes.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save as save_tensors

from featcache.errors import CacheError, UsageError
from featcache.features import Features, Streamed
from featcache.files import (
    FORMAT,
    MAX_HISTORY_BYTES,
    make_folder,
    publish,
    read_cache_file,
    read_tensors,
    seal_document,
)
from featcache.heads import EpochRow, HeadConfig, LinearHead, Scores
from featcache.heads.saved.documents import HEAD, HeadDocument, ScoresDocument
from featcache.store import FeatureStore

if TYPE_CHECKING:
    from featcache.heads.optimum import Check

DOCUMENT = "head.json"
HISTORY = "history.csv"
_SCORES = ("loss", "accuracy", "macro_recall")
_COLUMNS = ("epoch", *(f"{split}_{score}" for split in ("train", "val") for score in _SCORES))


@dataclass(frozen=True, slots=True, eq=False)
class SavedHead:
    """A head with what it came from."""

    name: str
    folder: Path
    head: LinearHead  # its history is in history.csv
    classes: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]  # "train" and, where it was used, "val": see Features.source


def head_folder(store: FeatureStore, data_set: str, variant: str) -> Path:
    """Where the heads of a data set stand."""
    return store.root / "heads" / data_set / variant


def save_head(store: FeatureStore, head: LinearHead, train: Features | Streamed, val: Features | None) -> SavedHead:
    """Write one head's folder.

    Raises:
        MachineError: the disk refuses.
    """
    sources = {"train": train.source} | ({"val": val.source} if val is not None else {})
    name = name_of(head.config, sources)
    folder = head_folder(store, train.source["data_set"], train.source["variant"]) / name
    tensors = save_tensors({"weight": np.ascontiguousarray(head.weight), "bias": np.ascontiguousarray(head.bias)})
    history = _history(head.history)
    document = {
        "format": FORMAT,
        "name": name,
        "config": asdict(head.config),
        "classes": train.classes,
        "steps": head.steps,
        "train": scores_json(head.train),
        "val": scores_json(head.val),
        "best_epoch": head.best_epoch,
        "sources": sources,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "history_sha256": hashlib.sha256(history).hexdigest(),
        "versions": {name: version(name) for name in ("featcache", "torch", "numpy")},
    }
    make_folder(folder)
    publish(folder / "head.safetensors", tensors, replace=True)
    publish(folder / HISTORY, history, replace=True)
    publish(folder / DOCUMENT, seal_document(document), replace=True)
    return SavedHead(name, folder, head, train.classes, sources)


def load_head(folder: Path) -> SavedHead:
    """Read one head's folder. Nothing in it is executed.

    Raises:
        CacheError: no head, a damaged one, or one of a newer format.
    """
    document = describe(folder)
    tensors = read_tensors(folder / "head.safetensors", document.sha256, way_out=HEAD.way_out)
    try:
        head = LinearHead(
            config=HeadConfig(**document.config),  # type: ignore[arg-type]  # which checks every setting
            weight=tensors.take("weight", np.float32, 2),
            bias=tensors.take("bias", np.float32, 1),
            steps=document.steps,
            history=(),
            train=scores_of(document.train) or Scores(math.nan, math.nan, math.nan),
            val=scores_of(document.val),
            best_epoch=document.best_epoch,
        )
    except (UsageError, TypeError, ValueError) as error:
        raise CacheError(f"{folder}: this is no head that this version reads: {error}") from None
    if len(document.classes) != len(head.weight):
        raise CacheError(f"{folder}: {len(document.classes)} class names for {len(head.weight)} outputs")
    return SavedHead(document.name, folder, head, tuple(document.classes), document.sources)


def describe(folder: Path) -> HeadDocument:
    """Return what head.json says; the weights are not read.

    Raises:
        CacheError: no head, a damaged head.json, or one of a newer format.
    """
    document = HEAD.read(folder / DOCUMENT)
    if document.name != folder.name:
        raise CacheError(f"{folder}: this is no head that this version reads: its name is {document.name!r}")
    return document


def name_of(config: HeadConfig, sources: Mapping[str, Mapping[str, str]]) -> str:
    """The settings in words, and the start of a hash over them, the trunk and the listings."""
    parts = {"config": config.changed, "sources": {split: dict(source) for split, source in sources.items()}}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{config.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read_history(folder: Path) -> dict[str, tuple[float, ...]]:
    """Return history.csv, column by column: "epoch", "train_loss", … "val_macro_recall"; nan where a cell is empty.

    A file that is missing, damaged or none of ours gives no columns: a report does without its curves.
    """
    try:
        return load_history(folder)
    except CacheError:
        return {}


def load_history(folder: Path) -> dict[str, tuple[float, ...]]:
    """Return history.csv, as `read_history`.

    Raises:
        CacheError: it, or head.json, is missing or damaged, or it is no history of a head.
    """
    path, expected = folder / HISTORY, describe(folder).history_sha256
    try:
        data = read_cache_file(path, MAX_HISTORY_BYTES)
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}; {HEAD.way_out}") from None
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise CacheError(f"{path}: damaged: its sha256 is another; {HEAD.way_out}")
    try:
        names, *rows = list(csv.reader(io.StringIO(data.decode())))
        if names != list(_COLUMNS):
            raise ValueError("other columns")
        columns = {
            name: tuple(float(cell) if cell else math.nan for cell in column)
            for name, column in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True)
        }
        if not all(1 <= epoch < 2**31 and epoch.is_integer() for epoch in columns["epoch"]):
            raise ValueError("an epoch is no whole number")
    except (ValueError, csv.Error):
        raise CacheError(f"{path}: damaged: this is no history of a head; {HEAD.way_out}") from None
    return columns


def library_versions(folder: Path) -> dict[str, str]:
    """Return what a head was trained with: package -> version; empty where head.json does not say."""
    try:
        return describe(folder).versions
    except CacheError:
        return {}


def check_json(check: "Check") -> dict[str, Any]:
    """A check as plain values; what is not finite is null."""
    return {
        "objective": finite(check.objective),
        "head_objective": finite(check.head_objective),
        "gap": finite(check.gap),
        "gap_share": finite(check.gap_share),
        "gradient_norm": finite(check.gradient_norm),
        "weight_decay": check.weight_decay,
        "converged": check.converged,
        "separable": check.separable,
        "iterations": check.iterations,
        "seconds": round(check.seconds, 3),
        "train": scores_json(check.train),
        "val": scores_json(check.val),
        "tried": [asdict(trial) for trial in check.tried],
        "sentence": check.sentence(),
    }


def scores_json(scores: Scores | None) -> dict[str, float | None] | None:
    """Scores as plain values; what is not finite is null."""
    return None if scores is None else {name: finite(value) for name, value in asdict(scores).items()}


def finite(value: float) -> float | None:
    """JSON knows no nan and no inf."""
    return float(value) if math.isfinite(value) else None


def scores_of(document: ScoresDocument | None) -> Scores | None:
    """The inverse of `scores_json`; null is nan."""
    if document is None:
        return None
    values = (document.accuracy, document.macro_recall, document.loss)
    return Scores(*(math.nan if value is None else value for value in values))


def _history(history: Sequence[EpochRow]) -> bytes:
    """history.csv: one row an epoch; val columns are empty where there was no val split."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for row in history:
        values = [getattr(split, score) if split else "" for split in (row.train, row.val) for score in _SCORES]
        table.writerow([row.epoch, *values])
    return text.getvalue().encode()
