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
from featcache.files import NAME_PATTERN as NAME_PATTERN
from featcache.files import AppendLog, publish, seal_line
from featcache.store.shard import Shard

LOG_NAME = "commits.jsonl"
ListingKey = tuple[str, str, str]  # data set, variant, split


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
            raise ValueError(f"{self.key} is not a valid name of a listing")

    @property
    def key(self) -> ListingKey:
        """Data set, variant and split: a newer line of the same key replaces this one."""
        return self.data_set, self.variant, self.split

    @property
    def file(self) -> str:
        """The file below `cache/listings/`; what a `drop` line calls it."""
        return f"{self.data_set}/{self.variant}/{self.split}-{self.sha256[:8]}.h5"


@dataclass(frozen=True, slots=True)
class Commits:
    """A snapshot of the log: what is committed, in order."""

    shards: tuple[Shard, ...] = ()
    listings: dict[ListingKey, ListingLine] = field(default_factory=dict)  # the newest of each key
    shards_ever_added: int = 0  # the number of the next one
    size: int = 0  # bytes of committed lines
    dropped: dict[str, float] = field(default_factory=dict)  # shards -> when they were dropped, seconds; 0.0: unknown
    unfinished: frozenset[str] = frozenset()  # shards that were added after the last listing


@dataclass(frozen=True, slots=True)
class ReplayedLog:
    """A log as far as it holds."""

    commits: Commits  # of the lines that hold
    lines: tuple[bytes, ...]  # those lines, without their newlines
    damaged: tuple[tuple[int, str], ...]  # the number of each other line, from 1, and what is wrong with it
    torn: int  # bytes of a last line that a crash cut short


class CommitLog:
    """The log of the store in one folder. Whoever adds to it holds the store's lock."""

    def __init__(self, root: Path) -> None:
        """Name the log of a store; nothing is read yet.

        Args:
            root: The store's folder.
        """
        self.path = root / LOG_NAME
        self._lines = AppendLog(self.path)

    def create(self) -> None:
        """Publish an empty log, unless one stands there.

        Raises:
            MachineError: the disk refuses.
        """
        if not self.path.exists():
            publish(self.path, b"", replace=True)

    def read(self) -> Commits:
        """Return what is committed.

        Raises:
            CacheError: the log is missing, or a line is damaged; the message names it.
        """
        replayed = self.replay()
        for number, problem in replayed.damaged:
            raise CacheError(f"{self.path}: line {number} {problem}. {_WAY_OUT}")
        return replayed.commits

    def replay(self) -> ReplayedLog:
        """Return what is committed by the lines that hold, whatever stands between them.

        Raises:
            CacheError: the log is missing or cannot be read.
        """
        state = _State()
        try:
            content = self._lines.read(state.take)
        except OSError as error:
            raise CacheError(
                f"{self.path}: the log of this store cannot be read: {error.strerror}. {_WAY_OUT}"
            ) from None
        return ReplayedLog(state.commits(content.size), content.lines, content.damaged, content.torn)

    def repair_end(self, commits: Commits) -> None:
        """Remove what a crash left of a last line, or end a whole one; the first thing that a writer does.

        Args:
            commits: What was read of the log under the lock.

        Raises:
            MachineError: the disk refuses.
        """
        self._lines.repair_end(commits.size)

    def add(self, shard: Shard) -> None:
        """Commit a published shard.

        Args:
            shard: What the log is to say of it, as `build_shard` returned it.

        Raises:
            MachineError: the disk refuses; the line may stand or not.
        """
        self._lines.append(_seal_added(shard))

    def drop(self, name: str) -> None:
        """Commit that a shard, or a listing's file, is no longer part of the store.

        Args:
            name: `Shard.name`, or `ListingLine.file`.

        Raises:
            MachineError: the disk refuses; the line may stand or not.
        """
        self._lines.append(seal_line({"drop": name, "at": round(time.time(), 3)}))

    def name_listing(self, line: ListingLine) -> None:
        """Commit a published listing.

        Args:
            line: What the log is to say of it, as `write_listing` returned it.

        Raises:
            MachineError: the disk refuses; the line may stand or not.
        """
        self._lines.append(seal_line({"listing": asdict(line)}))

    def rewrite(self, lines: Sequence[bytes], shards: Sequence[Shard]) -> None:
        """Publish the log anew: these lines as they were, then these shards. Only repair does so.

        Args:
            lines: Those that hold, without their newlines, as `replay` returns them.
            shards: Published shards that the log is to have too.

        Raises:
            MachineError: the disk refuses; the old log stands.
        """
        self._lines.rewrite([*lines, *(_seal_added(shard).removesuffix(b"\n") for shard in shards)])


class _State:
    """What the lines so far have committed."""

    def __init__(self) -> None:
        self.shards: dict[str, Shard] = {}
        self.listings: dict[ListingKey, ListingLine] = {}
        self.added: set[str] = set()
        self.dropped: dict[str, float] = {}
        self.unfinished: set[str] = set()

    def take(self, entry: dict[str, Any]) -> str:
        """Commit what one line says, and return what is wrong with it, or ""."""
        try:
            self._commit(entry)
        except (TypeError, ValueError) as error:
            return f"cannot be read by this version: {error}"
        return ""

    def _commit(self, entry: dict[str, Any]) -> None:
        """Commit what one line says; a TypeError or ValueError says what is wrong with it."""
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

    def commits(self, size: int) -> Commits:
        """Return the snapshot after `size` bytes of lines."""
        return Commits(
            shards=tuple(self.shards.values()),
            listings=self.listings,
            shards_ever_added=len(self.added),
            size=size,
            dropped=self.dropped,
            unfinished=frozenset(self.unfinished & self.shards.keys()),
        )


def _keys_of(entry: type[Shard] | type[ListingLine], given: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of an entry, of which none is missing or unknown, and texts are texts; its class checks the rest.

    Raises:
        ValueError: a key is at fault; the message names it.
    """
    keys = {key.name: key for key in fields(entry)}
    if missing := [name for name, key in keys.items() if key.default is MISSING and name not in given]:
        raise ValueError(f"{missing[0]} is missing")
    if unknown := [name for name in given if name not in keys]:
        raise ValueError(f"there is no key {unknown[0][:40]!r}")
    for name, value in given.items():
        if keys[name].type is str and not isinstance(value, str):
            raise ValueError(f"{name} is {str(value)[:40]}, expected a text")
    return given


def _seal_added(shard: Shard) -> bytes:
    """Return the line that commits a shard."""
    return seal_line({"add": {name: value for name, value in asdict(shard).items() if value is not None}})


_WAY_OUT = "`featcache verify` lists what is damaged, `featcache repair` fixes it."
