"""Heads that are trained on the workers of a cluster: each reads the cached splits itself, and trains a part of a grid.

A head equals itself trained alone, so how a grid is divided changes no weight of a linear head on the CPU.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import featcache
from featcache.cluster import (
    Cluster,
    ClusterOptions,
    ClusterPool,
    LostWorkerError,
    PoolWorker,
    WorkerFailure,
    open_cluster,
    report_failures,
)
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, MachineError
from featcache.features import EmbeddingPool
from featcache.heads.config import HeadConfig
from featcache.heads.modules import TrainedHead
from featcache.heads.splits import Splits, read_splits, splits_by_clip
from featcache.heads.training_device import choose_training_device
from featcache.recipe import TEMPORAL

_WAIT_SECONDS = 0.5
_GROUPS_A_WORKER = 2  # so that those that end early take another


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitsRequest:
    """Which rows heads are trained on, as another machine can read them too."""

    options: Mapping[str, Any]  # as `DatasetRequest` takes them
    head: str
    frames: int
    from_disk: bool | None = False
    with_views: bool = False
    augment: str = ""

    def read(self, pool: EmbeddingPool | None = None) -> Splits:
        """Return the splits.

        Args:
            pool: Of embeddings that were read before; None: they are read for this call alone.

        Raises:
            UsageError, CacheError, DataError: as `read_splits`.
        """
        splits = read_splits(
            DatasetRequest(**self.options), from_disk=False if self.head == TEMPORAL else self.from_disk,
            with_views=self.with_views, augment=self.augment, any_targets=True, pool=pool,
        )  # fmt: skip
        return splits_by_clip(splits, self.frames) if self.head == TEMPORAL else splits


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadWorkerSettings:
    """What a worker needs to train heads."""

    version: str  # of featcache, here
    folder: str  # where this command runs: paths may be relative to it
    request: SplitsRequest
    source: Mapping[str, Any]  # what the training rows are, here
    select: str
    device: str
    exact: bool


def describe_head_workers(
    request: SplitsRequest, splits: Splits, *, select: str, device: str, exact: bool
) -> HeadWorkerSettings:
    """Return what the workers need to train on the rows that were read here.

    Args:
        request: Which rows.
        splits: The rows.
        select: The metric on val that chooses.
        device: As `--device` has it.
        exact: Whether the heads must have the bits that they have alone.
    """
    return HeadWorkerSettings(
        version=featcache.__version__, folder=os.getcwd(), request=request, source=splits.train.source, select=select,
        device=device, exact=exact,
    )  # fmt: skip


class HeadWorker:
    """A process that holds the splits, and trains one group of heads after the other."""

    def __init__(self, settings: HeadWorkerSettings) -> None:
        """Note what is to be read; see `load`."""
        self._setup = settings

    @report_failures
    def load(self) -> bool:
        """Read the splits.

        Raises:
            CacheError: they are not those of the driver.
            MachineError: another version of featcache runs here.
        """
        setup = self._setup
        if featcache.__version__ != setup.version:
            raise MachineError(
                f"featcache {featcache.__version__} runs here, {setup.version} on the driver; install it"
            )
        with contextlib.suppress(OSError):
            os.chdir(setup.folder)
        self._splits = setup.request.read()
        if dict(self._splits.train.source) != dict(setup.source):
            raise CacheError(
                f"{self._splits.source.root}: this machine has other training rows than the driver; --cache has to be "
                f"a folder that every node of the cluster has under the same path"
            )
        return True

    @report_failures
    def train(self, configs: list[HeadConfig]) -> list[TrainedHead]:
        """Return these heads, trained, in their order."""
        from featcache.heads.training import train_heads

        device = choose_training_device(self._setup.device, exact=self._setup.exact)
        return train_heads(self._splits.train, self._splits.val, configs, select=self._setup.select, device=device)


class HeadCluster:
    """The workers of a cluster that train heads: started once, for one grid after the other.

    A context manager: its end leaves the cluster.
    """

    def __init__(self, options: ClusterOptions, settings: HeadWorkerSettings) -> None:
        """Connect to a cluster; no worker is started yet.

        Args:
            options: Which cluster.
            settings: What its workers read, and how they choose.

        Raises:
            MachineError: no such cluster, or no room in it.
        """
        self._cluster: Cluster = open_cluster(options)
        self._pool = ClusterPool(self._cluster, HeadWorker, settings, first_call="load")
        self._configs: Sequence[HeadConfig] = ()
        self._queue: deque[list[int]] = deque()
        self._running: dict[PoolWorker, list[int]] = {}
        self._trained: dict[int, TrainedHead] = {}
        self._progress: Callable[[int, int], None] = lambda *_: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        self._cluster.close()

    @property
    def workers(self) -> int:
        """How many workers there are at most."""
        return self._cluster.share.workers

    def train(
        self, configs: Sequence[HeadConfig], progress: Callable[[int, int], None] = lambda *_: None
    ) -> list[TrainedHead]:
        """Return a head for each config, in their order.

        Args:
            configs: The heads.
            progress: Gets how many epochs of heads are done, and how many there are.

        Raises:
            MachineError: workers are lost one after the other.
            FeatcacheError: what a worker refuses.
        """
        self._configs, self._progress, self._trained = configs, progress, {}
        self._queue = deque(group_heads(configs, _GROUPS_A_WORKER * self.workers))
        for idle in self._idle_workers():
            self._give(idle)
        while len(self._trained) < len(configs):
            self._pool.fill(min(self.workers, len(self._queue) + len(self._running)))
            for worker, reply in self._pool.replies(_WAIT_SECONDS):
                self._take(worker, reply)
        return [self._trained[index] for index in range(len(configs))]

    def _idle_workers(self) -> list[PoolWorker]:
        return [worker for worker in self._pool.workers if not self._pool.is_calling(worker)]

    def _take(self, worker: PoolWorker, reply: Any) -> None:
        """Keep what a worker has trained, and hand it the next group."""
        group = self._running.pop(worker, None)
        if isinstance(reply, LostWorkerError):
            if group is not None:
                self._queue.appendleft(group)
            for idle in self._idle_workers():
                self._give(idle)
            return
        if isinstance(reply, WorkerFailure):
            raise reply.error(f"worker {worker.number} of the cluster")
        if group is not None:
            self._trained |= dict(zip(group, reply, strict=True))
            done = sum(self._configs[index].epochs for index in self._trained)
            self._progress(done, sum(config.epochs for config in self._configs))
        self._give(worker)

    def _give(self, worker: PoolWorker) -> None:
        """Hand the next group to a worker, where there is one."""
        if self._queue:
            group = self._queue.popleft()
            self._running[worker] = group
            self._pool.call(worker, "train", [self._configs[index] for index in group])


def group_heads(configs: Sequence[HeadConfig], count: int) -> list[list[int]]:
    """Return the indices of heads in groups of about the same size, each of heads that are trained in one pass.

    Args:
        configs: The heads.
        count: About how many groups.
    """
    passes: dict[object, list[int]] = {}
    for index, config in enumerate(configs):
        passes.setdefault(config.batch_key, []).append(index)
    size = max(1, -(-len(configs) // count))
    return [heads[start : start + size] for heads in passes.values() for start in range(0, len(heads), size)]
