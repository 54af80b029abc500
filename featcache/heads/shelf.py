"""The heads and classifiers of a store: what is wrong with each, and with the log of the runs that made them."""

import csv
import hashlib
import io
from pathlib import Path

from featcache.errors import CacheError
from featcache.heads import opened, runs, saved
from featcache.heads.classifiers import kept
from featcache.store import Problem, publish
from featcache.store.mend import set_aside
from featcache.store.regular import HEAD, read_regular
from featcache.store.sealed import unseal_document


def examine(root: Path, problems: list[Problem], notes: list[Problem]) -> None:
    """Add what is wrong with the heads of the store at `root`, and what a killed run left behind."""
    for folder in _folders(root):
        if not _is_finished(folder):
            said = f"{folder}: no head: a run was killed while it saved it; training it again finishes it"
            notes.append(Problem(str(folder), "head", said))
            continue
        wrong = _wrong(folder)
        if wrong:
            problems.append(Problem(str(folder), "head", wrong))
    for path in _logs(root):
        found = runs.lines_of(path)
        if found.damaged:
            bad, every = len(found.damaged), len(found.lines) + len(found.damaged)
            said = f"{path}: {bad} of {every} lines are damaged: which head is the newest cannot be known"
            problems.append(Problem(str(path), "runs", f"{said}; `featcache repair` takes them out"))
        if found.torn:
            said = f"{path}: {found.torn:,} bytes of a last line that a crash cut short; the next fit-head removes them"
            notes.append(Problem(str(path), "torn", said))


def mend(root: Path, *, dry_run: bool) -> list[Path]:
    """Move damaged heads out of the way, and take damaged lines out of the logs of runs; what was touched."""
    touched = []
    for path in _folders(root):
        if _is_finished(path) and _wrong(path):
            touched.append(path)
            if not dry_run:
                set_aside(root, path)
    for path in _logs(root):
        found = runs.lines_of(path)
        if found.damaged:
            touched.append(path)
            if not dry_run:
                set_aside(root, path)
                publish.publish(path, b"".join(line + b"\n" for line in found.lines), replace=True)
    return touched


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in (root / "heads").glob("*/*/*") if path.is_dir() and not path.is_symlink())


def _logs(root: Path) -> list[Path]:
    return sorted((root / "heads").glob(f"*/*/{runs.RUNS}"))


def _is_finished(folder: Path) -> bool:
    return any((folder / name).exists() for name in opened.DOCUMENTS)


def _wrong(folder: Path) -> str:
    """What is wrong with a head or a classifier, or ""."""
    try:
        if opened.is_classifier(folder):
            kept.check(folder)
        else:
            saved.load(folder)
            _check_history(folder)
    except CacheError as error:
        return str(error)
    return ""


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
