"""FeatureStore: the embeddings of one trunk, addressed by the digest of the image."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError, MachineError
from featcache.files import StatLog, hash_regular, sweep_scratch, writing
from featcache.store import commits, listings, shard
from featcache.store.check import Problem, check_listing, check_shard
from featcache.store.commits import Commits, Key
from featcache.store.index import DigestIndex, Digests, digests_of, groups, in_threads
from featcache.store.listings import Extracted
from featcache.store.shard import Shard
from featcache.store.trunk_record import TrunkRecord, read_trunk
from featcache.store.writer import SHARD_ROWS, SHARD_SECONDS, StoreWriter

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
        return cls(root, trunk, commits.read_commits(root / commits.LOG_NAME), known)

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
        return listings.read_listing(self.cache, self.listings[key])

    def origin(self, key: Key) -> tuple[str, dict[str, str]]:
        """The folder that a listing was extracted from, and how it was laid out (see `listing.settings_of`).

        Raises:
            CacheError: as `listing`.
        """
        if key not in self.listings:
            raise CacheError(f"{self.root}: no listing of {'/'.join(key)}; run `featcache extract --split {key[2]}`")
        return listings.read_origin(self.cache, self.listings[key])

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
    ) -> Iterator[StoreWriter]:
        """Hold the store for writing; the writer sees what others committed until now. `wait`: see `lock.writing`.

        Raises:
            CacheError: another process holds it.
        """
        with writing(self.root, wait=wait, waiting=waiting):
            log = self.root / commits.LOG_NAME
            snapshot = commits.read_commits(log)
            commits.mend_end(log, snapshot)
            sweep_scratch(self.root)
            sweep_scratch(self.shard_folder)
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
                newest = commits.read_commits(self.root / commits.LOG_NAME)
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


def recorded_form(store: FeatureStore, extracted: Extracted) -> Extracted:
    """The same, without its data settings where that is the newest listing already.

    Listings of earlier versions have none. A listing whose rows are what they were keeps its bytes, and with them the
    names of the heads that were trained on it.
    """
    bare = replace(extracted, listing=replace(extracted.listing, settings={}))
    return bare if is_recorded(store, bare) else extracted


def is_recorded(store: FeatureStore, extracted: Extracted) -> bool:
    """Whether this very listing is the newest one in the store's log, so that nothing needs to be written."""
    listing = extracted.listing
    line = store.listings.get((listing.data_set, listing.variant, listing.split))
    if line is None:
        return False
    if hashlib.sha256(listings.encode(extracted)).hexdigest() != line.sha256:
        return False
    try:
        return hash_regular(listings.listing_path(store.cache, line)) == line.sha256
    except OSError:
        return False


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
