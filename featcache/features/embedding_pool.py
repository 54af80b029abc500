"""Embeddings that several listings of one data set share: each is read from its store once."""

import numpy as np
import numpy.typing as npt

from featcache.store import Digests, FeatureStore

Floats = npt.NDArray[np.float32]


class EmbeddingPool:
    """What was read so far, by store; of rows that two listings have, one copy is held."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, bytes], Floats] = {}  # of each listing, by its store and its digests
        self._places: dict[str, dict[bytes, tuple[Floats, int]]] = {}  # store -> digest -> where its row lies

    def load(self, store: FeatureStore, digests: Digests) -> Floats:
        """Return the embeddings of these rows, (rows, dim) float32, not to be written to.

        Args:
            store: that holds them.
            digests: (rows, 32), in the order that is wanted.

        Raises:
            CacheError: as `FeatureStore.load`.
            MachineError: as `FeatureStore.load`.
        """
        name = store.name, digests.tobytes()
        if name not in self._parts:
            self._parts[name] = self._gather(store, digests)
        return self._parts[name]

    def _gather(self, store: FeatureStore, digests: Digests) -> Floats:
        places = self._places.setdefault(store.name, {})
        keys = [digest.tobytes() for digest in digests]
        lacking = {key: row for row, key in reversed(list(enumerate(keys))) if key not in places}  # each once
        if lacking or not places:
            rows = sorted(lacking.values())
            read = store.load(digests[rows])
            if len(rows) == len(digests):
                places |= {key: (read, row) for row, key in enumerate(keys)}
                return read
            places |= {keys[row]: (read, number) for number, row in enumerate(rows)}
        return np.stack([part[row] for part, row in (places[key] for key in keys)])
