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
from featcache.features import Features, Streamed
from featcache.heads import HeadConfig
from featcache.heads.training.cuda_graph import Recorder, recorder_of
from featcache.heads.training.samplers import ahead, draws
from featcache.heads.training.torch_stack import Blocks, Stretch
from featcache.machine import quota

Walk = Callable[[], Iterator[Stretch]]  # sets out from the first row, each time that it is called


class Supply(Protocol):
    """The rows of a split, on their way to the heads."""

    y: Tensor  # (rows,), on the device
    dim: int
    recorder: Recorder | None  # where it is not None, every epoch's walk goes through the same memory

    def epochs(self, config: HeadConfig) -> Iterator[Walk]:
        """One walk an epoch over the rows that the config's sampler and seed draw, in whole batches of its size."""

    def blocks(self) -> Blocks:
        """Every row once."""


class InMemory:
    """Rows that lie on the device."""

    def __init__(self, features: Features, device: str) -> None:
        with warnings.catch_warnings():
            # A memory-mapped store is read-only, and torch has no such tensors. Nothing here writes to x or y.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.x = torch.from_numpy(np.ascontiguousarray(features.x, dtype=np.float32)).to(device)
            self.labels = torch.from_numpy(np.ascontiguousarray(features.y, dtype=np.int64))  # y on the host
        self.y = self.labels.to(device)
        self.dim = self.x.shape[1]
        self.recorder = recorder_of(self.y.device)

    def epochs(self, config: HeadConfig) -> Iterator[Walk]:
        """A walk is one stretch, from all over memory."""
        order, y = torch.empty_like(self.y), torch.empty_like(self.y)
        drawn_on_host = draws(self.labels, config)
        for drawn in drawn_on_host if self.recorder is None else ahead(drawn_on_host):
            order = drawn.to(self.y.device) if self.recorder is None else order.copy_(drawn)
            torch.index_select(self.y, 0, order, out=y)  # once an epoch: the steps take slices
            yield partial(iter, [(self.x, order, y)])

    def blocks(self) -> Blocks:
        """In the order of the listing."""
        yield self.x, self.y


class FromDisk:
    """Rows that are read as they are needed; see `streamed` for how well they are mixed."""

    recorder: Recorder | None = None  # its batches come through the host

    def __init__(self, streamed: Streamed, device: str) -> None:
        self.streamed, self.dim, self.device = streamed, streamed.dim, device
        self.y = torch.from_numpy(np.ascontiguousarray(streamed.y)).to(device)

    def epochs(self, config: HeadConfig) -> Iterator[Walk]:
        """A walk reads the whole split once, a stretch for each window.

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
            yield partial(self._walk, config.batch_size, generator)

    def _walk(self, size: int, generator: np.random.Generator) -> Iterator[Stretch]:
        for window, drawn, rows in self.streamed.epoch(size, generator):
            yield self._there(window), self._there(drawn), self._labels(rows)

    def blocks(self) -> Blocks:
        """In the order of the disk."""
        for window, rows in self.streamed.blocks():
            yield self._there(window), self._labels(rows)

    def _labels(self, rows: npt.NDArray[np.int64]) -> Tensor:
        return self.y[self._there(rows)]

    def _there(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


@contextlib.contextmanager
def room_for_readers(features: Features | Streamed) -> Iterator[None]:
    """Have no more threads than the control groups pay for; while rows come from disk, leave a core to their readers.

    torch's threads wait for each other at the end of every operation, and all of them for the one whose core a reader
    has: on two cores, two threads gathered at a third of the speed of one (docs/decisions/058).
    """
    threads = torch.get_num_threads()
    most = min(threads, quota() or threads)
    torch.set_num_threads(max(1, most - 1) if isinstance(features, Streamed) else most)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def supply(features: Features | Streamed, device: str) -> Supply:
    """The batches of a split, wherever its rows are."""
    return FromDisk(features, device) if isinstance(features, Streamed) else InMemory(features, device)
