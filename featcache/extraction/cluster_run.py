"""A split that is embedded by the workers of a cluster; this process alone writes to the log.

A worker asks for nothing: it is given a partition, and asked, again and again, for what it has done. What it says is
noted and committed before it is asked again, so that no worker is further ahead of the log than one reply. A lost
worker costs what it had not said; its partition goes to the others, and another worker takes its place.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featcache.cluster import LostWorkerError, PoolWorker, WorkerFailure
from featcache.errors import FeatcacheError, MachineError
from featcache.extraction.cluster_workers import ClusterWorkers
from featcache.extraction.drift_bounds import DriftComparison
from featcache.extraction.layer import LayerExtraction
from featcache.extraction.partitions import Partition, cut_partitions
from featcache.extraction.rows import RowStates, refuse_too_many
from featcache.extraction.running_partition import RunningPartition, partition_task
from featcache.extraction.summary import Progress, Settings
from featcache.extraction.timing import TimeBreakdown
from featcache.extraction.worker_environments import WorkerEnvironments
from featcache.extraction.worker_messages import LoadedWorker, PartitionReply, PublishedShard
from featcache.files import StatLog
from featcache.listing import find_filled
from featcache.store import StoreWriter

_WAIT_SECONDS = 0.5
_STOP_SECONDS = 20.0  # that workers have to publish what they embedded; batch systems kill after 30
_FLUSH_SECONDS = 5.0
_PATIENCE_SECONDS = 900.0  # without any worker
_MOST_LOSSES = 3  # workers that one partition may cost


class ClusterContext(Protocol):
    """What a split's extraction needs of the command that it is a part of."""

    stat_log: StatLog
    settings: Settings
    drift: dict[tuple[str, str], DriftComparison]

    @property
    def progress(self) -> Callable[[Progress], None]:
        """Called with where the extract stands."""


