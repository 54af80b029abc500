"""The journal file of a search's study: opened once it is known to be one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.errors import CacheError, MachineError
from featcache.files import AppendLog, describe_kind, make_folder, parse_json

if TYPE_CHECKING:
    import optuna


def open_study(path: Path, *, seed: int, startup_trials: int, warmup_epochs: int) -> "optuna.Study":
    """Return a study as far as it has come; a new one where there is no file yet.

    Args:
        path: Its file, `search-<name>.log`.
        seed: Of the sampler.
        startup_trials: Trials before any is pruned.
        warmup_epochs: Epochs of a trial before it may be pruned.

    Raises:
        CacheError: the file is no study.
        MachineError: it cannot be written.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    make_folder(path.parent)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _refuse_foreign(path)
    try:
        backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
        return optuna.create_study(
            storage=JournalStorage(backend),
            study_name=path.stem.removeprefix("search-"),
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_epochs),
        )
    except OSError as error:
        raise MachineError(f"{path}: the study cannot be kept: {error.strerror}") from None
    except Exception as error:  # Optuna replays what a file says, and raises whatever that makes it raise
        raise CacheError(
            f"{path}: this is not a study: {type(error).__name__}: {error}; remove the file to begin a new one"
        ) from None


def _refuse_foreign(path: Path) -> None:
    """Hold a study's file against what it is before Optuna opens it: a regular file of lines of JSON.

    Raises:
        CacheError: a pipe, a link, a device, a folder stands in its place or in that of its lock; or it is no study.
    """
    way_out = "remove the file to begin a new study"
    lock = path.with_name(path.name + ".lock")
    if os.path.lexists(lock) and (kind := describe_kind(os.lstat(lock).st_mode)):
        raise CacheError(f"{lock}: it is {kind}, expected the lock of a study; remove it")
    try:
        for number, line in enumerate(AppendLog(path).iter_lines(), start=1):
            if line.data is None or (line.whole and not isinstance(parse_json(line.data), dict)):
                raise CacheError(f"{path}: this is not a study: line {number} is not a JSON object; {way_out}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(f"{path}: this study cannot be read: {error.strerror}; {way_out}") from None
    except ValueError as error:
        raise CacheError(f"{path}: this is not a study: {error}; {way_out}") from None
