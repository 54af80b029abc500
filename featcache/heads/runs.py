"""The log of a data set's heads: one line for each fit-head, beside the folders of the heads (see `saved`).

stores/<store>/heads/<data set>/<variant>/runs.jsonl
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from featcache.errors import CacheError
from featcache.features import Features
from featcache.heads.saved import check_json, folder_of
from featcache.store import FeatureStore
from featcache.store.lock import holding
from featcache.store.publish import append, truncate
from featcache.store.regular import LOG, read_regular
from featcache.store.sealed import seal_line, unseal_line
from featcache.streamed import Streamed

if TYPE_CHECKING:
    from featcache.heads.check import Check

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


def record(
    store: FeatureStore, train: Features | Streamed, heads: Sequence[Named], best: str | None, selected_by: str,
    check: "Check | None", seconds: float,
) -> None:  # fmt: skip
    """Add one fit-head to the log of its data set."""
    line = {
        "at": time.time_ns(),
        "heads": [head.name for head in heads],
        "best": best,
        "selected_by": selected_by,
        "check": None if check is None else check_json(check),
        "seconds": round(seconds, 3),
    }
    path = folder_of(store, train.source["data_set"], train.source["variant"]) / RUNS
    with holding(path.with_name(f".{RUNS}.lock"), wait=_WAIT_SECONDS) as held:
        if not held:
            raise CacheError(
                f"{path}: another process has been writing it for {_WAIT_SECONDS:g} s; the heads are saved"
            )
        found = lines_of(path)
        if found.torn:  # what a crash left of a line must not swallow this one
            truncate(path, found.size - found.torn)
        append(path, (b"" if found.ends_whole or found.torn else b"\n") + seal_line(line), sync=True)


def read(store: FeatureStore, data_set: str, variant: str, *, newest: bool = True) -> list[Run]:
    """Every fit-head on this store and data set, oldest first; a line that a crash cut short is left out.

    Raises:
        CacheError: a line is damaged, and the `newest` run is asked for: nobody knows whether that was it.
    """
    path = folder_of(store, data_set, variant) / RUNS
    found = lines_of(path)
    if found.damaged and newest:
        raise CacheError(
            f"{path}: line {found.damaged[0]} is damaged: which head is the newest cannot be known. Name the head, or "
            f"`featcache repair` takes the line out"
        )
    entries = [entry for line in found.lines if (entry := unseal_line(line)) is not None]
    try:
        every = [_run(one) for one in entries]
        strange = [
            name for run in every for name in (*run.heads, run.best or "x") if name == ".." or name != Path(name).name
        ]
        if strange:
            raise TypeError(f"{strange[0]!r} is no name of a head")
        return every
    except (KeyError, TypeError) as error:
        raise CacheError(f"{path}: this is no log of runs that this version reads: {error!r}") from None


@dataclass(frozen=True, slots=True)
class Lines:
    """A runs.jsonl as far as it holds."""

    lines: tuple[bytes, ...] = ()  # that match their checksums, without their newlines
    damaged: tuple[int, ...] = ()  # the numbers of the others, from 1
    torn: int = 0  # bytes of a last line that a crash cut short
    size: int = 0  # of the file
    ends_whole: bool = True  # whether it ends with a newline, or is empty


def lines_of(path: Path) -> Lines:
    """The lines of a runs.jsonl; none where there is no such file."""
    try:
        data = read_regular(path, LOG)
    except FileNotFoundError:
        return Lines()
    except OSError:
        return Lines(damaged=(1,))
    *whole, rest = data.split(b"\n")
    lines = [line for line in whole if unseal_line(line) is not None]
    damaged = [number for number, line in enumerate(whole, start=1) if unseal_line(line) is None]
    torn = len(rest)
    if rest and unseal_line(rest) is not None:  # it lacks nothing but its newline
        lines, torn = [*lines, rest], 0
    elif rest and unseal_line(rest[:-1]) is not None:  # its end is no newline: no crash writes one byte too many
        damaged, torn = [*damaged, len(whole) + 1], 0
    return Lines(tuple(lines), tuple(damaged), torn, len(data), ends_whole=not rest)


def _run(line: Mapping[str, Any]) -> Run:
    heads, seconds = tuple(line["heads"]), float(line.get("seconds", 0))
    return Run(line["at"], heads, line["best"], line["selected_by"], line.get("check"), seconds)
