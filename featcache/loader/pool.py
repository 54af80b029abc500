"""A pool of worker processes: a thread of the parent for each, and a ring of image slots in shared memory."""

import math
import queue
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from featcache.loader.process import create_shared_file, reap, start_process
from featcache.loader.worker import transform_to_json
from featcache.media import ImageTransform, View

MAX_TRIES = 2  # how many workers a file, read by itself, may take down before it is given up


class WorkerPool(ABC):
    """Worker processes, a thread of the parent for each, and a ring of slots in shared memory."""

    def __init__(
        self, module: str, transform: ImageTransform, views: Sequence[View | None], *, workers: int, ahead: int
    ) -> None:
        """Prepare the memory and the threads; `begin` starts them.

        Args:
            module: The module of this package that holds the workers' `main`.
            transform: What is done to each image.
            views: Which of each image are made; None is the plain one.
            workers: How many processes.
            ahead: At most so many images are held decoded.

        Raises:
            MachineError: there is no room for the memory.
        """
        self.module, self.settings = module, transform_to_json(transform, views)
        slots = ahead + workers
        shape = (slots, len(views), *transform.shape)
        self.file = create_shared_file(math.prod(shape))
        self.memory = np.memmap(self.file, np.uint8, "r", shape=shape)
        self.free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for slot in range(slots):
            self.free.put(slot)
        self.lock = threading.Condition()  # guards what the threads share
        self.error: BaseException | None = None
        self.is_closed = False
        self.has_answered = False  # whether any worker ever replied
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(workers)]

    def begin(self) -> None:
        """Start the threads; each starts its process when it has something to do."""
        for thread in self.threads:
            thread.start()

    @abstractmethod
    def serve(self, number: int) -> None:
        """Do the work of the thread of this number."""

    def close(self) -> None:
        """End the processes and the threads, whatever they are doing."""
        with self.lock:
            self.is_closed = True
        for _ in self.threads:
            self.free.put(None)
        for process in list(self.processes.values()):
            process.kill()
        for thread in self.threads:
            if thread.ident is not None:  # it was begun
                thread.join()
        for process in self.processes.values():
            reap(process)
        self.file.close()

    def ensure_process(self, number: int) -> subprocess.Popen[bytes]:
        """Return the process of this thread, started where there is none.

        Raises:
            MachineError: it cannot be started.
        """
        if number in self.processes:
            return self.processes[number]
        process = start_process(f"loader.{self.module}", self.settings, self.file)
        with self.lock:
            self.processes[number] = process
            if self.is_closed:
                process.kill()
        return process

    def replace_dead(self, number: int) -> str:
        """Clear away a process that has ended; `ensure_process` starts another. Return how it ended."""
        return reap(self.processes.pop(number))

    def _run(self, number: int) -> None:
        try:
            self.serve(number)
        except BaseException as error:
            with self.lock:
                self.error = self.error or error
                self.lock.notify()
