"""The heads of a store, all of them: what is wrong with each, and with the log of the runs that made them."""

import csv
import hashlib
import io
from pathlib import Path

from featcache.errors import CacheError
from featcache.heads import saved
from featcache.store import Problem
from featcache.store.regular import HEAD, read_regular
from featcache.store.sealed import unseal_document


def examine(root: Path, problems: list[Problem], notes: list[Problem]) -> None:
    """Add what is wrong with the heads of the store at `root`, and what a killed run left behind."""
    for folder in sorted(path for path in (root / "heads").glob("*/*/*") if path.is_dir() and not path.is_symlink()):
        if not (folder / "head.json").exists():
            said = f"{folder}: no head: a run was killed while it saved it; training it again finishes it"
            notes.append(Problem(str(folder), "head", said))
            continue
        try:
            saved.load(folder)
            _check_history(folder)
        except CacheError as error:
            problems.append(Problem(str(folder), "head", str(error)))
    for path in sorted((root / "heads").glob(f"*/*/{saved.RUNS}")):
        found = saved.read_runs(path)
        if found.damaged:
            bad, every = len(found.damaged), len(found.lines) + len(found.damaged)
            said = f"{path}: {bad} of {every} lines are damaged: which head is the newest cannot be known"
            problems.append(Problem(str(path), "runs", f"{said}; `featcache repair` takes them out"))
        if found.torn:
            said = f"{path}: {found.torn:,} bytes of a last line that a crash cut short; the next fit-head removes them"
            notes.append(Problem(str(path), "torn", said))


def _check_history(folder: Path) -> None:
    path = folder / "history.csv"
    try:
        data = read_regular(path, HEAD)
        document = unseal_document(read_regular(folder / "head.json")) or {}
    except OSError as error:
        raise CacheError(f"{path}: cannot be read: {error.strerror}; train the head again") from None
    expected = document.get("history_sha256")
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise CacheError(f"{path}: damaged: its sha256 is another; train the head again")
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        for row in rows:
            int(row["epoch"])
            float(row["train_loss"])
    except (ValueError, KeyError, TypeError, csv.Error):
        raise CacheError(f"{path}: damaged: this is no history of a head; train the head again") from None