class ClusterExtraction:
    """The main loop of one split: hand over partitions, note what was read, commit what was published."""

    def __init__(
        self,
        job: ClusterContext,
        layers: Sequence[LayerExtraction],
        writers: Mapping[str, StoreWriter],
        workers: ClusterWorkers,
    ) -> None:
        """Cut what is to be done into partitions.

        Args:
            job: The command that this is a part of.
            layers: Those that are written, each with its store; at least one of them lacks rows.
            writers: By store, what holds its lock.
            workers: Who embeds.
        """
        self.job, self.layers, self.writers, self.workers = job, layers, writers, workers
        self.rows: RowStates = layers[0].rows  # of what concerns files, every layer knows the same
        self.todo: npt.NDArray[np.int64] = np.unique(np.concatenate([layer.todo for layer in layers]))
        share = workers.cluster.share
        most = min(job.settings.shard_rows, 1 << 16)
        self.queue = deque(cut_partitions(self.rows, self.todo, workers=share.workers, most=most))
        self.running: dict[PoolWorker, RunningPartition] = {}
        self.made: dict[PoolWorker, dict[str, int]] = {}  # by store, what a worker's shards name as `made`
        self._timings: list[Mapping[str, Any]] = []  # of partitions that are done
        self.environments = WorkerEnvironments(layers, writers, job.drift)
        has_failed = find_filled(self.rows.reasons())
        self._bad = int(has_failed.sum()) - int(has_failed[self.todo].sum())
        self._is_read = np.zeros(len(self.rows.listing), dtype=bool)
        self._embedded = 0  # of partitions that are done
        self._unrecorded: tuple[PoolWorker, PartitionReply] | None = None  # a reply that Ctrl-C may have cut short
        self.begun = self.reported = self.flushed = self.heard = time.monotonic()

    @property
    def embedded(self) -> int:
        """How many images and views were embedded."""
        return self._embedded + sum(running.embedded for running in self.running.values())

    @property
    def timing(self) -> TimeBreakdown | None:
        """Where the time of the workers went; None before the first has replied."""
        parts = [*self._timings, *(part.timing for part in self.running.values() if part.timing is not None)]
        return TimeBreakdown.sum_of(parts, max(1, len(self.made))) if parts else None

    def embed(self) -> None:
        """Embed the rows that the stores lack."""
        pool = self.workers.pool
        self._report("starting the workers")
        try:
            pool.fill(min(self.workers.cluster.share.workers, len(self.queue)))
            for worker in self._idle_workers():
                self._admit(worker, self.workers.loaded[worker])
            while self.queue or self.running:
                for worker, reply in pool.replies(_WAIT_SECONDS):
                    self._take(worker, reply)
                self._report("embedding" if self.running else "starting the workers")
                self._refuse_silence()
        except BaseException:  # Ctrl-C included: what is embedded is committed before all else
            self._rescue()
            raise
        finally:
            self.job.stat_log.try_flush()

    def _take(self, worker: PoolWorker, reply: Any) -> None:
        """Do what a worker's reply asks for."""
        self.heard = time.monotonic()
        match reply:
            case LostWorkerError():
                self._replace(worker, reply)
            case WorkerFailure():
                self.running.pop(worker, None)
                raise reply.error(self._place(worker))
            case LoadedWorker():
                self.workers.loaded[worker] = reply
                self._admit(worker, reply)
            case dict():
                self.environments.note_comparisons(self.workers.loaded[worker], reply)
                self._admit(worker, self.workers.loaded[worker])
            case PartitionReply():
                self._record(worker, reply)
                self._refuse_bad()
                if reply.is_done:
                    self._finish(worker)
                else:
                    self._ask(worker)
            case _:  # it has begun
                self._ask(worker)

    def _idle_workers(self) -> list[PoolWorker]:
        """Return the workers that have nothing to do."""
        return [worker for worker in self.workers.pool.workers if not self.workers.pool.is_calling(worker)]

    def _place(self, worker: PoolWorker) -> str:
        loaded = self.workers.loaded.get(worker)
        return f"worker {worker.number} of the cluster" + (f" ({loaded.place})" if loaded else "")

    def _admit(self, worker: PoolWorker, loaded: LoadedWorker) -> None:
        """Give a worker its first partition of this split, once it is known what its rows are made by."""
        if images := self.environments.images_to_compare(loaded):
            self.workers.pool.call(worker, "compare", images)
            return
        self.made[worker] = self.environments.record(loaded)
        self._give(worker)

    def _give(self, worker: PoolWorker) -> None:
        """Hand the next partition to a worker; where there is none, it waits for the next split."""
        if not self.queue:
            return
        partition = self.queue.popleft()
        self.running[worker] = RunningPartition(partition, np.zeros(len(partition.rows), dtype=bool))
        task = partition_task(self.rows, self.layers, partition, self._numbers())
        self.workers.pool.call(worker, "begin", task)

    def _numbers(self) -> dict[str, int]:
        """Return the number of each store's next shard."""
        return {layer.store.name: self.writers[layer.store.name].next_number for layer in self.layers}

    def _ask(self, worker: PoolWorker) -> None:
        self.workers.pool.call(worker, "next", self._numbers())

    def _record(self, worker: PoolWorker, reply: PartitionReply) -> None:
        """Note what was read, then commit what was published: an image that is in the log is never read again."""
        self._unrecorded = worker, reply
        running = self.running[worker]
        for position, image in reply.rows:
            row = int(running.partition.rows[position])
            self.rows.record_read(row, image, self.job.stat_log)
            for layer in self.layers[1:]:
                layer.rows.note_read(row, image)
            self._bad += bool(image.failed) and not self._is_read[row]
            running.is_read[position] = self._is_read[row] = True
        for layer in self.layers:
            layer.rows.refused |= reply.refused.get(layer.store.name, {})
        while reply.shards:
            self._commit(worker, running, reply.shards[0])
            del reply.shards[0]
        running.embedded = max(running.embedded, reply.embedded)
        running.timing = reply.timing
        self._unrecorded = None

    def _commit(self, worker: PoolWorker, running: RunningPartition, shard: PublishedShard) -> None:
        """Commit one published shard."""
        self.writers[shard.store].adopt(shard.entry, made=self.made[worker][shard.store])
        running.committed.setdefault(shard.store, []).append(shard.digests)
        layer = next(layer for layer in self.layers if layer.store.name == shard.store)
        layer.embedded += shard.entry.rows

    def _finish(self, worker: PoolWorker) -> None:
        """Hand the next partition to a worker that has done its own."""
        self._retire(self.running.pop(worker))
        self._give(worker)

    def _retire(self, running: RunningPartition) -> None:
        """Count what became of a partition that no worker has any more."""
        self._embedded += running.embedded
        if running.timing is not None:
            self._timings.append(running.timing)

    def _replace(self, worker: PoolWorker, lost: LostWorkerError) -> None:
        """Put back what a lost worker had not done, and start another in its place."""
        self.workers.loaded.pop(worker, None)
        running = self.running.pop(worker, None)
        if running is not None:
            running.embedded = sum(map(len, next(iter(running.committed.values()), [])))
            self._retire(running)
            left = running.rows_left(self.rows, self.layers)
            if running.partition.losses + 1 >= _MOST_LOSSES and len(left):
                raise MachineError(
                    f"{_MOST_LOSSES} workers of the cluster were lost while they embedded the same {len(left):,} "
                    f"images, {self.rows.listing.file(int(left[0]))} among them ({lost}); their output is in the "
                    f"logs of Ray. What was committed is kept"
                )
            if len(left):
                self.queue.appendleft(Partition(left, running.partition.losses + 1))
        for idle in self._idle_workers():
            self._give(idle)
        self.workers.pool.fill(min(self.workers.cluster.share.workers, len(self.queue) + len(self.running)))

    def _refuse_bad(self) -> None:
        """Stop where more images are bad than may be.

        Raises:
            DataError: they are.
        """
        listing, settings = self.rows.listing, self.job.settings
        if self._bad > settings.max_bad * len(listing):
            read = int(self.rows.known_files.is_known.sum())
            refuse_too_many(listing, self.rows.reasons(), settings.max_bad, read=read)

    def _refuse_silence(self) -> None:
        """Stop where no worker comes up.

        Raises:
            MachineError: none has, for a quarter of an hour.
        """
        if not self.running and time.monotonic() - self.heard > _PATIENCE_SECONDS:
            raise MachineError(
                f"no worker of the cluster has started for {_PATIENCE_SECONDS / 60:.0f} minutes: it has no room for "
                f"one (`ray status` shows what is used); what was committed is kept"
            )

    def _rescue(self) -> None:
        """Have the workers publish what they embedded, and commit it; a second Ctrl-C ends that."""
        pool, until = self.workers.pool, time.monotonic() + _STOP_SECONDS
        with contextlib.suppress(FeatcacheError):
            if self._unrecorded is not None:
                _, reply = self._unrecorded  # its first shard may be in the log already
                reply.shards = [part for part in reply.shards if not self.writers[part.store].has(part.entry)]
                self._record(*self._unrecorded)
            while self.running and time.monotonic() < until:
                for worker in [worker for worker in self.running if not pool.is_calling(worker)]:
                    self._stop_or_ask(worker)
                for worker, reply in pool.replies(_WAIT_SECONDS):
                    if isinstance(reply, LostWorkerError | WorkerFailure):
                        self.running.pop(worker, None)
                    elif isinstance(reply, PartitionReply) and worker in self.running:
                        self._record(worker, reply)
                        if reply.is_done:
                            self._retire(self.running.pop(worker))

    def _stop_or_ask(self, worker: PoolWorker) -> None:
        """Tell a worker to stop, once; then ask it for what it has."""
        if self.running[worker].is_stopping:
            self._ask(worker)
        else:
            self.running[worker].is_stopping = True
            self.workers.pool.call(worker, "stop")

    def _report(self, stage: str) -> None:
        """Report, and let the memory of what was read reach the disk."""
        moment, views = time.monotonic(), len({layer.view for layer in self.layers})
        timing = self.timing if self.embedded else None
        bound = f"{timing.bottleneck()}-bound" if timing is not None else ""
        done = int(self._is_read.sum()) * views
        self.job.progress(
            Progress(
                self.rows.listing.split, stage, done, len(self.todo) * views, self.embedded, moment - self.begun, bound
            )
        )
        if moment - self.flushed > _FLUSH_SECONDS:
            self.flushed = moment
            self.job.stat_log.flush()
