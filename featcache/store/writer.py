"""StoreWriter: adds rows to a store, a shard at a time; and whether a listing needs to be written at all."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError, MachineError
from featcache.files import FileStat, close_file, hash_cache_file, make_folder, publish, read_file_stat
from featcache.store import listings, shard
from featcache.store.commits import CommitLog
from featcache.store.index import Digests
from featcache.store.listings import ExtractedListing
from featcache.store.shard import Shard
from featcache.store.trunk_record import read_trunk, write_trunk
from featcache.store.waiting_rows import WaitingRows

if TYPE_CHECKING:
    from featcache.store.store import FeatureStore

SHARD_ROWS = 16_384
SHARD_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class StoreWriter:
    """Adds rows to a store, a shard at a time. Only `FeatureStore.writer` makes one, under the lock.

    Attributes:
        store: The store as it was when the lock was taken.
        waiting: Rows that wait for their shard, and after how many seconds they wait no longer: what a kill can cost.
    """

    store: "FeatureStore"
    waiting: WaitingRows
    _made: int | None = None  # which entry of trunk.json's `made` computes them
    # The log's stat behind this writer's last line, and the number of the shard after that one.
    _log_seen: tuple[FileStat | None, int] = (None, 0)
    # Why the disk refused a shard. Nothing more is written then: a later line of the log could reach the disk where the
    # one before it, whose fsync failed, did not.
    _disk_error: MachineError | None = None
    _adopted: int = 0  # shards of other processes that were committed
    _has_recorded: bool = False  # whether trunk.json's `made` has an entry of this writer

    def append(self, digests: Digests, embeddings: npt.NDArray[np.float32]) -> bool:
        """Take rows; publish and commit a shard when it is full or old enough.

        Args:
            digests: Of the images, (rows, 32) uint8.
            embeddings: Of the same images, (rows, dim) float32.

        Returns:
            Whether a shard was committed.

        Raises:
            DataError: a row is not finite, or does not fit into the store's type; no row of the shard is stored.
            CacheError: the store's log has been damaged.
            MachineError: the disk refuses, or has refused before: nothing more is written then.
        """
        if self._disk_error is not None:
            raise self._disk_error
        if not self.waiting.add(digests, embeddings):
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Publish and commit the rows that wait. After Ctrl-C they still wait, and another flush commits them.

        Raises:
            DataError, CacheError: as `append`.
            MachineError: the disk refuses; these rows are lost, all committed ones stay.
        """
        if not self.waiting:
            return
        try:
            self._publish(*self.waiting.joined())
        except Exception as error:
            self.waiting.clear()
            self._disk_error = error if isinstance(error, MachineError) else None
            raise
        self.waiting.clear()

    def _publish(self, digests: Digests, embeddings: npt.NDArray[np.float32]) -> None:
        """Publish rows as one shard, and commit it."""
        self.store.stat_log.flush()  # before the commit: what is embedded is never read again, whenever the kill comes
        stored = to_stored(embeddings, self.store.trunk.spec.stored)
        log = CommitLog(self.store.root)
        number = self._next_number(log)
        entry, data = shard.build_shard(number, digests, stored, made=self._made)
        make_folder(self.store.shard_folder)
        publish(self.store.shard_folder / entry.name, data)
        log.add(entry)
        self._log_seen = read_file_stat(str(log.path)), number + 1

    def _next_number(self, log: CommitLog) -> int:
        """Return the number of the next shard.

        The log is read only where it is not as this writer left it: else a run would read it once a shard, and the
        time for that would grow with the square of the shards.
        """
        status, number = self._log_seen
        unchanged = status is not None and status == read_file_stat(str(log.path))
        return number if unchanged else log.read().shards_ever_added

    def adopt(self, entry: Shard, *, made: int) -> None:
        """Commit a shard that another process has published.

        Args:
            entry: What that process's `ShardPublisher` says of it.
            made: What `record_provenance` returned for what computed it.

        Raises:
            CacheError: its file is not here, or not whole: that process writes to another folder.
            MachineError: the disk refuses, or has refused before: nothing more is written then.
        """
        if self._disk_error is not None:
            raise self._disk_error
        close_file(shard.open_shard(self.store.shard_folder, entry))
        self.store.stat_log.flush()  # as `_publish` does
        try:
            CommitLog(self.store.root).add(replace(entry, made=made))
        except MachineError as error:
            self._disk_error = error
            raise
        self._adopted += 1

    def has(self, entry: Shard) -> bool:
        """Return whether a shard is in the log as it is now.

        Args:
            entry: As for `adopt`.

        Raises:
            CacheError: the log cannot be read.
        """
        return any(shard.name == entry.name for shard in CommitLog(self.store.root).read().shards)

    @property
    def next_number(self) -> int:
        """The number of the next shard, where other processes publish them all.

        Several that are published at the same time have the same one: no shard that a lost worker leaves behind has a
        number above that of the next.
        """
        return self.store.log.shards_ever_added + self._adopted

    def commit(self, extracted: ExtractedListing) -> None:
        """Commit the rows that wait, and then the listing, which is complete with them.

        Args:
            extracted: The listing; each of its rows has an embedding, here or in the store, or a reason why not.

        Raises:
            DataError, CacheError, MachineError: as `flush`.
        """
        self.flush()
        line = listings.write_listing(self.store.cache, extracted)
        log = CommitLog(self.store.root)
        if log.read().listings.get(line.key) != line:
            log.name_listing(line)

    def record_provenance(self, entry: Mapping[str, Any], drift: Mapping[str, Any] | None = None) -> int:
        """Note in trunk.json, before the first row, what computes the rows to come. The same is noted once.

        Of a store without rows nothing was computed yet: its older entries go.

        Args:
            entry: Versions and hardware.
            drift: How the rows to come were compared with those that the store holds; None: they were not.

        Returns:
            The place of the entry, which a shard's entry in the log names as `made`.

        Raises:
            DataError, CacheError, MachineError: as `flush`.
        """
        self.flush()
        root = self.store.root
        trunk = read_trunk(root)
        entries = list(trunk.provenance) if self._has_recorded or CommitLog(root).read().shards else []
        same = [number for number, other in enumerate(entries) if is_same_provenance(other, entry)]
        self._made = same[0] if same else len(entries)
        written = {**entry} if drift is None else {**entry, "drift": {**drift}}
        if not same:
            entries.append(written)
        elif drift is not None:
            entries[self._made] = written
        if tuple(entries) != trunk.provenance:
            write_trunk(root, replace(trunk, provenance=tuple(entries)))
        self._has_recorded = True
        return self._made


