"""A partition that a worker has: what it is given, and what is left of it where the worker is lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.extraction.layer import LayerExtraction
from featcache.extraction.partitions import Partition
from featcache.extraction.rows import RowStates
from featcache.extraction.worker_messages import PartitionTask
from featcache.store import Digests


@dataclass(slots=True, eq=False)
class RunningPartition:
    """A partition, and what its worker has said of it."""

    partition: Partition
    is_read: npt.NDArray[np.bool_]  # (rows,), of which rows
    committed: dict[str, list[Digests]] = field(default_factory=dict)  # by store, what is in the log of it
    embedded: int = 0
    timing: Mapping[str, Any] | None = None
    is_stopping: bool = False

    def rows_left(self, rows: RowStates, layers: Sequence[LayerExtraction]) -> npt.NDArray[np.int64]:
        """Return the rows that a store still lacks, or of which nothing is known.

        Args:
            rows: What is known of the split's rows.
            layers: Those that are written.
        """
        digests = rows.known_files.digests[self.partition.rows]
        has_failed = rows.known_files.reasons[self.partition.rows] != 0
        is_left = ~self.is_read
        for layer in layers:
            is_lacking = ~layer.store.holds(digests) & ~_is_in(digests, self.committed.get(layer.store.name, []))
            is_left |= np.isin(self.partition.rows, layer.todo) & is_lacking & ~has_failed
        left: npt.NDArray[np.int64] = self.partition.rows[is_left]
        return left


def _is_in(digests: Digests, parts: Sequence[Digests]) -> npt.NDArray[np.bool_]:
    """Return which digests stand in one of these parts, (n,)."""
    held = {digest.tobytes() for part in parts for digest in part}
    return np.array([digest.tobytes() in held for digest in digests], dtype=bool)


def partition_task(
    rows: RowStates, layers: Sequence[LayerExtraction], partition: Partition, numbers: Mapping[str, int]
) -> PartitionTask:
    """Return what a worker is told of a partition.

    Args:
        rows: What is known of the split's rows.
        layers: Those that are written.
        partition: Its rows.
        numbers: By store, the number of its next shard.
    """
    digests = {digest.tobytes() for digest in rows.known_files.digests[partition.rows]}
    return PartitionTask(
        listing=rows.listing.take(partition.rows),
        known_files=[rows.known_files[row] for row in partition.rows],
        todo={layer.store.name: np.flatnonzero(np.isin(partition.rows, layer.todo)) for layer in layers},
        refused={
            layer.store.name: {digest: layer.rows.refused[digest] for digest in digests & layer.rows.refused.keys()}
            for layer in layers
        },
        numbers=numbers,
    )
