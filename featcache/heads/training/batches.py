"""Where a training's batches come from: rows in memory, or rows on disk, a window at a time."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.errors import UsageError
from featcache.features import Features, Streamed, stack_views
from featcache.heads import HeadConfig
from featcache.heads.training.cuda_graph import Recorder, find_recorder
from featcache.heads.training.samplers import draw_views, prefetched, sampled
from featcache.heads.training.stack import EpochChunk, LabelledBlocks
from featcache.machine import core_quota

EpochIterator = Callable[[], Iterator[EpochChunk]]  # starts at the epoch's first chunk each time that it is called


class RowSource(Protocol):
    """The rows of a split, on their way to the heads.

    Attributes:
        y: (rows,) int64 labels, on the device; where a row has several labels or numbers, (rows, outputs) float32.
        dim: the width of an embedding.
        recorder: where it is not None, every epoch goes through the same memory, and can be recorded.
    """

    y: Tensor
    dim: int
    recorder: Recorder | None

    def epochs(self, config: HeadConfig) -> Iterator[EpochIterator]:
        """Yield each epoch of the rows that the config's sampler and seed draw, in whole batches of its size."""

    def blocks(self) -> LabelledBlocks:
        """Yield every row once."""


class RowsInMemory:
    """Rows that lie on the device; of images with views, the rows of all views, one view behind the other."""

    def __init__(self, features: Features, device: str) -> None:
        self.views = 1 if features.views is None else len(features.views)
        x = stack_views(features).x
        with warnings.catch_warnings():
            # A memory-mapped store is read-only, and torch has no such tensors. Nothing here writes to x or y.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.x = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(device)
            self.labels = torch.from_numpy(np.ascontiguousarray(features.y, dtype=np.int64))  # y on the host
        self.y = self.labels.to(device)
        if features.targets is not None:
            self.y = torch.from_numpy(features.targets.values.astype(np.float32)).to(device)
        self.dim = self.x.shape[1]
        self.recorder = find_recorder(self.y.device)

    def epochs(self, config: HeadConfig) -> Iterator[EpochIterator]:
        """Yield each epoch as one chunk, its rows from all over memory."""
        order, rows = (torch.empty(len(self.y), dtype=torch.int64, device=self.y.device) for _ in range(2))
        y = torch.empty_like(self.y)
        draws = draw_views(sampled(self.labels, config), self.views, config.seed)
        for drawn in draws if self.recorder is None else prefetched(draws):
            if self.recorder is None:
                order, rows = drawn.images.to(self.y.device), drawn.rows.to(self.y.device)
            else:
                order.copy_(drawn.images)
                rows.copy_(drawn.rows)
            torch.index_select(self.y, 0, order, out=y)  # once an epoch: the steps take slices
            yield partial(iter, [EpochChunk(self.x, rows, y)])

    def blocks(self) -> LabelledBlocks:
        """Yield all rows, in the order of the listing, view by view."""
        for start in range(0, len(self.x), len(self.y)):
            yield self.x[start : start + len(self.y)], self.y


class RowsOnDisk:
    """Rows that are read as they are needed; `featcache.features.Streamed` says how well they are mixed."""

    recorder: Recorder | None = None  # its batches come through the host

    def __init__(self, streamed: Streamed, device: str) -> None:
        self.streamed, self.dim, self.device = streamed, streamed.dim, device
        self.y = torch.from_numpy(np.ascontiguousarray(streamed.y)).to(device)

    def epochs(self, config: HeadConfig) -> Iterator[EpochIterator]:
        """Yield each epoch, which reads the whole split once, a chunk for each window.

        Raises:
            UsageError: a sampler that draws rows again and again, which would read them again and again.
        """
        if config.sampler != "uniform":
            raise UsageError(
                f"sampler is {config.sampler!r}: rows that are read from disk are drawn once an epoch. Use "
                f"class_weights = 'balanced' (the same objective), or train in memory"
            )
        generator = np.random.default_rng(config.seed)
        for _ in range(config.epochs):
            yield partial(self._read_epoch, config.batch_size, generator)

    def _read_epoch(self, batch_size: int, generator: np.random.Generator) -> Iterator[EpochChunk]:
        """Yield the windows of one epoch."""
        for window, drawn, rows in self.streamed.epoch(batch_size, generator):
            yield EpochChunk(self._to_device(window), self._to_device(drawn), self._labels_of(rows))

    def blocks(self) -> LabelledBlocks:
        """Yield all rows, in the order of the disk."""
        for window, rows in self.streamed.blocks():
            yield self._to_device(window), self._labels_of(rows)

    def _labels_of(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the labels of these rows, on the device."""
        return self.y[self._to_device(rows)]

    def _to_device(self, array: npt.NDArray[Any]) -> Tensor:
        """Return an array as a tensor on the device."""
        return torch.from_numpy(array).to(self.device)


@contextlib.contextmanager
def spare_core_for_readers(features: Features | Streamed) -> Iterator[None]:
    """Have no more threads than the control groups pay for; while rows come from disk, leave a core to their readers.

    torch's threads wait for each other at the end of every operation, and all of them for the one whose core a reader
    has: on two cores, two threads gathered at a third of the speed of one (docs/decisions/058).
    """
    threads = torch.get_num_threads()
    most = min(threads, core_quota() or threads)
    torch.set_num_threads(max(1, most - 1) if isinstance(features, Streamed) else most)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def make_row_source(features: Features | Streamed, device: str) -> RowSource:
    """Return the source of a split's batches, wherever its rows are."""
    return RowsOnDisk(features, device) if isinstance(features, Streamed) else RowsInMemory(features, device)
