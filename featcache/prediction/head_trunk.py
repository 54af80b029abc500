"""HeadTrunk: a trunk whose embeddings a head takes, and which layers of one forward of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.media import ImageTransform, View
from featcache.store import FeatureStore, StoreRequest, digest_column, find_storable
from featcache.trunks import (
    Trunk,
    TrunkSource,
    TrunkSpec,
    WeightsMemo,
    choose_batch_size,
    choose_device,
    find_weights,
    load_trunk,
    missing_weights,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadTrunk:
    """One trunk of a head; loaded when an image must be embedded."""

    store: FeatureStore  # of its layer; of several layers, theirs side by side
    head: str  # the head's name, for messages
    is_only_one: bool = True  # whether the head takes embeddings of no other trunk
    weights: str | None = None  # as typed; None where the cache's memory of where they are is enough
    arch: str | None = None  # as typed; only of a module of one's own it says something new: that it may be imported
    device: str = "auto"
    batch_size: int | None = None
    images: int | None = None  # that are embedded at most; None where nobody knows
    views: tuple[View | None, ...] = (None,)  # of each image, that are embedded; None is the plain one

    @property
    def spec(self) -> TrunkSpec:
        """The identity of the trunk; of several layers, with the first of them."""
        return self.store.parts[0].trunk.spec

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are read of each forward, in the order of their columns."""
        return tuple(part.trunk.spec.layer for part in self.store.parts)

    @property
    def transform(self) -> ImageTransform:
        """What is done to an image before it is embedded, as to those that the head was trained on."""
        return self.spec.transform

    @property
    def weights_name(self) -> str:
        """How the weights were named when the store was made."""
        return self.store.parts[0].trunk.weights_name

    @property
    def sentence(self) -> str:
        """Architecture, weights and precision, in words; and the layers, where there are several."""
        layers = f" {'+'.join(self.layers)}" if len(self.layers) > 1 else ""
        return f"{self.spec.arch}{layers}, weights {self.weights_name}, {self.spec.compute}"

    @property
    def source(self) -> TrunkSource:
        """Where the trunk's weights are.

        Raises:
            CacheError: they are not here, those that were typed are others, or it is a module that nobody has typed.
        """
        weights = self.weights
        if not self.is_only_one and weights is not None:  # they may be those of another trunk of the head
            weights = weights if StoreRequest(typed={"weights": weights}).is_met_by(self.store) else None
        arch = self.arch if self.is_only_one or self.arch == self.spec.arch else None
        source = find_weights(self.spec, self.weights_name, WeightsMemo(self.store.cache), weights, arch)
        if source is None and weights is not None:
            raise CacheError(
                f"weights {weights} are not those that head {self.head} was trained on: the embeddings of "
                f"{self.store.name} were made by weights {self.weights_name}. Name these with --weights."
            )
        if source is None:
            which = "" if self.is_only_one else f" {self.spec.arch}"
            raise missing_weights(f"the trunk{which} of head {self.head}", self.weights_name, self.store.cache)
        return source

    @cached_property
    def trunk(self) -> Trunk:
        """The trunk, loaded onto the device."""
        device, batch_size = choose_device(self.device), self.batch_size
        if batch_size is None and self.images is not None:
            batch_size = choose_batch_size(device, self.images)
        return load_trunk(self.source, self.spec, device=device, batch_size=batch_size, layers=self.layers)

    def holds(self, digest: bytes) -> bool:
        """Return whether the store has all that is embedded of the image with this digest; of views it has not."""
        return not any(self.views) and bool(self.store.holds(digest_column([digest]))[0])

    def embed(self, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return the embeddings of images as the store would hold them, and whether it could.

        Args:
            pixels: (n, *transform.shape).

        Returns:
            (n, dim) float32, the layers side by side, and (n,) bool.
        """
        rows = self.trunk.embed(pixels)
        is_storable = np.ones(len(rows), dtype=bool)
        start = 0
        for part in self.store.parts:
            stored, columns = part.trunk.spec.stored, slice(start, start + (part.dim or 0))
            is_storable &= find_storable(rows[:, columns], stored)
            with np.errstate(over="ignore"):  # what float16 cannot hold is not finite
                rows[:, columns] = rows[:, columns].astype(stored)  # as the head saw its training images
            start = columns.stop
        return rows, is_storable
