"""Heads on disk: one folder a head, below the store that it was trained on; no pickle anywhere.

    stores/<store>/heads/<data set>/<variant>/runs.jsonl       one line for each fit-head
    stores/<store>/heads/<data set>/<variant>/<head>/          head.safetensors, head.json, history.csv

head.json is published last and holds the sha256 of head.safetensors: a folder without it is no head. A head's
folder is named by its settings, its trunk and its listings; training it again writes the same bytes.
"""

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from featcache.errors import CacheError, UsageError
from featcache.features import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import EpochRow, LinearHead, Scores
from featcache.store import FeatureStore
from featcache.store.publish import append, ends_whole, make_folder, publish
from featcache.store.sealed import seal_document, seal_line, unseal_document, unseal_line
from featcache.streamed import Streamed

if TYPE_CHECKING:
    from featcache.heads.check import (
        Check,
    )  # scikit-learn takes a second to import, and reading a head needs none

FORMAT = 1
RUNS = "runs.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class SavedHead:
    """A head with what it came from."""

    name: str
    folder: Path
    head: LinearHead  # its history is in history.csv
    classes: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]  # "train" and, where it was used, "val": see Features.source


class Named(Protocol):
    """A head or a classifier, as the log knows it."""

    @property
    def name(self) -> str:
        """The name of its folder."""


@dataclass(frozen=True, slots=True)
class Run:
    """One fit-head, as the log of its data set has it."""

    at: int  # time.time_ns when it ended
    heads: tuple[str, ...]
    best: str | None  # None where every head diverged
    selected_by: str  # "" where nothing chose
    seconds: float = 0.0  # of the training, all heads together
    gap_share: float | None = None  # of the best head, see `Check`; None where nobody checked, or it diverged


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
        "versions": {name: version(name) for name in ("featcache", "torch", "numpy")},
    }
    make_folder(folder)
    publish(folder / "head.safetensors", tensors, replace=True)
    publish(folder / "history.csv", _history(head.history), replace=True)
    publish(folder / "head.json", seal_document(document), replace=True)
    return SavedHead(name, folder, head, train.classes, sources)


def load(folder: Path) -> SavedHead:
    """Read one head's folder. Nothing in it is executed.

    Raises:
        CacheError: no head, a damaged one, or one of a newer format.
    """
    try:
        document = unseal_document((folder / "head.json").read_bytes())
        data = (folder / "head.safetensors").read_bytes()
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
    except (SafetensorError, UsageError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CacheError(f"{folder}: this is no head that this version reads: {error}") from None
    if len(classes) != len(head.weight):
        raise CacheError(f"{folder}: {len(classes)} class names for {len(head.weight)} outputs")
    return SavedHead(document["name"], folder, head, classes, sources)


def name_of(config: HeadConfig, sources: Mapping[str, Mapping[str, str]]) -> str:
    """The settings in words, and the start of a hash over them, the trunk and the listings."""
    parts = {"config": config.changed, "sources": {split: dict(source) for split, source in sources.items()}}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{config.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def record_run(
    store: FeatureStore, train: Features | Streamed, heads: Sequence[Named], best: str | None, selected_by: str,
    check: "Check | None", seconds: float,
) -> None:  # fmt: skip
    """Add one fit-head to the log of its data set."""
    line = {
        "at": time.time_ns(),
        "heads": [head.name for head in heads],
        "best": best,
        "selected_by": selected_by,
        "check": None if check is None else check_json(check),
        "seconds": round(seconds, 3),
    }
    folder = folder_of(store, train.source["data_set"], train.source["variant"])
    start = b"" if ends_whole(folder / RUNS) else b"\n"  # what a crash left of a line must not swallow this one
    append(folder / RUNS, start + seal_line(line), sync=True)


def runs(store: FeatureStore, data_set: str, variant: str) -> list[Run]:
    """Every fit-head on this store and data set, oldest first; torn or damaged lines are left out."""
    try:
        data = (folder_of(store, data_set, variant) / RUNS).read_bytes()
    except OSError:
        return []
    found = [entry for line in data.split(b"\n") if line and (entry := unseal_line(line)) is not None]
    return [_run(line) for line in found]


def _run(line: Mapping[str, Any]) -> Run:
    check = line.get("check") or {}
    heads, seconds = tuple(line["heads"]), float(line.get("seconds", 0))
    return Run(line["at"], heads, line["best"], line["selected_by"], seconds, check.get("gap_share"))


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
