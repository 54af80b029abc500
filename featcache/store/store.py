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
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError, DataError, MachineError
from featcache.store import commits, listings, publish, shard
from featcache.store.check import Problem, check_listing, check_shard
from featcache.store.commits import Commits, Key
from featcache.store.index import DigestIndex, Digests, groups, in_threads, pack
from featcache.store.listings import Extracted
from featcache.store.lock import writing
from featcache.store.regular import LISTING, read_regular
from featcache.store.shard import Shard
from featcache.store.stat_log import StatLog
from featcache.store.trunk_record import TAIL, TRUNK, TrunkRecord, read_trunk, write_trunk
from featcache.trunks.spec import TrunkSpec

SHARD_ROWS = 16_384
SHARD_SECONDS = 60.0
_T = TypeVar("_T")


class FeatureStore:
    """A committed snapshot of one store folder. Open it again to see what was committed since.

    Where `gc` has meanwhile merged shards of the snapshot away, the snapshot is read anew: every embedding that a
    listing names stands in the shards that took their place.
    """

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
    def shard_folder(self) -> Path:
        """Where the shards stand."""
        return self.root / "shards"

    @property
    def log(self) -> Commits:
        """What the log says, as it was when this snapshot was taken."""
        return self._commits

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
        return self._current(lambda: self._index.find(digests) >= 0)

    def load(self, digests: Digests) -> npt.NDArray[np.float32]:
        """The embeddings of these digests, (n, dim), in their order; repeated ones are repeated.

        Raises:
            CacheError: a digest that the store lacks, or a shard that does not match the log.
        """
        needed = len(digests) * (self.dim or 0) * 4
        if needed > _memory():  # a listing of a few bytes a row can ask for a quarter of a megabyte a row
            raise MachineError(
                f"{self.root}: {needed / 1e9:,.1f} GB of embeddings do not fit into this machine's memory"
            )
        return self._current(lambda: self._load(digests))

    def _load(self, digests: Digests) -> npt.NDArray[np.float32]:
        which, row = self.places(digests)
        out = np.empty((len(digests), self.dim or 0), dtype=np.float32)

        def read(group: tuple[int, npt.NDArray[np.int64]]) -> None:
            part, to = self.shards[group[0]], group[1]
            shard.ensure_hash(self.shard_folder, part, self.known)
            shard.gather(self.shard_folder, part, row[to], out, to)

        in_threads(read, groups(which))
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
        which = np.searchsorted(self._index.starts, position, side="right") - 1
        return which, position - self._index.starts[which]

    def shard_of(self, digest: bytes) -> Shard | None:
        """The shard that holds the embedding of an image; None where none does."""
        position = self._index.find(digests_of([digest]))[0]
        ends = np.cumsum([part.rows for part in self.shards])
        return None if position < 0 else self.shards[int(np.searchsorted(ends, position, side="right"))]

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
            problems += check_shard(self.shard_folder, part, progress=progress)
        for line in self.listings.values():
            problems += check_listing(self.cache, line)
        return problems

    @contextlib.contextmanager
    def writer(
        self,
        *,
        shard_rows: int = SHARD_ROWS,
        shard_seconds: float = SHARD_SECONDS,
        wait: float = 0.0,
        waiting: Callable[[str], None] = lambda _: None,
    ) -> Iterator["StoreWriter"]:
        """Hold the store for writing; the writer sees what others committed until now. `wait`: see `lock.writing`.

        Raises:
            CacheError: another process holds it.
        """
        with writing(self.root, wait=wait, waiting=waiting):
            log = self.root / commits.NAME
            snapshot = commits.read(log)
            commits.mend_end(log, snapshot)
            publish.sweep(self.root)
            publish.sweep(self.shard_folder)
            store = FeatureStore(self.root, read_trunk(self.root), snapshot, self.known)
            yield StoreWriter(store, shard_rows=shard_rows, shard_seconds=shard_seconds)

    @cached_property
    def _index(self) -> DigestIndex:
        return DigestIndex([_InShard(self.shard_folder, part) for part in self.shards])

    def _current(self, ask: Callable[[], _T]) -> _T:
        """The answer of this snapshot; of the newest one, where shards of this one have been dropped."""
        try:
            return ask()
        except CacheError as error:
            try:
                newest = commits.read(self.root / commits.NAME)
            except CacheError:
                raise error from None
            if not any(part.name in newest.dropped for part in self.shards):
                raise
        self._commits = newest
        self.__dict__.pop("_index", None)
        return ask()


@dataclass(frozen=True, slots=True, eq=False)
class _InShard:
    """A shard's digests, where they stand: read once for their hash, and again where a question could mean them."""

    folder: Path
    shard: Shard

    def __len__(self) -> int:
        return self.shard.rows

    def whole(self) -> Digests:
        """All, checked against the log."""
        return shard.read_digests(self.folder, self.shard)

    def take(self, rows: npt.NDArray[np.int64]) -> Digests:
        """Some; a wrong one is none that anybody asks for."""
        return shard.take_digests(self.folder, self.shard, rows)


