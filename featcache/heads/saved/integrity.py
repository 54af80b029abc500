"""The heads and classifiers of a store: what is wrong with each, and with the log of the runs that made them."""

import os
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import AppendLog, list_folders
from featcache.heads.saved import classifier, linear, model, run_log
from featcache.store import Problem, set_aside


def verify_heads(root: Path, problems: list[Problem], notes: list[Problem]) -> None:
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
        try:
            found = run_log.read_lines(path).log
        except CacheError as error:
            problems.append(Problem(str(path), "runs", str(error)))
            continue
        if found.damaged:
            bad, every = len(found.damaged), len(found.lines) + len(found.damaged)
            said = f"{path}: {bad} of {every} lines are damaged: which head is the newest cannot be known"
            problems.append(Problem(str(path), "runs", f"{said}; `featcache repair` takes them out"))
        if found.torn:
            said = f"{path}: {found.torn:,} bytes of a last line that a crash cut short; the next fit-head removes them"
            notes.append(Problem(str(path), "torn", said))


def repair_heads(root: Path, *, dry_run: bool) -> list[Path]:
    """Move damaged heads out of the way, and take damaged lines out of the logs of runs; what was touched."""
    touched = []
    for path in _folders(root):
        if _is_finished(path) and _wrong(path):
            touched.append(path)
            if not dry_run:
                set_aside(root, path)
    for path in _logs(root):
        try:
            found = run_log.read_lines(path).log
        except CacheError:  # a pipe, a link, a folder: nothing of it can be kept
            touched.append(path)
            if not dry_run:
                set_aside(root, path)
            continue
        if found.damaged:
            touched.append(path)
            if not dry_run:
                set_aside(root, path)
                AppendLog(path).rewrite(found.lines)
    return touched


def _folders(root: Path) -> list[Path]:
    return [path for variant in _variants(root) for path in list_folders(variant) if not path.is_symlink()]


def _logs(root: Path) -> list[Path]:
    return [path for folder in _variants(root) if os.path.lexists(path := folder / run_log.RUNS)]


def _variants(root: Path) -> list[Path]:
    return [variant for data_set in list_folders(root / "heads") for variant in list_folders(data_set)]


def _is_finished(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in model.MODEL_DOCUMENTS)


def _wrong(folder: Path) -> str:
    """What is wrong with a head or a classifier, or ""."""
    try:
        if model.is_classifier(folder):
            classifier.check(folder)
        else:
            linear.load_head(folder)
            linear.read_history(folder)
    except CacheError as error:
        return str(error)
    return ""
