"""A cluster whose workers are threads of this process: all of a real one but Ray, with losses where a test wants."""

import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any

from featcache.cluster import LostWorkerError, WorkerShare


class ThreadWorker:
    """One worker, whose calls are done in turn; what it gets and gives is pickled, as on the way to a node."""

    def __init__(self, kind: type, settings: Any) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.instance = kind(pickle.loads(pickle.dumps(settings)))
        self.calls: list[str] = []
        self.lost = threading.Event()


class ThreadCluster:
    """Workers in threads. `losses` says which call of which worker loses it: {(worker, method, count)}."""

    def __init__(self, workers: int = 3, losses: Sequence[tuple[int, str, int]] = ()) -> None:
        self.share = WorkerShare(workers, 1.0, 0.0)
        self.workers: list[ThreadWorker] = []
        self.losses = set(losses)
        self.is_closed = False

    def start(self, kind: type, settings: Any) -> ThreadWorker:
        self.workers.append(ThreadWorker(kind, settings))
        return self.workers[-1]

    def call(self, worker: ThreadWorker, method: str, *arguments: Any) -> Future[Any]:
        packed = pickle.dumps(arguments)
        worker.calls.append(method)
        if (self.workers.index(worker), method, worker.calls.count(method)) in self.losses:
            worker.lost.set()

        def do() -> Any:
            reply = pickle.dumps(getattr(worker.instance, method)(*pickle.loads(packed)))
            return pickle.loads(reply)

        future = worker.thread.submit(do)
        future.worker = worker  # type: ignore[attr-defined]
        return future

    def wait(self, calls: Sequence[Future[Any]], seconds: float) -> list[Future[Any]]:
        done, _ = wait_for(calls, timeout=seconds, return_when=FIRST_COMPLETED)
        return [call for call in calls if call in done]

    def result(self, call: Future[Any]) -> Any:
        if call.worker.lost.is_set():  # type: ignore[attr-defined]
            raise LostWorkerError("The actor is dead because its node has died")
        return call.result()

    def end(self, worker: ThreadWorker) -> None:
        worker.thread.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        self.is_closed = True
