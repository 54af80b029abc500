"""Rows that wait until they make a shard."""

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featcache.store.index import Digests

SHARD_BYTES = 1 << 28  # of rows that wait: sooner than by their number where a row is all tokens of an image


@dataclass(slots=True, eq=False)
class WaitingRows:
    """Rows that wait until they make a shard.

    Attributes:
        shard_rows: How many rows make a shard full.
        shard_seconds: How old the first row of a shard may become.
    """

    shard_rows: int
    shard_seconds: float
    # One list, so that an interruption finds digests and embeddings of the same rows.
    _parts: list[tuple[Digests, npt.NDArray[np.float32]]] = field(default_factory=list)
    _since: float = 0.0  # when the first of them came, seconds

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, digests: Digests, embeddings: npt.NDArray[np.float32]) -> bool:
        """Take rows.

        Args:
            digests: Of the images, (rows, 32) uint8.
            embeddings: Of the same images, (rows, dim) float32.

        Returns:
            Whether they make a shard now: there are enough of them, or they are large enough, or old enough.
        """
        if not len(digests):
            return False
        if not self._parts:
            self._since = time.monotonic()
        self._parts.append((digests, embeddings))
        rows = sum(len(part) for part, _ in self._parts)
        size = sum(part.nbytes for _, part in self._parts)
        return rows >= self.shard_rows or size >= SHARD_BYTES or time.monotonic() - self._since >= self.shard_seconds

    def joined(self) -> tuple[Digests, npt.NDArray[np.float32]]:
        """Return the digests and the embeddings of all of them, in the order in which they came."""
        digests, embeddings = map(np.concatenate, zip(*self._parts, strict=True))
        return digests, embeddings

    def clear(self) -> None:
        """Let them go: they are stored, or refused."""
        self._parts = []
