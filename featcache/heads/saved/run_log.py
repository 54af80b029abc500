"""The log of a data set's heads: one line for each fit-head, beside the folders of the heads (see `saved`).

stores/<store>/heads/<data set>/<variant>/runs.jsonl
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from featcache.errors import CacheError
from featcache.features import Features, Streamed
from featcache.files import AppendLog, LogContent, hold_lock, seal_line, validate
from featcache.heads.saved.documents import RunDocument
from featcache.heads.saved.linear import check_json, head_folder
from featcache.store import FeatureStore

if TYPE_CHECKING:
    from featcache.heads.optimum import Check

RUNS = "runs.jsonl"
_WAIT_SECONDS = 60.0


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
    check: Mapping[str, Any] | None = None  # of the best head, as `check_json` wrote it; None where it was left out
    seconds: float = 0.0  # of the training, all heads together

    @property
    def gap_share(self) -> float | None:
        """Of the best head, see `Check`; None where nobody checked, or it diverged."""
        return None if self.check is None else self.check.get("gap_share")


def record_run(
    store: FeatureStore, train: Features | Streamed, heads: Sequence[Named], best: str | None, selected_by: str,
    check: "Check | None", seconds: float,
) -> None:  # fmt: skip
    """Add one fit-head to the log of its data set.

    Raises:
        CacheError: another process holds the log, or what stands in its place is no file; the heads are saved.
        MachineError: the disk refuses.
    """
    line = {
        "at": time.time_ns(),
        "heads": [head.name for head in heads],
        "best": best,
        "selected_by": selected_by,
        "check": None if check is None else check_json(check),
        "seconds": round(seconds, 3),
    }
    path = head_folder(store, train.source["data_set"], train.source["variant"]) / RUNS
    with hold_lock(path.with_name(f".{RUNS}.lock"), wait=_WAIT_SECONDS) as held:
        if not held:
            raise CacheError(
                f"{path}: another process has been writing it for {_WAIT_SECONDS:g} s; the heads are saved"
            )
        log = AppendLog(path)
        log.mend_end(read_lines(path).log.size)  # what a crash left of a line must not swallow this one
        log.append(seal_line(line))


def read_runs(store: FeatureStore, data_set: str, variant: str, *, newest: bool = True) -> list[Run]:
    """Every fit-head on this store and data set, oldest first; a line that a crash cut short is left out.

    Raises:
        CacheError: a line is damaged, and the `newest` run is asked for: nobody knows whether that was it.
    """
    path = head_folder(store, data_set, variant) / RUNS
    try:
        found = read_lines(path)
    except CacheError:
        if newest:
            raise
        return []
    if found.log.damaged and newest:
        number, wrong = found.log.damaged[0]
        raise CacheError(
            f"{path}: line {number} {wrong}: which head is the newest, or the best, cannot be known. Name the head, or "
            f"`featcache repair` takes the line out"
        )
    return found.runs


def checks(every: Sequence[Run]) -> dict[str, Mapping[str, Any]]:
    """The newest check of each head that was ever checked, by its name; `every` run is oldest first.

    A name stands for one set of settings and sources, so a head that was trained again without a check is the head
    that was checked before.
    """
    return {run.best: run.check for run in every if run.best is not None and run.check is not None}


@dataclass(frozen=True, slots=True)
class Lines:
    """A runs.jsonl as far as it holds."""

    log: LogContent
    runs: list[Run]  # of the lines that hold, in order


def read_lines(path: Path) -> Lines:
    """Return the lines of a runs.jsonl; none where there is no such file.

    Raises:
        CacheError: it cannot be read, or is no regular file.
    """
    runs: list[Run] = []

    def take(entry: dict[str, Any]) -> str:
        try:
            runs.append(_run(validate(RunDocument, entry)))
        except ValueError as error:
            return f"is none that this version reads: {error}"
        return ""

    try:
        return Lines(AppendLog(path).read(take), runs)
    except FileNotFoundError:
        return Lines(LogContent(), runs)
    except OSError as error:
        raise CacheError(
            f"{path}: the log of the heads cannot be read: {error.strerror}; `featcache repair` moves it aside, and "
            f"no head is lost"
        ) from None


def _run(line: RunDocument) -> Run:
    check = None if line.check is None else line.check.model_dump()
    return Run(line.at, tuple(line.heads), line.best, line.selected_by, check, line.seconds)
