"""The log of a store, `commits.jsonl`: what is not in it does not exist.

Lines are only ever added, each with its own checksum: `add` (a shard), `drop` (a shard, or a listing), `listing`. A
last piece that is no whole line was torn by a crash and is ignored; the next writer cuts it off, under the lock. Any
other line that does not match its checksum is damage, and an error; `featcache repair` writes the log anew without it.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from featcache.errors import CacheError
from featcache.files import NAME as NAME_PATTERN
from featcache.files import append_bytes, publish, read_log, seal_line, truncate_file
from featcache.store.shard import Shard

LOG_NAME = "commits.jsonl"
Key = tuple[str, str, str]  # data set, variant, split


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingLine:
    """A listing as it was extracted: a file below `cache/listings/`."""

    data_set: str
    variant: str
    split: str
    sha256: str

    def __post_init__(self) -> None:
        names = all(type(name) is str and re.fullmatch(NAME_PATTERN, name) for name in self.key)
        if not names or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.key} is no name of a listing")

    @property
    def key(self) -> Key:
        """What a newer line replaces."""
        return self.data_set, self.variant, self.split

    @property
    def file(self) -> str:
        """Where it stands below `cache/listings/`; what a `drop` line calls it."""
        return f"{self.data_set}/{self.variant}/{self.split}-{self.sha256[:8]}.h5"


@dataclass(frozen=True, slots=True)
class Commits:
    """A snapshot of the log: what is committed, in order."""

    shards: tuple[Shard, ...] = ()
    listings: dict[Key, ListingLine] = field(default_factory=dict)  # the newest of each key
    numbers: int = 0  # how many shards were ever added: the next one's number
    size: int = 0  # bytes of committed lines
    dropped: dict[str, float] = field(default_factory=dict)  # shards -> when they were dropped, seconds; 0.0: unknown
    unfinished: frozenset[str] = frozenset()  # shards that were added after the last listing
    ends_whole: bool = True  # whether the last committed line has its newline


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log as far as it holds."""

    commits: Commits  # of the lines that hold
    lines: tuple[bytes, ...]  # those lines, without their newlines
    damaged: tuple[tuple[int, str], ...]  # the number of each other line, from 1, and what is wrong with it
    torn: int  # bytes of a last line that a crash cut short


def read_commits(path: Path) -> Commits:
    """The committed state.

    Raises:
        CacheError: the log is missing, or a line is damaged; the message names it.
    """
    found = replay_commits(path)
    for number, wrong in found.damaged:
        raise CacheError(f"{path}: line {number} {wrong}. {_WAY_OUT}")
    return found.commits


def replay_commits(path: Path) -> Replayed:
    """The state after every line that holds, whatever stands between them.

    Raises:
        CacheError: the log is missing or cannot be read.
    """
    state = _State()
    try:
        log = read_log(path, state.take)
    except OSError as error:
        raise CacheError(f"{path}: the log of this store cannot be read: {error.strerror}. {_WAY_OUT}") from None
    committed = state.commits(log.size - log.torn, ends_whole=log.ends_whole)
    return Replayed(committed, log.lines, log.damaged, log.torn)


class _State:
    """What the lines so far have committed."""

    def __init__(self) -> None:
        self.shards: dict[str, Shard] = {}
        self.listings: dict[Key, ListingLine] = {}
        self.added: set[str] = set()
        self.dropped: dict[str, float] = {}
        self.unfinished: set[str] = set()

    def take(self, entry: dict[str, Any]) -> str:
        """Commit what one line says; what is wrong with it, or ""."""
        try:
            self._commit(entry)
        except (TypeError, ValueError) as error:
            return f"is none that this version reads: {error}"
        return ""

    def _commit(self, entry: dict[str, Any]) -> None:
        if len(entry.keys() & {"add", "drop", "listing"}) != 1:
            raise ValueError(f"it is of no kind, or of several: {', '.join(entry)[:80]}")
        match entry:
            case {"add": dict(given)}:
                shard = Shard(**_keys_of(Shard, given))
                before = self.shards.get(shard.name, shard)
                if replace(before, made=shard.made) != shard:
                    raise ValueError(f"{shard.name} was added before, and was another")
                first = next(iter(self.shards.values()), shard)
                if (shard.dim, shard.dtype) != (first.dim, first.dtype):
                    raise ValueError(f"{shard.name} holds {shard.dim} x {shard.dtype}, unlike those before it")
                self.shards.setdefault(shard.name, shard)
                self.added.add(shard.name)
                self.unfinished.add(shard.name)
                self.dropped.pop(shard.name, None)
            case {"drop": str(name)}:
                at = entry.get("at", 0.0)
                if type(at) not in (int, float) or not 0 <= at < 1 << 48:
                    raise ValueError(f"at is {str(at)[:40]}, expected seconds")
                if self.shards.pop(name, None) is not None:
                    self.dropped[name] = float(at)
                self.listings = {key: line for key, line in self.listings.items() if line.file != name}
            case {"listing": dict(given)}:
                line = ListingLine(**_keys_of(ListingLine, given))
                self.listings[line.key] = line
                self.unfinished.clear()
            case _:
                raise ValueError(f"unknown kind {list(entry)}")

    def commits(self, size: int, *, ends_whole: bool) -> Commits:
        return Commits(
            shards=tuple(self.shards.values()),
            listings=self.listings,
            numbers=len(self.added),
            size=size,
            dropped=self.dropped,
            unfinished=frozenset(self.unfinished & self.shards.keys()),
            ends_whole=ends_whole,
        )


def _keys_of(entry: type[Shard] | type[ListingLine], given: dict[str, Any]) -> dict[str, Any]:
    """The keys of one entry, of which none is missing or unknown, and texts are texts; its class checks the rest.

    Raises:
        ValueError: a key is at fault; the message names it.
    """
    known = {one.name: one for one in fields(entry)}
    if missing := [name for name, one in known.items() if one.default is MISSING and name not in given]:
        raise ValueError(f"{missing[0]} is missing")
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"there is no key {unknown[0][:40]!r}")
    for name, value in given.items():
        if known[name].type is str and not isinstance(value, str):
            raise ValueError(f"{name} is {str(value)[:40]}, expected a text")
    return given


def add(path: Path, shard: Shard) -> None:
    """Commit a published shard."""
    append_bytes(path, _add_line(shard), sync=True)


def drop(path: Path, name: str) -> None:
    """Commit that a shard, or a listing's file, is no longer part of the store."""
    append_bytes(path, seal_line({"drop": name, "at": round(time.time(), 3)}), sync=True)


def name_listing(path: Path, line: ListingLine) -> None:
    """Commit a published listing."""
    append_bytes(path, seal_line({"listing": asdict(line)}), sync=True)


def rewrite(path: Path, lines: Sequence[bytes], shards: Sequence[Shard]) -> None:
    """Publish the log anew: these lines as they were, then these shards. Only under the lock, by repair."""
    data = b"".join(line + b"\n" for line in lines) + b"".join(map(_add_line, shards))
    publish(path, data, replace=True)


def mend_end(path: Path, commits: Commits) -> None:
    """Remove what a crash left of a last line, or end a whole one. Only under the writer's lock."""
    if path.stat().st_size > commits.size:
        truncate_file(path, commits.size)
    if not commits.ends_whole:
        append_bytes(path, b"\n", sync=True)


def _add_line(shard: Shard) -> bytes:
    return seal_line({"add": {name: value for name, value in asdict(shard).items() if value is not None}})


_WAY_OUT = "`featcache verify` lists what is damaged, `featcache repair` mends it."
