"""history.csv: the scores of a linear head after every epoch, beside its head.json."""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import MAX_HISTORY_BYTES, read_cache_file
from featcache.heads import EpochRow
from featcache.heads.saved.documents import HEAD
from featcache.metrics import LABEL_METRICS, VALUE_FIGURES

HISTORY = "history.csv"
_SCORES = ("loss", "accuracy", "macro_recall")
_COLUMNS = ("epoch", *(f"{split}_{score}" for split in ("train", "val") for score in _SCORES))

HistoryColumns = dict[str, tuple[float, ...]]  # "epoch", "train_loss", … "val_macro_recall"; nan where a cell is empty


def history_bytes(history: Sequence[EpochRow]) -> bytes:
    """Return history.csv: one row an epoch; the columns of val are empty where there was no val split."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = _columns_of(history)
    table.writerow(["epoch", *(f"{split}_{score}" for split, score in columns)])
    for row in history:
        splits = {"train": row.train, "val": row.val}
        figures = [None if (scores := splits[split]) is None else scores.figure(score) for split, score in columns]
        table.writerow([row.epoch, *("" if figure is None else figure for figure in figures)])
    return text.getvalue().encode()


def _columns_of(history: Sequence[EpochRow]) -> list[tuple[str, str]]:
    """Return split and score of each column: of several labels or numbers a row the loss, and on val their metrics."""
    metrics = next((list(row.val.metrics) for row in history if row.val is not None), [])
    is_of_targets = bool(metrics) or any(math.isnan(row.train.accuracy) for row in history)
    if not is_of_targets:
        return [(split, score) for split in ("train", "val") for score in _SCORES]
    return [("train", "loss"), ("val", "loss"), *(("val", metric) for metric in metrics)]


def read_history(folder: Path, sha256: str | None) -> HistoryColumns:
    """Return the columns of history.csv.

    Args:
        folder: The head's folder.
        sha256: Of the file, as head.json has it; None where that says none, as the first versions' did.

    Raises:
        CacheError: it is missing, damaged, or no history of a head.
    """
    path = folder / HISTORY
    try:
        data = read_cache_file(path, MAX_HISTORY_BYTES)
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}; {HEAD.way_out}") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CacheError(f"{path}: damaged: its sha256 is another; {HEAD.way_out}")
    try:
        return _parse(data)
    except (ValueError, csv.Error):
        raise CacheError(f"{path}: damaged: this is not the history of a head; {HEAD.way_out}") from None


def _is_of_targets(names: Sequence[str]) -> bool:
    """Return whether columns are those of several labels or numbers a row."""
    known = {f"val_{metric}" for metric in (*LABEL_METRICS, *VALUE_FIGURES)}
    return list(names[:3]) == ["epoch", "train_loss", "val_loss"] and set(names[3:]) <= known


def _parse(data: bytes) -> HistoryColumns:
    names, *rows = list(csv.reader(io.StringIO(data.decode())))
    if names != list(_COLUMNS) and not _is_of_targets(names):
        raise ValueError("other columns")
    columns = {
        name: tuple(float(cell) if cell else math.nan for cell in column)
        for name, column in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True)
    }
    if not all(0 <= epoch < 2**31 and epoch.is_integer() for epoch in columns["epoch"]):
        raise ValueError("an epoch is not a whole number")
    return columns
