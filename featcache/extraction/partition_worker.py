"""The worker's side of an extract on several machines: a loaded trunk and the loader, one partition after the other.

It publishes whole shards, and says which; the driver commits them. What it has not said is lost with it.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

import featcache
from featcache.cluster import WorkerFailure, report_failures
from featcache.errors import CacheError, DataError, MachineError
from featcache.extraction import drift
from featcache.extraction.device_loading import open_devices
from featcache.extraction.devices import Device, DevicePool
from featcache.extraction.drift import StoredImage
from featcache.extraction.drift_bounds import DriftComparison
from featcache.extraction.layer import LayerExtraction, LayerOfDevice
from featcache.extraction.placement import Placement
from featcache.extraction.rows import RowStates
from featcache.extraction.run import SplitExtraction
from featcache.extraction.summary import Progress, Settings
from featcache.extraction.worker_messages import (
    LoadedWorker,
    PartitionReply,
    PartitionTask,
    PublishedShard,
    WorkerSettings,
)
from featcache.files import KnownFiles, StatLog, is_missing
from featcache.files.objects import parse_path
from featcache.loader import ImageRead
from featcache.recipe import TrunkSection, is_import_path
from featcache.store import TRUNK_FILE, Digests, FeatureStore, Shard, ShardPublisher, WaitingRows
from featcache.trunks import TrunkSource, WeightsMemo, name_trunk

_MOST_ROWS = 4096  # that wait for the driver to ask for them
_REPLY_SECONDS = 0.5


class EarlyEndError(BaseException):
    """The driver ends this partition early: what is embedded is published, as after Ctrl-C."""


class ReadOnlyStatLog(StatLog):
    """The memory of the cache, to look at: the driver alone writes to it."""

    def flush(self) -> None:
        """Forget what would be written."""
        self._pending.clear()


class Outbox:
    """What the driver has not asked for yet. The thread that embeds waits where that is too much."""

    def __init__(self) -> None:
        self._reply = PartitionReply()
        self._failure: WorkerFailure | None = None
        self._has_ended = False
        self._changed = threading.Condition()
        self.is_stopping = False

    def add_row(self, row: int, image: ImageRead) -> None:
        """Note what reading one file gave."""
        with self._changed:
            while len(self._reply.rows) >= _MOST_ROWS and not self.is_stopping:
                self._changed.wait(1.0)
            self._reply.rows.append((row, replace(image, pixels=None, views=None)))
            self._changed.notify_all()

    def add_shard(self, shard: PublishedShard) -> None:
        """Note a shard that is published."""
        with self._changed:
            self._reply.shards.append(shard)
            self._changed.notify_all()

    def end(self, extraction: SplitExtraction, failure: WorkerFailure | None) -> None:
        """Note that the partition is done, or why it is not."""
        with self._changed:
            self._reply.refused = {layer.store.name: layer.rows.refused for layer in extraction.layers}
            self._has_ended, self._failure = True, failure
            self._changed.notify_all()

    def stop(self) -> None:
        """Have the thread end early."""
        with self._changed:
            self.is_stopping = True
            self._changed.notify_all()

    def take(self, extraction: SplitExtraction) -> PartitionReply | WorkerFailure:
        """Return what there is, once there is a shard or the end of the partition, or after half a second.

        A failure comes alone, and after all that was published before it.
        """
        until = time.monotonic() + _REPLY_SECONDS
        with self._changed:
            while not (self._has_ended or self._reply.shards) and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._failure is not None and not (self._reply.rows or self._reply.shards):
                return self._failure
            reply, self._reply = self._reply, PartitionReply()
            reply.is_done = self._has_ended and self._failure is None
            reply.embedded, reply.timing = extraction.embedded, extraction.timing.to_message()
            self._changed.notify_all()
            return reply


class PartitionRows(RowStates):
    """The rows of a partition: what is read of each goes to the driver too."""

    outbox: Outbox

    def record_read(self, row: int, image: ImageRead, stat_log: StatLog) -> None:  # noqa: ARG002 (the driver's part)
        """Note what reading one row's file gave, here and for the driver."""
        self.note_read(row, image)
        self.outbox.add_row(row, image)


class PartitionJob:
    """What the extract of a partition needs of the worker that it is a part of."""

    def __init__(self, source: TrunkSource, devices: DevicePool, columns: dict[str, slice], settings: Settings) -> None:
        self.source, self.settings = source, settings
        self.stat_log: StatLog = ReadOnlyStatLog(source.memo.cache)
        self._devices, self._columns = devices, columns
        self.outbox = Outbox()

    @property
    def progress(self) -> Callable[[Progress], None]:
        """Called with where the extract stands."""
        return self._stop_where_told

    def _stop_where_told(self, now: Progress) -> None:  # noqa: ARG002 (its driver reports)
        if self.outbox.is_stopping:
            raise EarlyEndError

    def load_devices(self, layers: Sequence[LayerExtraction]) -> DevicePool:
        """Return the devices, which are loaded, once each layer has its columns of what they give."""
        for layer in layers:
            layer.columns = self._columns[layer.store.trunk.spec.layer]
        return self._devices

    def compare_environment(self, layers: Sequence[LayerExtraction], devices: DevicePool) -> None:
        """Do nothing: the driver has it compared before the first partition."""


