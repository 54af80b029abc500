"""One layer's part of a split's extract, of the images or of a view of them: its store, and what is known there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featcache.extraction import drift
from featcache.extraction.devices import Device, DevicePool, EmbeddingBatch, PixelBatch
from featcache.extraction.drift_bounds import DriftComparison
from featcache.extraction.rows import RowStates
from featcache.media import View
from featcache.store import (
    FeatureStore,
    ShardPublisher,
    StoreWriter,
    as_recorded,
    digest_column,
    find_storable,
    is_recorded,
)
from featcache.trunks import TrunkSpec


@dataclass(frozen=True, slots=True)
class LayerOfDevice:
    """A device of which one layer is looked at, as a comparison with the layer's store needs it."""

    device: Device
    spec: TrunkSpec
    columns: slice

    @property
    def batch_size(self) -> int:
        """The most images that `embed` is given."""
        return self.device.batch_size

    def provenance(self) -> dict[str, object]:
        """Return versions and hardware."""
        return self.device.provenance()

    def embed(self, pixels: PixelBatch) -> EmbeddingBatch:
        """Embed a few images, wait for it, and return their embeddings."""
        return self.device.embed(pixels)[:, self.columns]


@dataclass(frozen=True, slots=True, eq=False)
class LayerPlan:
    """What one split asks of one layer."""

    store: FeatureStore
    rows: RowStates
    todo: npt.NDArray[np.int64]  # rows that must be read for this layer

    @property
    def layer(self) -> str:
        """The layer's name."""
        return self.store.trunk.spec.layer

    @property
    def view(self) -> View | None:
        """The view that the layer is of; None: the plain image."""
        return self.store.trunk.spec.view

    @property
    def is_complete(self) -> bool:
        """Whether the store has the split's rows and its listing, so that nothing is written."""
        return not len(self.todo) and is_recorded(self.store, as_recorded(self.store, self.rows.extracted()))


@dataclass(slots=True, eq=False)
class LayerExtraction:
    """A layer of a split, while it is extracted beside the others."""

    rows: RowStates
    todo: npt.NDArray[np.int64]  # rows that must be read for this layer
    writer: StoreWriter | ShardPublisher
    columns: slice = field(default_factory=lambda: slice(None))  # of what a forward gives
    embedded: int = 0  # images

    @property
    def store(self) -> FeatureStore:
        """The store as it was when its lock was taken."""
        return self.writer.store

    @property
    def view(self) -> View | None:
        """The view that the layer is of; None: the plain image."""
        return self.store.trunk.spec.view

    def lacks(self, digest: bytes) -> bool:
        """Return whether an image must be embedded for this layer.

        Args:
            digest: Of the image, 32 bytes.
        """
        return not self.store.holds(digest_column([digest]))[0]

    def append(self, digests: Sequence[bytes], embeddings: EmbeddingBatch) -> None:
        """Hand what the store lacks and can hold to the writer, and note what it cannot.

        Args:
            digests: Of the images.
            embeddings: Of the same images, (n, sum of the layers' widths).
        """
        spec = self.store.trunk.spec
        rows = embeddings[:, self.columns]
        is_lacking = ~self.store.holds(digest_column(digests))
        is_storable = find_storable(rows, spec.stored)
        refused = [digest for digest, no in zip(digests, is_lacking & ~is_storable, strict=True) if no]
        self.rows.refused |= dict.fromkeys(refused, spec.refusal)
        kept: list[int] = np.flatnonzero(is_lacking & is_storable).tolist()
        self.embedded += len(kept)
        if len(kept):
            self.writer.append(digest_column([digests[row] for row in kept]), rows[kept])

    def compare(self, writer: StoreWriter, devices: DevicePool, *, workers: int) -> DriftComparison | None:
        """Hold an environment that is new to the store against its rows, and note it; None: it was not new.

        Args:
            writer: The store's.
            devices: Those that are going to embed.
            workers: How many processes read the images that are compared.

        Raises:
            CacheError: the same images come out differently here.
        """
        provenance = devices.provenance()
        if drift.has_been_compared(self.store, provenance):
            writer.record_provenance(provenance)
            return None
        images = drift.images_to_compare(self.store, self.rows.extracted())
        comparisons = []
        for device in devices.one_of_each_kind():
            embedder = LayerOfDevice(device, self.store.trunk.spec, self.columns)
            comparisons.append(drift.compare_drift(self.store, images, embedder, workers=workers))
            drift.refuse_drift(self.store, comparisons[-1], embedder.provenance())
        worst = max(comparisons, key=lambda comparison: (comparison.cosine, comparison.norm))
        writer.record_provenance(provenance, worst.to_json())
        return worst


def count_images(parts: Iterable[LayerPlan | LayerExtraction]) -> int:
    """Return how many images may have to be embedded: of each split and view, those of the layer that lacks most.

    Args:
        parts: Layers of the splits.
    """
    most: dict[tuple[str, View | None], int] = {}
    for part in parts:
        key = part.rows.listing.split, part.view
        most[key] = max(most.get(key, 0), len(part.todo))
    return sum(most.values())
