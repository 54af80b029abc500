"""PredictionBatcher: collects images until they fill a batch of the trunk, and keeps the head's predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featcache.media import copy_image
from featcache.prediction.model import HeadWithTrunk
from featcache.store import digest_column, find_storable

Key = tuple[bytes, int]


@dataclass(slots=True, eq=False)
class PredictionBatcher:
    """Embeds images a batch at a time and the head predicts on them; predictions are kept by the image's digest.

    Beside the digest stands the place of the view; 0 is the plain image.
    """

    model: HeadWithTrunk
    predictions: dict[Key, npt.NDArray[np.float64] | None] = field(default_factory=dict)  # None: no finite embedding
    _keys: list[Key] = field(default_factory=list)  # of the images that wait
    _pixels: npt.NDArray[np.uint8] | None = None  # (batch, ...), theirs

    def add(self, key: Key, pixels: npt.NDArray[np.uint8]) -> None:
        """Take one image, and predict on all that wait where it fills a batch.

        Args:
            key: names the image and the view.
            pixels: as `media` decodes it for the trunk's transform.
        """
        if self._pixels is None:
            self._pixels = np.empty((self.model.trunk.batch_size, *pixels.shape), dtype=np.uint8)
        copy_image(pixels, self._pixels[len(self._keys)])
        self._keys.append(key)
        if len(self._keys) == len(self._pixels):
            self.flush()

    def flush(self) -> None:
        """Predict on all images that wait."""
        if not self._keys or self._pixels is None:
            return
        stored = self.model.store.trunk.spec.stored
        x = self.model.trunk.embed(self._pixels[: len(self._keys)])
        finite = find_storable(x, stored)
        with np.errstate(over="ignore"):  # what float16 cannot hold is not finite
            x = x.astype(stored).astype(np.float32)  # as the head saw its training images
        for key, good, row in zip(self._keys, finite, self.model.probabilities(x), strict=True):
            self.predictions[key] = row if good else None
        self._keys = []

    def predict_stored(self, digests: Sequence[bytes]) -> None:
        """Predict on images whose embeddings the store holds: no trunk is needed."""
        if not digests:
            return
        x = self.model.store.load(digest_column(digests))
        keys = [(digest, 0) for digest in digests]
        self.predictions.update(zip(keys, self.model.probabilities(x), strict=True))
