"""StoreWriter: adds rows to a store, a shard at a time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError, MachineError
from featcache.files import make_folder, publish
from featcache.store import commits, listings, shard
from featcache.store.index import Digests
from featcache.store.listings import Extracted
from featcache.store.trunk_record import read_trunk, write_trunk

if TYPE_CHECKING:
    from featcache.store.store import FeatureStore

SHARD_ROWS = 16_384
SHARD_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class StoreWriter:
    """Adds rows to a store, a shard at a time. Only `FeatureStore.writer` makes one, under the lock."""

    store: "FeatureStore"  # as it was when the lock was taken
    shard_rows: int
    shard_seconds: float
    # Rows that wait for their shard. One list, so that Ctrl-C finds digests and embeddings of the same rows.
    _waiting: list[tuple[Digests, npt.NDArray[np.float32]]] = field(default_factory=list)
    _made: int | None = None  # where trunk.json says what computes them
    _since: float = 0.0  # when the first of them came, seconds
    _refused: MachineError | None = None  # by the disk: a line behind one whose fsync failed could outlive it

    def append(self, digests: Digests, embeddings: npt.NDArray[np.float32]) -> bool:
        """Take rows; publish and commit a shard when it is full or old enough. True where one was committed.

        Raises:
            MachineError: the disk refuses, or has refused before: nothing more is written then.
        """
        if self._refused is not None:
            raise self._refused
        if not len(digests):
            return False
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((digests, embeddings))
        held = sum(len(rows) for rows, _ in self._waiting)
        if held < self.shard_rows and time.monotonic() - self._since < self.shard_seconds:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Publish and commit the rows that wait. After Ctrl-C they still wait, and another flush commits them.

        Raises:
            MachineError: the disk refuses; these rows are lost, all committed ones stay.
        """
        if not self._waiting:
            return
        try:
            self._publish(*map(np.concatenate, zip(*self._waiting, strict=True)))
        except Exception as error:
            self._waiting = []
            self._refused = error if isinstance(error, MachineError) else None
            raise
        self._waiting = []

    def _publish(self, digests: Digests, embeddings: npt.NDArray[np.float32]) -> None:
        self.store.known.flush()  # before the commit: what is embedded is never read again, whenever the kill comes
        stored = _as_stored(embeddings, self.store.trunk.spec.stored)
        log = self.store.root / commits.LOG_NAME
        snapshot = commits.read_commits(log)
        entry, data = shard.build(snapshot.numbers, digests, stored, made=self._made)
        make_folder(self.store.shard_folder)
        publish(self.store.shard_folder / entry.name, data)
        commits.add(log, entry)

    def commit(self, extracted: Extracted) -> None:
        """Record the listing that is now complete."""
        self.flush()
        line = listings.write_listing(self.store.cache, extracted)
        log = self.store.root / commits.LOG_NAME
        if commits.read_commits(log).listings.get(line.key) != line:
            commits.name_listing(log, line)

    def record(self, made: Mapping[str, Any], drift: Mapping[str, Any] | None = None) -> None:
        """Before the first row: note in trunk.json what computes the rows to come, and how it was held to the old ones.

        The same versions and hardware are noted once. Of a store without rows nothing was made yet.
        """
        self.flush()
        root = self.store.root
        trunk = read_trunk(root)
        entries = list(trunk.made) if commits.read_commits(root / commits.LOG_NAME).shards else []
        places = [place for place, entry in enumerate(entries) if same_making(entry, made)]
        self._made = places[0] if places else len(entries)
        noted = {**made} if drift is None else {**made, "drift": {**drift}}
        if not places:
            entries.append(noted)
        elif drift is not None:
            entries[self._made] = noted
        if tuple(entries) != trunk.made:
            write_trunk(root, replace(trunk, made=tuple(entries)))


def same_making(entry: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether two notes in trunk.json name the same versions and hardware, whatever was compared then."""
    return {**entry, "drift": None} == {**made, "drift": None}


def _as_stored(embeddings: npt.NDArray[np.float32], stored: str) -> npt.NDArray[Any]:
    """The rows in the store's type, which must hold them: a cast of 1e5 to float16 would be inf without a word."""
    if not check_finite(embeddings, stored).all():
        raise DataError(f"an embedding is not finite, or too large for {stored}; nothing of this shard was stored")
    return embeddings.astype(stored)


def check_finite(embeddings: npt.NDArray[np.float32], stored: str) -> npt.NDArray[np.bool_]:
    """Which rows can be stored as they are, (n,): finite, and within what float16 holds where that is asked for."""
    limit = float(np.finfo(stored).max)
    return np.asarray((np.abs(embeddings) <= limit).all(axis=1))  # nan is below nothing
