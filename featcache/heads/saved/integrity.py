"""The models of a store, held against their documents: what is wrong with each, and with the log of the runs."""

from pathlib import Path

from featcache.errors import CacheError
from featcache.files import AppendLog, is_present, list_folders
from featcache.heads.saved.kinds import check_model, has_model
from featcache.heads.saved.run_log import RUNS, read_run_log
from featcache.heads.saved.temperature import read_temperature
from featcache.store import Problem, set_aside


def verify_heads(root: Path, problems: list[Problem], notes: list[Problem]) -> None:
    """Hold every model of a store, and the logs of the runs that made them, against their documents.

    Args:
        root: The folder of the store.
        problems: Gets what is wrong.
        notes: Gets what a killed run left behind.

    Raises:
        CacheError: a folder of heads cannot be listed.
    """
    for folder in _model_folders(root):
        if not has_model(folder):
            note = f"{folder}: no head: a run was killed while it was saving this one; train it again to finish it"
            notes.append(Problem(str(folder), "head", note))
        elif problem := _problem_of(folder):
            problems.append(Problem(str(folder), "head", problem))
    for path in _run_logs(root):
        _verify_run_log(path, problems, notes)


def repair_heads(root: Path, *, dry_run: bool) -> list[Path]:
    """Move damaged models out of the way, and take damaged lines out of the logs of runs.

    Args:
        root: The folder of the store.
        dry_run: Whether nothing is changed.

    Returns:
        The folders of the damaged models and the damaged logs, which were touched or, in a dry run, would be.

    Raises:
        CacheError: a folder of heads cannot be listed.
        MachineError: the disk refuses.
    """
    touched = []
    for folder in _model_folders(root):
        if has_model(folder) and _problem_of(folder):
            touched.append(folder)
            if not dry_run:
                set_aside(root, folder)
    for path in _run_logs(root):
        try:
            log = read_run_log(path).log
        except CacheError:  # a pipe, a link, a folder: nothing of it can be kept
            touched.append(path)
            if not dry_run:
                set_aside(root, path)
            continue
        if log.damaged:
            touched.append(path)
            if not dry_run:
                set_aside(root, path)
                AppendLog(path).rewrite(log.lines)
    return touched


def _verify_run_log(path: Path, problems: list[Problem], notes: list[Problem]) -> None:
    try:
        log = read_run_log(path).log
    except CacheError as error:
        problems.append(Problem(str(path), "runs", str(error)))
        return
    if log.damaged:
        bad, total = len(log.damaged), len(log.lines) + len(log.damaged)
        problem = f"{path}: {bad} of {total} lines are damaged: it is not known which head is the newest"
        problems.append(Problem(str(path), "runs", f"{problem}; `featcache repair` takes them out"))
    if log.torn:
        note = f"{path}: {log.torn:,} bytes of a last line that a crash cut short; the next fit-head removes them"
        notes.append(Problem(str(path), "torn", note))


def _model_folders(root: Path) -> list[Path]:
    return [path for variant in _variants(root) for path in list_folders(variant) if not path.is_symlink()]


def _run_logs(root: Path) -> list[Path]:
    return [path for folder in _variants(root) if is_present(path := folder / RUNS)]


def _variants(root: Path) -> list[Path]:
    return [variant for data_set in list_folders(root / "heads") for variant in list_folders(data_set)]


def _problem_of(folder: Path) -> str:
    """Return what is wrong with a model, "" where nothing is."""
    try:
        check_model(folder)
        read_temperature(folder)
    except CacheError as error:
        return str(error)
    return ""
