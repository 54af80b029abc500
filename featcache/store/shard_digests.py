"""The digests of one shard, for the index of a store."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.store import shard
from featcache.store.index import Digests
from featcache.store.shard import Shard


@dataclass(frozen=True, slots=True, eq=False)
class ShardDigests:
    """A shard's digests, where they stand: read once for their hash, and again where a question could mean them."""

    folder: Path
    shard: Shard

    def __len__(self) -> int:
        return self.shard.rows

    def read_all(self) -> Digests:
        """Return all of them, checked against the log."""
        return shard.read_digests(self.folder, self.shard)

    def take(self, rows: npt.NDArray[np.int64]) -> Digests:
        """Return the digests of these rows, not checked against the log: a damaged one only fails to be found."""
        return shard.read_some_digests(self.folder, self.shard, rows)
