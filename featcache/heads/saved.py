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
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from featcache.errors import CacheError, UsageError
from featcache.features import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import EpochRow, LinearHead, Scores
from featcache.store import FeatureStore
from featcache.store.publish import make_folder, publish
from featcache.store.regular import HEAD, read_regular
from featcache.store.sealed import seal_document, unseal_document
from featcache.streamed import Streamed

if TYPE_CHECKING:
    from featcache.heads.check import (
        Check,
    )  # scikit-learn takes a second to import, and reading a head needs none

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class SavedHead:
    """A head with what it came from."""

    name: str
    folder: Path
    head: LinearHead  # its history is in history.csv
    classes: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]  # "train" and, where it was used, "val": see Features.source


def folder_of(store: FeatureStore, data_set: str, variant: str) -> Path:
    """Where the heads of a data set stand."""
    return store.root / "heads" / data_set / variant


def save(store: FeatureStore, head: LinearHead, train: Features | Streamed, val: Features | None) -> SavedHead:
    """Write one head's folder.

    Raises:
        MachineError: the disk refuses.
    """
    sources = {"train": train.source} | ({"val": val.source} if val is not None else {})
    name = name_of(head.config, sources)
    folder = folder_of(store, train.source["data_set"], train.source["variant"]) / name
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
    publish(folder / "history.csv", history, replace=True)
    publish(folder / "head.json", seal_document(document), replace=True)
    return SavedHead(name, folder, head, train.classes, sources)


def load(folder: Path) -> SavedHead:
    """Read one head's folder. Nothing in it is executed.

    Raises:
        CacheError: no head, a damaged one, or one of a newer format.
    """
    try:
        document = unseal_document(read_regular(folder / "head.json"))
        data = read_regular(folder / "head.safetensors", HEAD)
    except OSError as error:
        raise CacheError(f"{folder}: no head here: {error.strerror}") from None
    if document is None:
        raise CacheError(f"{folder}/head.json: damaged: it does not match its checksum; train the head again")
    if document.get("format") != FORMAT:
        raise CacheError(f"{folder}: a head of format {document.get('format')}, this featcache reads {FORMAT}")
    try:
        if hashlib.sha256(data).hexdigest() != document["sha256"]:
            raise CacheError(f"{folder}/head.safetensors: damaged: its sha256 is another; train the head again")
        tensors = load_tensors(data)
        head = LinearHead(
            config=HeadConfig(**document["config"]),
            weight=tensors["weight"],
            bias=tensors["bias"],
            steps=int(document["steps"]),
            history=(),
            train=scores_of(document["train"]) or Scores(math.nan, math.nan, math.nan),
            val=scores_of(document["val"]),
            best_epoch=document.get("best_epoch"),
        )
        classes = tuple(document["classes"])
        sources = {split: dict(source) for split, source in document["sources"].items()}
        if document["name"] != folder.name or {head.weight.dtype, head.bias.dtype} != {np.dtype(np.float32)}:
            raise ValueError(f"its name is {document['name']!r}, its weights are {head.weight.dtype}")
        if "trunk" not in sources["train"] or not all(type(name) is str for name in classes):
            raise ValueError("it does not say which trunk and which classes it is for")
    except (SafetensorError, UsageError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CacheError(f"{folder}: this is no head that this version reads: {error}") from None
    if len(classes) != len(head.weight):
        raise CacheError(f"{folder}: {len(classes)} class names for {len(head.weight)} outputs")
    return SavedHead(document["name"], folder, head, classes, sources)


def name_of(config: HeadConfig, sources: Mapping[str, Mapping[str, str]]) -> str:
    """The settings in words, and the start of a hash over them, the trunk and the listings."""
    parts = {"config": config.changed, "sources": {split: dict(source) for split, source in sources.items()}}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{config.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def history(folder: Path) -> dict[str, tuple[float, ...]]:
    """history.csv, column by column: "epoch", "train_loss", … "val_macro_recall"; nan where a cell is empty.

    A file that is missing or no longer ours gives no columns: a report does without its curves.
    """
    try:
        lines = list(csv.reader(io.StringIO((folder / "history.csv").read_text("utf-8"))))
        columns = zip(*lines[1:], strict=True)
        return {
            name: tuple(float(cell) if cell else math.nan for cell in column)
            for name, column in zip(lines[0], columns, strict=True)
        }
    except (OSError, ValueError, IndexError):
        return {}


def versions(folder: Path) -> dict[str, str]:
    """What a head was trained with: package -> version; empty where head.json does not say."""
    try:
        document = unseal_document((folder / "head.json").read_bytes()) or {}
    except OSError:
        return {}
    return {str(name): str(number) for name, number in document.get("versions", {}).items()}


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


def scores_of(document: Mapping[str, float | None] | None) -> Scores | None:
    """The inverse of `scores_json`; null is nan."""
    if document is None:
        return None
    return Scores(**{name: math.nan if value is None else value for name, value in document.items()})


def _history(history: Sequence[EpochRow]) -> bytes:
    """history.csv: one row an epoch; val columns are empty where there was no val split."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = ("loss", "accuracy", "macro_recall")
    table.writerow(["epoch", *(f"{split}_{column}" for split in ("train", "val") for column in columns)])
    for row in history:
        values = [getattr(split, column) if split else "" for split in (row.train, row.val) for column in columns]
        table.writerow([row.epoch, *values])
    return text.getvalue().encode()
