"""What the workers of a cluster compute with: noted in each store before their rows are, compared where it is new."""

from collections.abc import Mapping, Sequence
from typing import Any

from featcache.extraction import drift
from featcache.extraction.drift import StoredImage
from featcache.extraction.drift_bounds import DriftComparison
from featcache.extraction.layer import LayerExtraction
from featcache.extraction.worker_messages import LoadedWorker
from featcache.store import StoreWriter


class WorkerEnvironments:
    """What is known of the workers' versions and hardware in the stores of a split."""

    def __init__(
        self,
        layers: Sequence[LayerExtraction],
        writers: Mapping[str, StoreWriter],
        comparisons: dict[tuple[str, str], DriftComparison],
    ) -> None:
        """Know of none yet.

        Args:
            layers: Those that are written.
            writers: By store, what holds its lock.
            comparisons: Where each comparison is noted, by split and store.
        """
        self._layers, self._writers, self._comparisons = layers, writers, comparisons
        self._compared: set[tuple[str, str]] = set()  # stores, and environments that were compared with them

    def images_to_compare(self, loaded: LoadedWorker) -> dict[str, list[StoredImage]]:
        """Return, by store, images that a worker has to embed once more before it may add rows; {}: it may.

        Args:
            loaded: What the worker says of itself.
        """
        return {
            layer.store.name: drift.images_to_compare(layer.store, layer.rows.extracted())
            for layer in self._layers
            if not drift.has_been_compared(layer.store, loaded.provenance)
            and (layer.store.name, _key(loaded.provenance)) not in self._compared
        }

    def note_comparisons(self, loaded: LoadedWorker, comparisons: Mapping[str, DriftComparison]) -> None:
        """Note how a worker's embeddings compare with those that are there.

        Args:
            loaded: What the worker says of itself.
            comparisons: By store.

        Raises:
            CacheError: they come out differently.
        """
        for layer in self._layers:
            name = layer.store.name
            if name in comparisons:
                drift.refuse_drift(layer.store, comparisons[name], loaded.provenance)
                self._writers[name].record_provenance(loaded.provenance, comparisons[name].to_json())
                self._comparisons[layer.rows.listing.split, name] = comparisons[name]
                self._compared.add((name, _key(loaded.provenance)))

    def record(self, loaded: LoadedWorker) -> dict[str, int]:
        """Return, by store, what a worker's shards name as `made`, once that is in the store's record.

        Args:
            loaded: What the worker says of itself.
        """
        return {
            layer.store.name: self._writers[layer.store.name].record_provenance(loaded.provenance)
            for layer in self._layers
        }


def _key(provenance: Mapping[str, Any]) -> str:
    return repr(sorted(provenance.items(), key=str))
