"""ShardPublisher: adds rows to a store from a process that does not hold its lock; the one that does commits them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featcache.files import make_folder, publish
from featcache.store import shard
from featcache.store.index import Digests
from featcache.store.shard import Shard
from featcache.store.waiting_rows import WaitingRows
from featcache.store.writer import to_stored

if TYPE_CHECKING:
    from featcache.store.store import FeatureStore


@dataclass(slots=True, eq=False)
class ShardPublisher:
    """Publishes whole shards and hands their entries on: none is part of the store before the writer commits it.

    Attributes:
        store: The store as it was when this process opened it.
        waiting: Rows that wait for their shard.
        next_number: Returns the number of the next shard; it may wait for one.
        published: Called with the entry of each published shard, and its digests, (rows, 32).
    """

    store: "FeatureStore"
    waiting: WaitingRows
    next_number: Callable[[], int]
    published: Callable[[Shard, Digests], None]

    def append(self, digests: Digests, embeddings: npt.NDArray[np.float32]) -> bool:
        """Take rows; publish a shard when it is full or old enough.

        Args:
            digests: Of the images, (rows, 32) uint8.
            embeddings: Of the same images, (rows, dim) float32.

        Returns:
            Whether a shard was published.

        Raises:
            DataError: a row is not finite, or does not fit into the store's type; no row of the shard is published.
            MachineError: the disk refuses.
        """
        if not self.waiting.add(digests, embeddings):
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Publish the rows that wait.

        Raises:
            DataError, MachineError: as `append`; these rows are lost.
        """
        if not self.waiting:
            return
        digests, embeddings = self.waiting.joined()
        self.waiting.clear()
        stored = to_stored(embeddings, self.store.trunk.spec.stored)
        entry, data = shard.build_shard(self.next_number(), digests, stored)
        make_folder(self.store.shard_folder)
        publish(self.store.shard_folder / entry.name, data)
        self.published(entry, digests)
