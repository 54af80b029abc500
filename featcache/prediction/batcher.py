"""EmbeddingBatcher: collects images until they fill a batch of a trunk, and keeps what is made of their embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.media import copy_image
from featcache.prediction.head_trunk import HeadTrunk
from featcache.store import digest_column

Key = tuple[bytes, int]


@dataclass(slots=True, eq=False)
class EmbeddingBatcher:
    """Embeds images a batch at a time; what `finish` makes of each row is kept by the image's digest.

    Beside the digest stands the place of the view; 0 is the plain image.
    """

    trunk: HeadTrunk
    finish: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]  # (n, dim) -> (n, …): predictions, or the rows
    rows: dict[Key, npt.NDArray[Any] | None] = field(default_factory=dict)  # None: no finite embedding
    _keys: list[Key] = field(default_factory=list)  # of the images that wait
    _pixels: npt.NDArray[np.uint8] | None = None  # (batch, ...), theirs

    def add(self, key: Key, pixels: npt.NDArray[np.uint8]) -> None:
        """Take one image, and embed all that wait where it fills a batch.

        Args:
            key: names the image and the view.
            pixels: as `media` decodes it for the trunk's transform.
        """
        if self._pixels is None:
            self._pixels = np.empty((self.trunk.trunk.batch_size, *pixels.shape), dtype=np.uint8)
        copy_image(pixels, self._pixels[len(self._keys)])
        self._keys.append(key)
        if len(self._keys) == len(self._pixels):
            self.flush()

    def flush(self) -> None:
        """Embed all images that wait."""
        if not self._keys or self._pixels is None:
            return
        x, is_storable = self.trunk.embed(self._pixels[: len(self._keys)])
        for key, good, row in zip(self._keys, is_storable, self.finish(x), strict=True):
            self.rows[key] = row if good else None
        self._keys = []

    @property
    def digests(self) -> set[bytes]:
        """Of the images that are kept."""
        return {digest for digest, _ in self.rows}

    def take_stored(self, digests: Sequence[bytes]) -> None:
        """Take plain images whose embeddings the store holds: no trunk is needed."""
        if digests:
            x = self.trunk.store.load(digest_column(digests))
            keys = [(digest, 0) for digest in digests]
            self.rows.update(zip(keys, self.finish(x), strict=True))