class PartitionWorker:
    """A trunk and its loader, which embed the partitions that a driver hands over."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Note what is to be loaded; see `load`."""
        self._setup = settings
        self._stores: dict[str, FeatureStore] = {}
        self._opened: list[Device] = []

    @report_failures
    def load(self) -> LoadedWorker:
        """Load the trunk, and return what this worker is.

        Raises:
            CacheError, DataError: the cache or the images are not on this machine.
            MachineError: the weights are out of reach, or another version of featcache runs here.
        """
        setup = self._setup
        self._check_machine()
        settings = replace(setup.settings, max_bad=1.0, workers=setup.settings.workers or setup.processes)
        if is_import_path(setup.section["arch"]):
            os.chdir(setup.folder)
            sys.path += [folder for folder in setup.path if folder not in sys.path]
        source = name_trunk(TrunkSection(**setup.section), WeightsMemo(parse_path(setup.cache)))
        stat_log = ReadOnlyStatLog(source.memo.cache)
        self._stores = {name: FeatureStore.open(parse_path(root), stat_log) for name, root in setup.roots.items()}
        spec = next(iter(self._stores.values())).trunk.spec
        placements = [Placement("cuda:0" if setup.uses_gpu else "cpu")]
        for device in open_devices(source, spec, dict(setup.widths), placements, settings, images=setup.images):
            self._opened.append(device)
        pool = DevicePool(self._opened)
        pool.load()
        self._job = PartitionJob(source, pool, _columns(setup.widths), settings)
        return LoadedWorker(
            socket.gethostname(), pool.provenance(), pool.describe_engine(), pool.describe_device(),
            pool.has_faster_engine(),
        )  # fmt: skip

    def _check_machine(self) -> None:
        """Refuse a machine that lacks what the driver has."""
        setup = self._setup
        if featcache.__version__ != setup.version:
            raise MachineError(
                f"featcache {featcache.__version__} runs here, {setup.version} at the driver: install that"
            )
        for name, root in setup.roots.items():
            if is_missing(parse_path(root) / TRUNK_FILE):
                raise CacheError(
                    f"{root}: this machine does not have the store {name}; --cache has to be a folder that every node "
                    f"of the cluster has under the same path, or a bucket"
                )
        if os.path.isabs(setup.data) and not os.path.exists(setup.data):
            raise DataError(
                f"{setup.data}: this machine does not have the images; --data has to be a folder that every node of "
                f"the cluster has under the same path"
            )

    @report_failures
    def compare(self, images: dict[str, list[StoredImage]]) -> dict[str, DriftComparison]:
        """Embed images that the stores hold once more, and return how far they are off, by store."""
        device, comparisons = self._opened[0], {}
        for name, candidates in images.items():
            store = FeatureStore.open(self._stores[name].root, self._job.stat_log)
            spec = store.trunk.spec
            embedder = LayerOfDevice(device, spec, _columns(self._setup.widths)[spec.layer])
            workers = self._job.settings.workers or 1
            comparisons[name] = drift.compare_drift(store, candidates, embedder, workers=workers)
        return comparisons

    @report_failures
    def begin(self, task: PartitionTask) -> None:
        """Begin to embed a partition; `next` says how far it is."""
        self._job.outbox = Outbox()
        self._numbers = dict(task.numbers)
        layers = [self._layer(task, name) for name in task.todo]
        extraction = self._running = SplitExtraction(self._job, layers)
        extraction.timing.cores = min(extraction.timing.cores, self._setup.processes)  # those that it is given
        threading.Thread(target=self._run, args=(extraction, self._job.outbox), daemon=True).start()

    def _layer(self, task: PartitionTask, name: str) -> LayerExtraction:
        """Return what a partition asks of one layer."""
        outbox, settings = self._job.outbox, self._job.settings
        rows = PartitionRows(task.listing, KnownFiles.of(task.known_files), self._job.source.transform.key())
        rows.refused |= task.refused[name]
        rows.outbox = outbox

        def published(entry: Shard, digests: Digests) -> None:
            outbox.add_shard(PublishedShard(name, entry, digests))

        waiting = WaitingRows(settings.shard_rows, settings.shard_seconds)
        publisher = ShardPublisher(self._stores[name], waiting, lambda: self._numbers[name], published)
        return LayerExtraction(rows, task.todo[name], publisher)

    def _run(self, extraction: SplitExtraction, outbox: Outbox) -> None:
        """Embed a partition, in a thread of its own, and note how it ended."""

        def embed() -> None:
            with contextlib.suppress(EarlyEndError):
                extraction.embed()
            for layer in extraction.layers:
                layer.writer.flush()

        outbox.end(extraction, report_failures(embed)())

    @report_failures
    def next(self, numbers: dict[str, int]) -> PartitionReply | WorkerFailure:
        """Return what was done since the last reply.

        Args:
            numbers: By store, the number of its next shard.
        """
        self._numbers |= numbers
        return self._job.outbox.take(self._running)

    @report_failures
    def stop(self) -> None:
        """End the partition early: what is embedded is published, and `next` says so."""
        self._job.outbox.stop()


def _columns(widths: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each layer in what a forward gives."""
    ends = np.cumsum(list(widths.values()))
    return {name: slice(int(end) - width, int(end)) for (name, width), end in zip(widths.items(), ends, strict=True)}