@dataclass(slots=True, eq=False)
class StoreWriter:
    """Adds rows to a store, a shard at a time. Only `FeatureStore.writer` makes one, under the lock."""

    store: FeatureStore  # as it was when the lock was taken
    shard_rows: int
    shard_seconds: float
    _digests: list[Digests] = field(default_factory=list)
    _embeddings: list[npt.NDArray[np.float32]] = field(default_factory=list)
    _held: int = 0  # rows that wait for their shard
    _made: int | None = None  # where trunk.json says what computes them
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
        stored = _as_stored(embeddings, self.store.trunk.spec.stored)
        log = self.store.root / commits.NAME
        snapshot = commits.read(log)
        entry, data = shard.build(snapshot.numbers, digests, stored, made=self._made)
        publish.make_folder(self.store.shard_folder)
        publish.publish(self.store.shard_folder / entry.name, data)
        commits.add(log, entry)

    def commit(self, extracted: Extracted) -> None:
        """Record the listing that is now complete."""
        self.flush()
        line = listings.write(self.store.cache, extracted)
        log = self.store.root / commits.NAME
        if commits.read(log).listings.get(line.key) != line:
            commits.name_listing(log, line)

    def record(self, made: Mapping[str, Any], drift: Mapping[str, Any] | None = None) -> None:
        """Before the first row: note in trunk.json what computes the rows to come, and how it was held to the old ones.

        The same versions and hardware are noted once. Of a store without rows nothing was made yet.
        """
        self.flush()
        root = self.store.root
        trunk = read_trunk(root)
        entries = list(trunk.made) if commits.read(root / commits.NAME).shards else []
        places = [place for place, entry in enumerate(entries) if same_making(entry, made)]
        self._made = places[0] if places else len(entries)
        noted = {**made} if drift is None else {**made, "drift": {**drift}}
        if not places:
            entries.append(noted)
        elif drift is not None:
            entries[self._made] = noted
        if tuple(entries) != trunk.made:
            write_trunk(root, TrunkRecord(trunk.spec, trunk.asked, tuple(entries)))


def is_recorded(store: FeatureStore, extracted: Extracted) -> bool:
    """Whether this very listing is the newest one in the store's log, so that nothing needs to be written."""
    listing = extracted.listing
    line = store.listings.get((listing.data_set, listing.variant, listing.split))
    if line is None:
        return False
    try:
        there = read_regular(listings.path_of(store.cache, line), LISTING)
    except OSError:
        return False
    return there == listings.encode(extracted) and hashlib.sha256(there).hexdigest() == line.sha256


def create(
    cache: Path,
    spec: TrunkSpec,
    *,
    asked: str,
    known: StatLog,
    wait: float = 0.0,
    waiting: Callable[[str], None] = lambda _: None,
) -> FeatureStore:
    """The store of this spec: the one that is there, or a new empty one.

    Raises:
        CacheError: its folder is damaged, or another process is making it.
    """
    found = [store for store in find(cache, known) if store.trunk.spec == spec]
    if found:
        return found[0]
    slug = re.sub(r"[^a-z0-9_.]+", "_", asked.lower()).strip("_.")[:40]
    tail = spec.fingerprint()[:TAIL]
    begun = sorted((cache / "stores").glob(f"*-{tail}"))  # a run was killed there, or repair took its trunk.json out
    root = begun[0] if begun else cache / "stores" / f"{spec.arch}-{slug}-{spec.layer}-{tail}"
    publish.make_folder(root / "shards")
    with writing(root, wait=wait, waiting=waiting):
        if not (root / TRUNK).exists():
            if not (root / commits.NAME).exists():  # durable before there is a trunk.json, which makes it a store
                publish.publish(root / commits.NAME, b"", replace=True)
            write_trunk(root, TrunkRecord(spec, asked))
    made = FeatureStore.open(root, known)
    if made.trunk.spec != spec:
        raise CacheError(f"{root}: the folder of this trunk's store holds another trunk's; name another --cache")
    return made


def find(cache: Path, known: StatLog) -> list[FeatureStore]:
    """The stores of a cache that can be opened, by name; `broken` tells of the others."""
    return [found for found in _survey(cache, known) if isinstance(found, FeatureStore)]


def broken(cache: Path, known: StatLog) -> dict[str, CacheError]:
    """The stores of a cache that cannot be opened, by name, with what is wrong. They stop nobody who needs another."""
    return {found[0].name: found[1] for found in _survey(cache, known) if isinstance(found, tuple)}


def _survey(cache: Path, known: StatLog) -> Iterator[FeatureStore | tuple[Path, CacheError]]:
    """Every store; a folder without its trunk.json was never finished and is none."""
    for path in sorted((cache / "stores").glob(f"*/{TRUNK}")):
        try:
            yield FeatureStore.open(path.parent, known)
        except CacheError as error:
            yield path.parent, error


def same_making(entry: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether two notes in trunk.json name the same versions and hardware, whatever was compared then."""
    return {**entry, "drift": None} == {**made, "drift": None}


def _as_stored(embeddings: npt.NDArray[np.float32], stored: str) -> npt.NDArray[Any]:
    """The rows in the store's type, which must hold them: a cast of 1e5 to float16 would be inf without a word."""
    if not check_finite(embeddings, stored).all():
        raise DataError(f"an embedding is not finite, or too large for {stored}; nothing of this shard was stored")
    return embeddings.astype(stored)


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


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
