"""FeatureStore: the embeddings of one trunk, addressed by the digest of the image."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError, DataError
from featcache.store import commits, listings, publish, shard
from featcache.store.commits import Commits, Key
from featcache.store.index import DigestIndex, Digests, pack
from featcache.store.listings import Extracted
from featcache.store.lock import writing
from featcache.store.shard import Shard
from featcache.store.stat_log import StatLog
from featcache.store.trunk_record import TrunkRecord, read_trunk, write_trunk
from featcache.trunks.spec import TrunkSpec

SHARD_ROWS = 16_384
SHARD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a cache."""

    where: str
    kind: str  # "log", "missing", "size", "damaged", "listing"
    message: str


class FeatureStore:
    """A committed snapshot of one store folder. Open it again to see what was committed since."""

    def __init__(self, root: Path, trunk: TrunkRecord, snapshot: Commits, known: StatLog) -> None:
        self.root, self.trunk, self.known = root, trunk, known
        self._commits = snapshot

    @classmethod
    def open(cls, root: Path, known: StatLog) -> "FeatureStore":
        """Open an existing store.

        Raises:
            CacheError: no store, a damaged one, or one of a newer format.
        """
        trunk = read_trunk(root)
        return cls(root, trunk, commits.read(root / commits.NAME), known)

    @property
    def cache(self) -> Path:
        """The cache folder that this store is a part of."""
        return self.root.parent.parent

    @property
    def name(self) -> str:
        """The name of the store's folder."""
        return self.root.name

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The committed shards, in commit order."""
        return self._commits.shards

    @property
    def listings(self) -> Mapping[Key, commits.ListingLine]:
        """The newest listing of each (data set, variant, split)."""
        return self._commits.listings

    @property
    def rows(self) -> int:
        """Committed embeddings."""
        return sum(part.rows for part in self.shards)

    @property
    def dim(self) -> int | None:
        """The width of an embedding; None while nothing is committed."""
        return self.shards[0].dim if self.shards else None

    def holds(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Whether each digest, (n, 32), has a committed embedding, (n,)."""
        return self._index.find(digests) >= 0

    def load(self, digests: Digests) -> npt.NDArray[np.float32]:
        """The embeddings of these digests, (n, dim), in their order; repeated ones are repeated.

        Raises:
            CacheError: a digest that the store lacks, or a shard that does not match the log.
        """
        which, row = self.places(digests)
        out = np.empty((len(digests), self.dim or 0), dtype=np.float32)
        for number in np.unique(which):
            part = self.shards[number]
            shard.ensure_hash(self._shard_folder, part, self.known)
            to = np.flatnonzero(which == number)
            shard.gather(self._shard_folder, part, row[to], out, to)
        return out

    def places(self, digests: Digests) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where the embeddings of these digests stand: the number of the shard, (n,), and the row in it, (n,).

        Raises:
            CacheError: a digest that the store lacks.
        """
        position = self._index.find(digests)
        if len(position) and position.min() < 0:
            lacking = int((position < 0).sum())
            raise CacheError(
                f"{self.root}: {lacking:,} of {len(digests):,} embeddings are not in this store; "
                f"run `featcache extract` to embed what is missing"
            )
        starts = np.cumsum([0, *(part.rows for part in self.shards)])
        which = np.searchsorted(starts, position, side="right") - 1
        return which, position - starts[which]

    def listing(self, key: Key) -> Extracted:
        """The newest listing of a (data set, variant, split).

        Raises:
            CacheError: there is none, or its file is missing or damaged.
        """
        if key not in self.listings:
            raise CacheError(f"{self.root}: no listing of {'/'.join(key)}; run `featcache extract --split {key[2]}`")
        return listings.read(self.cache, self.listings[key])

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> list[Problem]:
        """Every problem in the committed files, with all hashes; `progress` gets the bytes of each file done."""
        problems = []
        for part in self.shards:
            problems += _problems_of(self._shard_folder, part)
            progress(part.bytes)
        for line in self.listings.values():
            try:
                listings.read(self.cache, line)
            except CacheError as error:
                problems.append(Problem(f"{line.data_set}/{line.variant}/{line.split}", "listing", str(error)))
        return problems

    @contextlib.contextmanager
    def writer(self, *, shard_rows: int = SHARD_ROWS, shard_seconds: float = SHARD_SECONDS) -> Iterator["StoreWriter"]:
        """Hold the store for writing; the writer sees what others committed until now.

        Raises:
            CacheError: another process holds it.
        """
        with writing(self.root):
            log = self.root / commits.NAME
            snapshot = commits.read(log)
            commits.cut_torn_line(log, snapshot)
            publish.sweep(self.root)
            publish.sweep(self._shard_folder)
            store = FeatureStore(self.root, read_trunk(self.root), snapshot, self.known)
            yield StoreWriter(store, shard_rows=shard_rows, shard_seconds=shard_seconds)

    @cached_property
    def _index(self) -> DigestIndex:
        parts = [shard.read_digests(self._shard_folder, part) for part in self.shards]
        return DigestIndex(np.concatenate(parts) if parts else np.empty((0, 32), dtype=np.uint8))

    @property
    def _shard_folder(self) -> Path:
        return self.root / "shards"


@dataclass(slots=True, eq=False)
class StoreWriter:
    """Adds rows to a store, a shard at a time. Only `FeatureStore.writer` makes one, under the lock."""

    store: FeatureStore  # as it was when the lock was taken
    shard_rows: int
    shard_seconds: float
    _digests: list[Digests] = field(default_factory=list)
    _embeddings: list[npt.NDArray[np.float32]] = field(default_factory=list)
    _held: int = 0  # rows that wait for their shard
    _since: float = 0.0  # when the first of them came, seconds

    def append(self, digests: Digests, embeddings: npt.NDArray[np.float32]) -> bool:
        """Take rows; publish and commit a shard when it is full or old enough. True where one was committed."""
        if not self._held:
            self._since = time.monotonic()
        self._digests.append(digests)
        self._embeddings.append(embeddings)
        self._held += len(digests)
        if self._held < self.shard_rows and time.monotonic() - self._since < self.shard_seconds:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Publish and commit the rows that wait.

        Raises:
            MachineError: the disk refuses; these rows are lost, all committed ones stay.
        """
        if not self._held:
            return
        self.store.known.flush()  # before the commit: what is embedded is never read again, whenever the kill comes
        digests, embeddings = np.concatenate(self._digests), np.concatenate(self._embeddings)
        self._digests, self._embeddings, self._held = [], [], 0
        stored = embeddings.astype(self.store.trunk.spec.stored)
        log = self.store.root / commits.NAME
        snapshot = commits.read(log)
        entry, data = shard.build(snapshot.numbers, digests, stored)
        publish.make_folder(self.store.root / "shards")
        publish.publish(self.store.root / "shards" / entry.name, data)
        commits.add(log, entry)

    def commit(self, extracted: Extracted, made: Mapping[str, Any] | None = None) -> None:
        """Record the listing that is now complete, and with `made` where its new rows came from."""
        self.flush()
        if made is not None:
            self.record(made)
        line = listings.write(self.store.cache, extracted)
        log = self.store.root / commits.NAME
        if commits.read(log).listings.get(line.key) != line:
            commits.name_listing(log, line)

    def record(self, made: Mapping[str, Any]) -> None:
        """Add one extract's versions and hardware to trunk.json, unless the last entry says the same."""
        trunk = read_trunk(self.store.root)
        if not trunk.made or trunk.made[-1] != made:
            write_trunk(self.store.root, TrunkRecord(trunk.spec, trunk.asked, (*trunk.made, made)))


