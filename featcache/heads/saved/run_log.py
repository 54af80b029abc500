"""The log of a data set's models: one line for each `fit-head`, `search` or `fit`, beside the models' folders.

    stores/<store>/heads/<data set>/<variant>/runs.jsonl

It says which models there are, which one a run chose, and what the check against the optimum found.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import CacheError
from featcache.features import Features, Streamed
from featcache.files import AppendLog, LogContent, hold_lock, list_folders, seal_line, validate
from featcache.heads.saved.folders import heads_folder
from featcache.heads.saved.handles import Handles, handles_of
from featcache.heads.saved.model import SavedModel
from featcache.heads.saved.run_documents import RunDocument, check_to_json
from featcache.store import FeatureStore

if TYPE_CHECKING:
    from featcache.heads.optimum import Check

RUNS = "runs.jsonl"
_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FitRun:
    """One run of a command that trained models, as the log of its data set has it."""

    at: int  # time.time_ns when it ended
    heads: tuple[str, ...]  # the names of its models
    best: str | None  # None where every head diverged
    selected_by: str  # "" where nothing chose
    check: Mapping[str, Any] | None = None  # of the best head, see `check_to_json`; None where it was left out
    seconds: float = 0.0  # of the training, all heads together
    numbers: Mapping[str, int] = field(default_factory=dict)  # of models, by name: see `handles`
    given_name: str = ""  # that a person gave to the best one

    @property
    def gap_share(self) -> float | None:
        """The best head's share of the loss above the optimum, see `Check`; None where it is not known."""
        return None if self.check is None else self.check.get("gap_share")


@dataclass(frozen=True, slots=True)
class RunLog:
    """A runs.jsonl as far as it holds."""

    log: LogContent
    runs: list[FitRun]  # of the lines that hold, in order


def record_run(
    store: FeatureStore,
    train: Features | Streamed,
    models: Sequence[SavedModel],
    *,
    best: str | None,
    seconds: float,
    selected_by: str = "",
    check: "Check | None" = None,
    given_name: str = "",
) -> Handles:
    """Add one run to the log of its data set.

    Args:
        store: The store that the models were trained on.
        train: The split that they were trained on.
        models: All models that the run made.
        best: The name of the one that it chose; None where every one diverged.
        seconds: How long the training took, all models together.
        selected_by: What chose the best one, such as "macro recall on val"; "" where nothing did.
        check: The check of the best one against the optimum; None where it was left out.
        given_name: What a person calls the best one from now on; "" where nobody named it.

    Returns:
        The numbers and names of all models of the data set, this run's included.

    Raises:
        CacheError: another process holds the log, or what stands in its place is no file; the heads are saved.
        MachineError: the disk refuses.
    """
    line: dict[str, Any] = {
        "at": time.time_ns(),
        "heads": [model.name for model in models],
        "best": best,
        "selected_by": selected_by,
        "check": None if check is None else check_to_json(check),
        "seconds": round(seconds, 3),
        "given_name": given_name,
    }
    path = heads_folder(store, train.source["data_set"], train.source["variant"]) / RUNS
    with hold_lock(path.with_name(f".{RUNS}.lock"), wait=_WAIT_SECONDS) as is_held:
        if not is_held:
            raise CacheError(
                f"{path}: another process has been writing it for {_WAIT_SECONDS:g} s; the heads are saved"
            )
        log = AppendLog(path)
        own = read_run_log(path)
        run = FitRun(line["at"], tuple(line["heads"]), best, selected_by, given_name=given_name)
        others = read_all_runs(store, train.source["data_set"], train.source["variant"])
        before = handles_of(others).given.get(given_name, "")
        handles = replace(handles_of([*others, run]), moved_from="" if before == best else before)
        recorded = {name for known in own.runs for name in known.numbers}
        named = dict.fromkeys(name for known in (*own.runs, run) for name in known.heads)
        line["numbers"] = {name: handles.numbers[name] for name in named if name not in recorded}
        log.repair_end(own.log.size)  # what a crash left of a line must not swallow this one
        log.append(seal_line(line))
    return handles


def read_runs(store: FeatureStore, data_set: str, variant: str, *, newest: bool = True) -> list[FitRun]:
    """Return every run on a store and data set, oldest first; a line that a crash cut short is left out.

    Args:
        store: The store that the models were trained on.
        data_set: The name of the data set.
        variant: Which cut of it.
        newest: Whether it matters which run is the newest: then a damaged line is an error, because nobody knows
            whether that was it.

    Raises:
        CacheError: a line is damaged or the log cannot be read, and `newest` is true.
    """
    path = heads_folder(store, data_set, variant) / RUNS
    try:
        content = read_run_log(path)
    except CacheError:
        if newest:
            raise
        return []
    if content.log.damaged and newest:
        number, problem = content.log.damaged[0]
        raise CacheError(
            f"{path}: line {number} {problem}: it is not known which head is the newest, or the best. Name the head, "
            f"or run `featcache repair`, which takes the line out"
        )
    return content.runs


def read_all_runs(store: FeatureStore, data_set: str, variant: str) -> list[FitRun]:
    """Return every run on a data set in all stores of a cache, oldest first; what cannot be read is left out.

    Args:
        store: Any store of the cache.
        data_set: The name of the data set.
        variant: Which cut of it.
    """
    runs: list[FitRun] = []
    for root in list_folders(store.root.parent):
        with contextlib.suppress(CacheError):
            runs += read_run_log(root / "heads" / data_set / variant / RUNS).runs
    return sorted(runs, key=lambda run: run.at)


def list_handles(store: FeatureStore, data_set: str, variant: str) -> Handles:
    """Return the handles of all models of a data set, over all stores of a cache.

    Args:
        store: Any store of the cache.
        data_set: The name of the data set.
        variant: Which cut of it.
    """
    return handles_of(read_all_runs(store, data_set, variant))


def newest_checks(runs: Sequence[FitRun]) -> dict[str, Mapping[str, Any]]:
    """Return the newest check of each head that was ever checked, by its name; `runs` are oldest first.

    A name stands for one set of settings and sources, so a head that was trained again without a check is the head
    that was checked before.
    """
    return {run.best: run.check for run in runs if run.best is not None and run.check is not None}


def read_run_log(path: Path) -> RunLog:
    """Return the lines of a runs.jsonl; none where there is no such file.

    Raises:
        CacheError: it cannot be read, or is no regular file.
    """
    runs: list[FitRun] = []

    def take(entry: dict[str, Any]) -> str:
        try:
            runs.append(_run(validate(RunDocument, entry)))
        except ValueError as error:
            return f"cannot be read by this version: {error}"
        return ""

    try:
        return RunLog(AppendLog(path).read(take), runs)
    except FileNotFoundError:
        return RunLog(LogContent(), runs)
    except OSError as error:
        raise CacheError(
            f"{path}: the log of the heads cannot be read: {error.strerror}; `featcache repair` moves it aside, and "
            f"no head is lost"
        ) from None


def _run(line: RunDocument) -> FitRun:
    check = None if line.check is None else line.check.model_dump()
    return FitRun(
        line.at, tuple(line.heads), line.best, line.selected_by, check, line.seconds, line.numbers, line.given_name
    )
