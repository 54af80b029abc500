"""FeatureStore: the embeddings of one trunk, addressed by the digest of the image."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError, MachineError
from featcache.files import StatLog, hold_store, sweep_scratch
from featcache.machine import run_in_threads, total_memory
from featcache.store import listings, shard
from featcache.store.check import Problem, check_listing, check_shard
from featcache.store.commits import CommitLog, Commits, ListingKey, ListingLine
from featcache.store.index import DigestIndex, Digests, digest_column, group_positions
from featcache.store.listings import ExtractedListing
from featcache.store.shard import Shard
from featcache.store.shard_digests import ShardDigests
from featcache.store.trunk_record import TrunkRecord, read_trunk
from featcache.store.waiting_rows import WaitingRows
from featcache.store.writer import SHARD_ROWS, SHARD_SECONDS, StoreWriter

_T = TypeVar("_T")


class FeatureStore:
    """A committed snapshot of one store folder. Open it again to see what was committed since.

    What it offers: `holds` and `load` for embeddings, by digest; `listing` and `origin` for the listings that were
    extracted; `verify` for what is wrong with its files; and `writer`, which alone adds to it.

    Where `gc` has meanwhile merged shards of the snapshot away, the snapshot is read anew: every embedding that a
    listing names stands in the shards that took their place.
    """

    def __init__(self, root: Path, trunk: TrunkRecord, commits: Commits, stat_log: StatLog) -> None:
        """Hold what was read of a store; `open` reads it. All but the commits are attributes under these names.

        Args:
            root: The store's folder, absolute.
            trunk: What its trunk.json says.
            commits: What its log says.
            stat_log: The memory of the cache, which spares hashing a shard that was hashed before.
        """
        self.root, self.stat_log = root, stat_log
        self._trunk, self._commits = trunk, commits

    @classmethod
    def open(cls, root: Path, stat_log: StatLog) -> "FeatureStore":
        """Return the store in a folder.

        Args:
            root: The store's folder, absolute: `stores/<its name>` in the cache.
            stat_log: The memory of that cache.

        Raises:
            CacheError: no store, a damaged one, or one of a newer format.
        """
        trunk = read_trunk(root)
        return cls(root, trunk, CommitLog(root).read(), stat_log)

    @property
    def trunk(self) -> TrunkRecord:
        """What its trunk.json says."""
        return self._trunk

    @property
    def parts(self) -> "tuple[FeatureStore, ...]":
        """The stores whose embeddings stand side by side in a row of this one: itself alone."""
        return (self,)

    @property
    def fingerprint(self) -> str:
        """What its embeddings were made by: the sha256 of the trunk's spec, 64 hex digits."""
        return self.trunk.spec.fingerprint()

    def publish_record(self) -> None:
        """Do nothing: its record, trunk.json, is there."""

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
        """The folder of the shards."""
        return self.root / "shards"

    @property
    def log(self) -> Commits:
        """What the log said when this snapshot was taken."""
        return self._commits

    @property
    def listings(self) -> Mapping[ListingKey, ListingLine]:
        """The newest listing of each (data set, variant, split)."""
        return self._commits.listings

    @property
    def rows(self) -> int:
        """The number of committed embeddings."""
        return sum(part.rows for part in self.shards)

    @property
    def dim(self) -> int | None:
        """The width of an embedding; None while nothing is committed."""
        return self.shards[0].dim if self.shards else None

    def holds(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Return whether each digest has a committed embedding, (n,) bool.

        Args:
            digests: Of images, (n, 32) uint8.

        Raises:
            CacheError: the digests of a shard do not match the log.
        """
        return self._ask_current(lambda: self._index.find(digests) >= 0)

    def load(self, digests: Digests) -> npt.NDArray[np.float32]:
        """Return the embeddings of these digests, (n, dim) float32, in their order; repeated ones are repeated.

        Args:
            digests: Of images, (n, 32) uint8.

        Raises:
            CacheError: a digest that the store lacks, or a shard that does not match the log.
            MachineError: they do not fit into memory; or stat.log, the memory of the cache, cannot be read.
        """
        needed = len(digests) * (self.dim or 0) * 4
        if needed > total_memory():  # a listing of a few bytes a row can ask for a quarter of a megabyte a row
            raise MachineError(
                f"{self.root}: {needed / 1e9:,.1f} GB of embeddings do not fit into this machine's memory"
            )
        out = np.empty((len(digests), self.dim or 0), dtype=np.float32)
        self.load_into(digests, out)
        return out

    def load_into(self, digests: Digests, out: npt.NDArray[np.float32]) -> None:
        """Write what `load` returns into an array.

        Args:
            digests: Of images, (n, 32) uint8.
            out: (n, dim) float32; it may be some columns of a wider array.

        Raises:
            CacheError: as `load`.
            MachineError: stat.log, the memory of the cache, cannot be read.
        """

        def load_current() -> None:
            numbers, rows = self.locate(digests)

            def read(group: tuple[int, npt.NDArray[np.int64]]) -> None:
                part, positions = self.shards[group[0]], group[1]
                shard.check_shard_hash(self.shard_folder, part, self.stat_log)
                shard.gather_rows(self.shard_folder, part, rows[positions], out, positions)

            run_in_threads(read, group_positions(numbers))

        self._ask_current(load_current)

    def locate(self, digests: Digests) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where the embeddings of these digests stand: the number of the shard, (n,), and the row in it, (n,).

        Args:
            digests: Of images, (n, 32) uint8.

        Raises:
            CacheError: a digest that the store lacks, or digests of a shard that do not match the log.
        """
        position = self._index.find(digests)
        if len(position) and position.min() < 0:
            lacking = int((position < 0).sum())
            raise CacheError(
                f"{self.root}: {lacking:,} of {len(digests):,} embeddings are not in this store; "
                f"run `featcache extract` to embed what is missing"
            )
        numbers = np.searchsorted(self._index.starts, position, side="right") - 1
        return numbers, position - self._index.starts[numbers]

    def find_shard(self, digest: bytes) -> Shard | None:
        """Return the shard that holds the embedding of an image; None where none does.

        Args:
            digest: The sha256 of the image, 32 bytes.

        Raises:
            CacheError: the digests of a shard do not match the log.
            DataError: `digest` has another length.
        """
        position = self._index.find(digest_column([digest]))[0]
        ends = np.cumsum([part.rows for part in self.shards])
        return None if position < 0 else self.shards[int(np.searchsorted(ends, position, side="right"))]

    def listing(self, key: ListingKey) -> ExtractedListing:
        """Return the newest listing of a (data set, variant, split).

        Args:
            key: The names of these three, in this order.

        Raises:
            CacheError: there is none, or its file is missing or damaged.
        """
        return listings.read_listing(self.cache, self._listing_line(key))

    def origin(self, key: ListingKey) -> tuple[str, dict[str, str]]:
        """Return the folder that a listing was extracted from, and how it was laid out (see `Listing.settings`).

        Its rows are not looked at, which spares most of the time for a long one.

        Args:
            key: The names of its data set, variant and split.

        Raises:
            CacheError: as `listing`.
        """
        return listings.read_listing_origin(self.cache, self._listing_line(key))

    def _listing_line(self, key: ListingKey) -> ListingLine:
        """Return what the log says of a listing."""
        if key not in self.listings:
            raise CacheError(f"{self.root}: no listing of {'/'.join(key)}; run `featcache extract --split {key[2]}`")
        return self.listings[key]

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> list[Problem]:
        """Return every problem in the committed files, all hashes included; an empty list is a clean bill.

        Args:
            progress: Gets the bytes of each file that was looked at.
        """
        problems = [check_shard(self.shard_folder, part, progress=progress) for part in self.shards]
        problems += [check_listing(self.cache, line) for line in self.listings.values()]
        return list(itertools.chain.from_iterable(problems))

    @contextlib.contextmanager
    def writer(
        self, *, shard_rows: int = SHARD_ROWS, shard_seconds: float = SHARD_SECONDS, wait: float = 0.0,
        waiting: Callable[[str], None] = lambda _: None,
    ) -> Iterator[StoreWriter]:  # fmt: skip
        """Hold the store for writing during the block.

        Args:
            shard_rows: How many rows make a shard full.
            shard_seconds: How old the first row of a shard may become before it is committed.
            wait: Seconds to wait for another process that holds the store.
            waiting: Told once who is waited for.

        Yields:
            Its writer, which sees what others committed until now.

        Raises:
            CacheError: another process still holds it, or its log is damaged.
            UsageError: `wait` is below 0.
            MachineError: the disk refuses.
        """
        with hold_store(self.root, wait=wait, waiting=waiting):
            log = CommitLog(self.root)
            commits = log.read()
            log.repair_end(commits)
            sweep_scratch(self.root)
            sweep_scratch(self.shard_folder)
            store = FeatureStore(self.root, read_trunk(self.root), commits, self.stat_log)
            yield StoreWriter(store, WaitingRows(shard_rows, shard_seconds))

    @cached_property
    def _index(self) -> DigestIndex:
        """Which row holds a digest, of all shards together."""
        return DigestIndex([ShardDigests(self.shard_folder, part) for part in self.shards])

    def _ask_current(self, ask: Callable[[], _T]) -> _T:
        """Return the answer of this snapshot; of the newest one, where shards of this one have been dropped."""
        try:
            return ask()
        except CacheError as error:
            try:
                newest = CommitLog(self.root).read()
            except CacheError:
                raise error from None
            if not any(part.name in newest.dropped for part in self.shards):
                raise
        self._commits = newest
        self.__dict__.pop("_index", None)
        return ask()
