"""Worker processes of the loader: how one is started, asked, and seen off, and the memory that it shares."""

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

import numpy as np

import featcache
from featcache.errors import MachineError
from featcache.loader.worker import settings_of
from featcache.media import ImageTransform

TRIES = 2  # how many workers a file, read by itself, may take down before it is given up

# The worker runs the package that its parent runs, whichever other is installed; but a folder that holds other
# packages too must not stay before the standard library.
_MAIN = """
import importlib, sys, typing
sys.path.insert(0, sys.argv[1])
import featcache
sys.path.append(sys.path.pop(0))
from featcache.{} import main
main(sys.argv[2], {})
"""


class Workers(ABC):
    """Worker processes, a thread of the parent for each, and a ring of slots in shared memory."""

    def __init__(self, module: str, transform: ImageTransform, *, workers: int, ahead: int) -> None:
        """`module` of the loader holds the workers' `main`; `ahead` images are held decoded at the most."""
        self.module, self.settings = module, settings_of(transform)
        slots = ahead + workers
        shape = (slots, *transform.shape)
        self.file = shared_file(math.prod(shape))
        self.memory = np.memmap(self.file, np.uint8, "r", shape=shape)
        self.free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for slot in range(slots):
            self.free.put(slot)
        self.lock = threading.Condition()  # guards what the threads share
        self.error: BaseException | None = None
        self.closed = False
        self.answered = False  # whether any worker ever said anything
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(workers)]

    def begin(self) -> None:
        """Start the threads; each starts its process when it has something to do."""
        for thread in self.threads:
            thread.start()

    @abstractmethod
    def serve(self, number: int) -> None:
        """What the thread of this number does."""

    def close(self) -> None:
        """End the processes and the threads, whatever they are doing."""
        with self.lock:
            self.closed = True
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

    def process(self, number: int) -> subprocess.Popen[bytes]:
        """The process of this thread, started where there is none.

        Raises:
            MachineError: it cannot be started.
        """
        if number in self.processes:
            return self.processes[number]
        process = start(f"loader.{self.module}", self.settings, self.file)
        with self.lock:
            self.processes[number] = process
            if self.closed:
                process.kill()
        return process

    def bury(self, number: int) -> str:
        """Clear away a process that has ended, so that `process` starts another; how it ended."""
        return reap(self.processes.pop(number))

    def _run(self, number: int) -> None:
        try:
            self.serve(number)
        except BaseException as error:
            with self.lock:
                self.error = self.error or error
                self.lock.notify()


def ask(process: subprocess.Popen[bytes], request: object) -> Any:
    """Ask a process, and wait for its answer.

    Raises:
        EOFError, BrokenPipeError: it has ended.
    """
    tell(process, request)
    return hear(process)


def tell(process: subprocess.Popen[bytes], request: object) -> None:
    """Say something to a process, and do not wait for an answer."""
    assert process.stdin is not None  # noqa: S101 (it is a pipe)
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes]) -> Any:
    """The next thing that a process says.

    Raises:
        EOFError: it has ended.
    """
    assert process.stdout is not None  # noqa: S101 (it is a pipe)
    answer = process.stdout.readline()
    if not answer.endswith(b"\n"):
        raise EOFError
    return json.loads(answer)


def start(module: str, settings: str, file: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process that runs `main(settings, descriptor of the file)` of a module of featcache.

    Raises:
        MachineError: it cannot be started.
    """
    handle = file.fileno()
    package = str(Path(featcache.__file__).parent.parent)
    command = [sys.executable, "-c", _MAIN.format(module, handle), package, settings]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(handle,),
            cwd="/",
            process_group=0,  # Ctrl-C goes to the parent alone, which then decides
        )
    except OSError as error:
        raise MachineError(f"another process cannot be started: {error.strerror}; try --workers 1") from None


def reap(process: subprocess.Popen[bytes]) -> str:
    """Wait for a process that is ending, close its pipes, and say how it ended."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    return ended(process)


def ended(process: subprocess.Popen[bytes]) -> str:
    """Wait for a process that is ending, and say how it ended."""
    code = process.wait()
    return f"signal {-code}" if code < 0 else f"exit {code}"


def shared_file(size: int) -> IO[bytes]:
    """Memory that processes can share and that leaves nothing behind, however they die: a file without a name."""
    for folder in ("/dev/shm", None):  # noqa: S108 (memory where it exists, the usual place where not)
        if folder is None or os.path.isdir(folder):
            try:
                file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as the pool)
                os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
                return file
            except OSError as error:
                refused = error
    raise MachineError(
        f"no room for {size / 1e6:.0f} MB of shared memory: {refused.strerror}; try a smaller --batch-size"
    )
