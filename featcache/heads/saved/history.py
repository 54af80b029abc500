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

HISTORY = "history.csv"
_SCORES = ("loss", "accuracy", "macro_recall")
_COLUMNS = ("epoch", *(f"{split}_{score}" for split in ("train", "val") for score in _SCORES))

HistoryColumns = dict[str, tuple[float, ...]]  # "epoch", "train_loss", … "val_macro_recall"; nan where a cell is empty


def history_bytes(history: Sequence[EpochRow]) -> bytes:
    """Return history.csv: one row an epoch; the columns of val are empty where there was no val split."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for row in history:
        values = [getattr(split, score) if split else "" for split in (row.train, row.val) for score in _SCORES]
        table.writerow([row.epoch, *values])
    return text.getvalue().encode()


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


def _parse(data: bytes) -> HistoryColumns:
    names, *rows = list(csv.reader(io.StringIO(data.decode())))
    if names != list(_COLUMNS):
        raise ValueError("other columns")
    columns = {
        name: tuple(float(cell) if cell else math.nan for cell in column)
        for name, column in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True)
    }
    if not all(0 <= epoch < 2**31 and epoch.is_integer() for epoch in columns["epoch"]):
        raise ValueError("an epoch is not a whole number")
    return columns
