"""A number of workers that is kept up: each has one call under way, and a lost one is replaced."""

from collections.abc import Iterator
from typing import Any

from featcache.cluster.workers import Call, Cluster, LostWorkerError, PoolWorker
from featcache.errors import MachineError

MAX_LOSSES = 3  # workers that are lost one after the other before any has replied


class ClusterPool:
    """Workers of one kind. The driver calls a method, takes the reply, calls the next: that is the back pressure."""

    def __init__(self, cluster: Cluster, kind: type, settings: Any, *, first_call: str) -> None:
        """Name the workers; `fill` starts them.

        Args:
            cluster: Where they run.
            kind: Their class.
            settings: What its constructor gets.
            first_call: The method that each is called with once it runs.
        """
        self.cluster, self._kind, self._settings, self._first_call = cluster, kind, settings, first_call
        self.workers: list[PoolWorker] = []
        self._calls: dict[Call, PoolWorker] = {}
        self._started = self._losses = 0

    def fill(self, count: int) -> None:
        """Start workers until there are so many.

        Args:
            count: Those that wait for room in the cluster count too.
        """
        while len(self.workers) < count:
            worker = PoolWorker(self._started, self.cluster.start(self._kind, self._settings))
            self._started += 1
            self.workers.append(worker)
            self.call(worker, self._first_call)

    def call(self, worker: PoolWorker, method: str, *arguments: Any) -> None:
        """Begin to call a method of a worker that has no call under way.

        Args:
            worker: Which one.
            method: The method's name.
            *arguments: What it gets.
        """
        self._calls[self.cluster.call(worker.handle, method, *arguments)] = worker

    def replies(self, seconds: float) -> Iterator[tuple[PoolWorker, Any]]:
        """Yield each worker that has replied, with its reply; of one that is lost, the `LostWorkerError`.

        Args:
            seconds: How long the first reply is waited for.

        Raises:
            MachineError: workers are lost one after the other, and none has replied.
        """
        for call in self.cluster.wait(list(self._calls), seconds) if self._calls else []:
            worker = self._calls.pop(call)
            try:
                reply = self.cluster.result(call)
            except LostWorkerError as error:
                self.workers.remove(worker)
                self._losses += 1
                if self._losses > MAX_LOSSES:
                    raise MachineError(
                        f"{self._losses} workers of the cluster were lost one after the other ({error}); their output "
                        f"is in the logs of Ray. What was published is kept: the next run does the rest"
                    ) from None
                yield worker, error
            else:
                self._losses = 0
                yield worker, reply

    def is_calling(self, worker: PoolWorker) -> bool:
        """Return whether a call of a worker is under way.

        Args:
            worker: Which one.
        """
        return worker in self._calls.values()

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            self.cluster.end(worker.handle)
        self.workers, self._calls = [], {}
