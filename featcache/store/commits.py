"""The log of a store, `commits.jsonl`: what is not in it does not exist.

Lines are only ever added, each with its own checksum: `add` (a shard), `drop` (a shard), `listing`. A last line
without its newline was torn by a crash and is ignored; the next writer cuts it off, under the lock. Any other line
that does not match its checksum is damage, and an error.
"""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from featcache.errors import CacheError
from featcache.recipe import NAME as NAME_PATTERN
from featcache.store import publish
from featcache.store.sealed import seal_line, unseal_line
from featcache.store.shard import Shard

NAME = "commits.jsonl"
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


@dataclass(frozen=True, slots=True)
class Commits:
    """A snapshot of the log: what is committed, in order."""

    shards: tuple[Shard, ...] = ()
    listings: dict[Key, ListingLine] = field(default_factory=dict)  # the newest of each key
    numbers: int = 0  # how many shards were ever added: the next one's number
    size: int = 0  # bytes of whole lines


def read(path: Path) -> Commits:
    """The committed state.

    Raises:
        CacheError: the log is missing, or a line before the last is damaged; the message names it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CacheError(f"{path}: the log of this store cannot be read: {error.strerror}") from None
    whole = data.rfind(b"\n") + 1
    shards: dict[str, Shard] = {}
    listings: dict[Key, ListingLine] = {}
    added: set[str] = set()
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        entry = unseal_line(line)
        if entry is None:
            raise CacheError(f"{path}: line {number} is damaged: it does not match its checksum")
        try:
            match entry:
                case {"add": dict(fields)}:
                    shard = Shard(**fields)
                    first = next(iter(shards.values()), shard)
                    if (shard.dim, shard.dtype) != (first.dim, first.dtype):
                        raise ValueError(f"{shard.name} holds {shard.dim} x {shard.dtype}, unlike those before it")
                    shards[shard.name] = shard
                    added.add(shard.name)
                case {"drop": str(name)}:
                    shards.pop(name, None)
                case {"listing": dict(fields)}:
                    line_ = ListingLine(**fields)
                    listings[line_.key] = line_
                case _:
                    raise ValueError(f"unknown kind {list(entry)}")
        except (TypeError, ValueError) as error:
            raise CacheError(f"{path}: line {number} is none that this version reads: {error}") from None
    return Commits(tuple(shards.values()), listings, len(added), whole)


def add(path: Path, shard: Shard) -> None:
    """Commit a published shard."""
    _append(path, {"add": asdict(shard)})


def name_listing(path: Path, line: ListingLine) -> None:
    """Commit a published listing."""
    _append(path, {"listing": asdict(line)})


def cut_torn_line(path: Path, commits: Commits) -> None:
    """Remove what a crash left of a last line. Only under the writer's lock."""
    if path.stat().st_size > commits.size:
        publish.truncate(path, commits.size)


def _append(path: Path, entry: dict[str, Any]) -> None:
    publish.append(path, seal_line(entry), sync=True)
