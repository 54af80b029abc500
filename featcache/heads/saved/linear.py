"""Heads of fit-head on disk: one folder a head, below the store that it was trained on; no pickle anywhere.

    stores/<store>/heads/<data set>/<variant>/<head>/          head.safetensors, head.json, history.csv

head.json is published last and holds the sha256 of the other two: a folder without it is no head. A head's folder is
named by its settings, its trunk and its listings; training it again writes the same bytes.
"""

import hashlib
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from featcache.errors import CacheError, UsageError
from featcache.features import Features, Streamed, read_widths
from featcache.files import FORMAT, Tensors, read_tensors
from featcache.heads import HeadConfig, KeptTargets, LinearHead, Scores
from featcache.heads.modules import ModuleHead, TrainedHead
from featcache.heads.saved.documents import HEAD, HeadDocument, scores_from_document, scores_to_json
from featcache.heads.saved.folders import head_name, heads_folder, installed_versions, publish_model
from featcache.heads.saved.history import HISTORY, HistoryColumns, history_bytes
from featcache.heads.saved.history import read_history as read_history_file
from featcache.heads.saved.model import ModelKind
from featcache.heads.saved.saved_head import SavedHead
from featcache.store import FeatureStore

DOCUMENT, TENSORS = "head.json", "head.safetensors"
_DROPPED = ("exact",)  # settings of earlier heads that say nothing of what a head predicts
_PACKAGES = ("featcache", "torch", "numpy")


def save_head(store: FeatureStore, head: TrainedHead, train: Features | Streamed, val: Features | None) -> SavedHead:
    """Write the folder of one head.

    Args:
        store: The store that the head was trained on.
        head: The head, its history included.
        train: The split that it was trained on.
        val: The split that chose among its epochs or settings; None where there was none.

    Returns:
        The head with its name, its folder and where it came from.

    Raises:
        MachineError: the disk refuses.
    """
    sources = {"train": train.source} | ({"val": val.source} if val is not None else {})
    name = head_name(head.config, sources, head.finetuned)
    folder = heads_folder(store, train.source["data_set"], train.source["variant"]) / name
    versions = installed_versions(_PACKAGES)
    tensors = save_tensors({name: np.asarray(array, order="C") for name, array in head.tensors.items()})
    history = history_bytes(head.history)
    document = {
        "format": FORMAT,
        "name": name,
        "config": head.config.recorded,
        "classes": train.classes,
        **({} if isinstance(head, LinearHead) else {"width": head.width}),
        "steps": head.steps,
        "train": scores_to_json(head.train),
        "val": scores_to_json(head.val),
        "best_epoch": head.best_epoch,
        "sources": sources,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "history_sha256": hashlib.sha256(history).hexdigest(),
        "versions": versions,
        **({"finetuned": dict(head.finetuned)} if head.finetuned else {}),
        **{name: list(values) for name, values in asdict(head.targets).items() if values},
    }
    publish_model(folder, {TENSORS: tensors, HISTORY: history}, DOCUMENT, document)
    return SavedHead(name, folder, head, train.classes, sources, versions)


def load_head(folder: Path) -> SavedHead:
    """Return the head of a folder. Nothing in the folder is executed.

    Raises:
        CacheError: no head, a damaged one, or one of a newer format.
    """
    document = _read_document(folder)
    tensors = read_tensors(folder / TENSORS, document.sha256, way_out=HEAD.way_out)
    settings: dict[str, Any] = {name: value for name, value in document.config.items() if name not in _DROPPED}
    try:
        head = _head(HeadConfig(**settings), document, tensors)  # the config checks every setting
    except (UsageError, TypeError, ValueError) as error:
        raise CacheError(f"{folder}: this head cannot be read by this version: {error}") from None
    if head.widths and sum(head.widths) != head.width:
        raise CacheError(f"{folder}: parts of {sum(head.widths)} columns for weights of {head.width}")
    if len(document.classes) != head.classes:
        raise CacheError(f"{folder}: {len(document.classes)} class names for {head.classes} outputs")
    return SavedHead(document.name, folder, head, tuple(document.classes), document.sources, document.versions)


def _head(config: HeadConfig, document: HeadDocument, tensors: Tensors) -> TrainedHead:
    """Return a head from its document and its tensors.

    Raises:
        ValueError: a tensor is missing, or of another type or number of dimensions than it must have.
    """
    on_train = scores_from_document(document.train) or Scores(math.nan, math.nan, math.nan)
    on_val, widths = scores_from_document(document.val), read_widths(document.sources["train"])
    targets = KeptTargets(tuple(document.thresholds), tuple(document.deviation), tuple(document.mean))
    if config.is_linear:
        weight, bias = tensors.take("weight", np.float32, 2), tensors.take("bias", np.float32, 1)
        return LinearHead(
            config, weight, bias, document.steps, (), on_train, on_val, document.best_epoch, widths,
            finetuned=document.finetuned, targets=targets,
        )  # fmt: skip
    if document.width is None:
        raise ValueError(f"width is missing, the width of an embedding that a head of kind {config.head} takes")
    return ModuleHead(
        config, document.width, len(document.classes), tensors.arrays, document.steps, (), on_train, on_val,
        document.best_epoch, widths, targets,
    )  # fmt: skip


def read_history(folder: Path) -> HistoryColumns:
    """Return the scores of a head after every epoch, column by column.

    Args:
        folder: The head's folder.

    Returns:
        "epoch", "train_loss", … "val_macro_recall"; nan where a cell is empty.

    Raises:
        CacheError: the history, or head.json, is missing or damaged.
    """
    return read_history_file(folder, _read_document(folder).history_sha256)


def load_usable_head(folder: Path) -> SavedHead:
    """Return the head of a folder whose tensors are those that its settings say; of a module, that takes torch.

    Raises:
        CacheError: as `load_head`; or a tensor is missing, one too many, or of another type or shape.
    """
    saved = load_head(folder)
    if isinstance(saved.head, ModuleHead):
        try:
            saved.head.check_tensors()
        except ValueError as error:
            raise CacheError(f"{folder}: this head cannot be read by this version: {error}") from None
    return saved


def check_head(folder: Path) -> None:
    """Hold every file of a head against head.json.

    Raises:
        CacheError: one is missing or damaged, or the head is of a newer format.
    """
    if not load_head(folder).head.config.is_own:  # a class of one's own is not imported for this
        load_usable_head(folder)
    read_history(folder)


def _read_document(folder: Path) -> HeadDocument:
    document = HEAD.read(folder / DOCUMENT)
    if document.name != folder.name:
        raise CacheError(f"{folder}: this head cannot be read by this version: its name is {document.name!r}")
    return document


KIND: ModelKind = ModelKind(
    document=DOCUMENT,
    load=lambda folder, _store, _device: load_usable_head(folder),
    describe=load_head,
    check=check_head,
)