def is_recorded(store: FeatureStore, extracted: Extracted) -> bool:
    """Whether this very listing is the newest one in the store's log, so that nothing needs to be written."""
    listing = extracted.listing
    line = store.listings.get((listing.data_set, listing.variant, listing.split))
    if line is None:
        return False
    try:
        there = listings.path_of(store.cache, line).read_bytes()
    except OSError:
        return False
    return there == listings.encode(extracted) and hashlib.sha256(there).hexdigest() == line.sha256


def create(cache: Path, spec: TrunkSpec, *, asked: str, known: StatLog) -> FeatureStore:
    """The store of this spec: the one that is there, or a new empty one."""
    found = [store for store in find(cache, known) if store.trunk.spec == spec]
    if found:
        return found[0]
    slug = re.sub(r"[^a-z0-9_.]+", "_", asked.lower()).strip("_.")[:40]
    root = cache / "stores" / f"{spec.arch}-{slug}-{spec.layer}-{spec.fingerprint()[:8]}"
    publish.make_folder(root / "shards")
    with writing(root):
        if not (root / "trunk.json").exists():
            publish.append(root / commits.NAME, b"", sync=True)
            write_trunk(root, TrunkRecord(spec, asked))
    return FeatureStore.open(root, known)


def find(cache: Path, known: StatLog) -> list[FeatureStore]:
    """All stores in a cache, by name; a folder without its trunk.json was never finished and is none."""
    folders = sorted((cache / "stores").glob("*/trunk.json"))
    return [FeatureStore.open(path.parent, known) for path in folders]


def _problems_of(folder: Path, part: Shard) -> list[Problem]:
    path = folder / part.name
    try:
        handle = shard.open_shard(folder, part)
    except CacheError as error:
        return [Problem(str(path), "size" if path.exists() else "missing", str(error))]
    try:
        digest = shard.hash_of(handle).hex()
    finally:
        os.close(handle)
    if digest != part.sha256:
        return [Problem(str(path), "damaged", f"{path}: its sha256 does not match the log")]
    return []


def check_finite(embeddings: npt.NDArray[np.float32], stored: str) -> npt.NDArray[np.bool_]:
    """Which rows can be stored as they are, (n,): finite, and within what float16 holds where that is asked for."""
    limit = float(np.finfo(stored).max)
    return np.asarray((np.abs(embeddings) <= limit).all(axis=1))  # nan is below nothing


def digests_of(found: Sequence[bytes]) -> Digests:
    """A column of digests; zeros where a file could not be read."""
    try:
        return pack([digest or bytes(32) for digest in found])
    except ValueError:
        raise DataError("a digest has another length than 32 bytes") from None