def is_same_provenance(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries of trunk.json's `made` name the same versions and hardware, whatever was compared then.

    Args:
        entry: What a trunk's `provenance` returns, and what trunk.json has; its key `drift` does not count.
        other: The entry that it is compared with.
    """
    return {**entry, "drift": None} == {**other, "drift": None}


def as_recorded(store: "FeatureStore", extracted: ExtractedListing) -> ExtractedListing:
    """Return the listing in the form in which the store's newest one was written, with or without its data settings.

    Listings of earlier versions were written without. Where the rows are the same as in such a listing, it is used
    again, byte for byte, so that the heads that were trained on it keep their names.

    Args:
        store: The store as it is committed now.
        extracted: The listing, with its data settings.
    """
    bare = replace(extracted, listing=replace(extracted.listing, settings={}))
    return bare if is_recorded(store, bare) else extracted


def is_recorded(store: "FeatureStore", extracted: ExtractedListing) -> bool:
    """Whether this very listing is the newest one in the store's log, so that nothing needs to be written.

    Args:
        store: The store as it is committed now.
        extracted: The listing in the form in which it would be written.
    """
    listing = extracted.listing
    line = store.listings.get((listing.data_set, listing.variant, listing.split))
    if line is None:
        return False
    if listings.hash_listing(extracted) != line.sha256:
        return False
    try:
        return hash_cache_file(listings.listing_path(store.cache, line)) == line.sha256
    except OSError:
        return False


def to_stored(embeddings: npt.NDArray[np.float32], stored: str) -> npt.NDArray[Any]:
    """Return the rows in the store's type, which must hold them: a cast of 1e5 to float16 would be inf in silence.

    Args:
        embeddings: (n, dim) float32.
        stored: The store's type, "float32" or "float16".

    Raises:
        DataError: a row is not finite, or too large.
    """
    if not find_storable(embeddings, stored).all():
        raise DataError(f"an embedding is not finite, or too large for {stored}; nothing of this shard was stored")
    return embeddings.astype(stored)


def find_storable(embeddings: npt.NDArray[np.float32], stored: str) -> npt.NDArray[np.bool_]:
    """Return which rows a store can hold, (n,) bool: finite ones, and of float16 those within its range.

    Args:
        embeddings: (n, dim) float32.
        stored: The store's type, "float32" or "float16".
    """
    limit = float(np.finfo(stored).max)
    return np.asarray((np.abs(embeddings) <= limit).all(axis=1))  # nan is below nothing
