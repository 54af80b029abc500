"""The parent's side of the loader: many files in, their images out in the same order, with bounded memory."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

import featcache
from featcache.errors import MachineError
from featcache.images import ImageTransform
from featcache.loader.worker import settings_of

# The worker runs the package that its parent runs, whichever other is installed; but a folder that holds other
# packages too must not stay before the standard library.
_START = """
import importlib, sys, typing
sys.path.insert(0, sys.argv[1])
import featcache
sys.path.append(sys.path.pop(0))
from featcache.loader.worker import main
main(sys.argv[2], {}, {})
"""
_TRIES = 2  # how many workers a file may take down before it is given up


@dataclass(frozen=True, slots=True, eq=False)
class ImageRead:
    """What became of one file."""

    index: int  # its place in what was asked for
    digest: bytes = b""  # sha256 of the bytes; b"" where they could not be read
    stat: tuple[int, int, int, int] | None = None  # size, mtime_ns, ctime_ns, inode, as they were read
    read_at: int = 0  # time.time_ns before the reading
    failed: str = ""  # why it gives no image
    pixels: npt.NDArray[np.uint8] | None = None  # (3, crop, crop); None where it failed, or was not wanted
    reading: float = 0.0  # seconds that its process spent reading and hashing it
    decoding: float = 0.0  # seconds that it spent decoding it


def read_images(
    paths: Sequence[str],
    transform: ImageTransform,
    wanted: Callable[[bytes], bool],
    *,
    workers: int,
    ahead: int,
) -> Generator[ImageRead, None, None]:
    """Read, hash and, where `wanted(digest)` says so, decode these files; yield them in order.

    `wanted` is called in other threads, one call at a time. `pixels` is a view into memory that is used again: valid
    until the next image is asked for. At most `ahead` images are held decoded.

    Raises:
        MachineError: a worker process cannot be started, or no worker stays alive.
    """
    pool = _Pool(paths, transform, wanted, workers=min(workers, max(1, len(paths))), ahead=ahead)
    try:
        yield from pool.results()
    finally:
        pool.close()


class _Pool:
    """Worker processes, a thread of the parent for each, and a ring of slots in shared memory."""

    def __init__(
        self,
        paths: Sequence[str],
        transform: ImageTransform,
        wanted: Callable[[bytes], bool],
        *,
        workers: int,
        ahead: int,
    ) -> None:
        self.paths, self.wanted = paths, wanted
        self.settings = settings_of(transform)
        self.shape = (3, transform.crop, transform.crop)
        self.slot_bytes = int(np.prod(self.shape))
        slots = ahead + workers
        self.file = _shared_file(slots * self.slot_bytes)
        self.memory = np.memmap(self.file, np.uint8, "r", shape=(slots, *self.shape))
        self.free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for slot in range(slots):
            self.free.put(slot)
        self.lock = threading.Condition()  # guards the four below, and calls of `wanted`
        self.next = 0
        self.done: dict[int, tuple[ImageRead, int]] = {}
        self.error: BaseException | None = None
        self.closed = False
        self.answered = False  # whether any worker ever said anything
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.threads = [threading.Thread(target=self._serve, args=(number,), daemon=True) for number in range(workers)]
        for thread in self.threads:
            thread.start()

    def results(self) -> Iterator[ImageRead]:
        for index in range(len(self.paths)):
            with self.lock:
                while index not in self.done and self.error is None:
                    self.lock.wait(timeout=1.0)  # a plain wait would not see Ctrl-C on every platform
                if index not in self.done:
                    assert self.error is not None  # noqa: S101 (the loop above ended)
                    raise self.error
                found, slot = self.done.pop(index)
            yield found
            self.free.put(slot)

    def close(self) -> None:
        with self.lock:
            self.closed = True
        for _ in self.threads:
            self.free.put(None)
        for process in list(self.processes.values()):
            process.kill()
        for thread in self.threads:
            thread.join()
        for process in self.processes.values():
            _reap(process)
        self.file.close()

    def _serve(self, number: int) -> None:
        """Take the next file and have it done, until there is none; slots come first, so that order cannot block."""
        try:
            while (slot := self.free.get()) is not None:
                with self.lock:
                    if self.closed or self.next == len(self.paths):
                        return
                    index, self.next = self.next, self.next + 1
                found = self._read(number, index, slot)
                with self.lock:
                    self.done[index] = (found, slot)
                    self.lock.notify()
        except BaseException as error:
            with self.lock:
                self.error = self.error or error
                self.lock.notify()

    def _read(self, number: int, index: int, slot: int) -> ImageRead:
        decisions: dict[bytes, bool] = {}  # a file's second worker gets the answer that its first one got
        for _ in range(_TRIES):
            process = self.processes.get(number) or self._start(number)
            try:
                return self._ask(process, index, slot, decisions)
            except (EOFError, BrokenPipeError):
                self.processes.pop(number, None)
                died = _reap(process)
                if self.closed:
                    return ImageRead(index, failed="stopped")
        if not self.answered:
            raise MachineError(f"no loader process stays alive ({died}); what it said stands above")
        # With its digest, so that the same bytes elsewhere learn of it; without a stat: it may have been the machine.
        digest = next(reversed(decisions), b"")
        return ImageRead(index, digest, failed=f"the decoder process died on it ({died})")

    def _ask(self, process: subprocess.Popen[bytes], index: int, slot: int, decisions: dict[bytes, bool]) -> ImageRead:
        to, back = process.stdin, process.stdout
        assert to is not None and back is not None  # noqa: S101, PT018 (both are pipes)
        said = _talk(to, back, {"path": self.paths[index], "slot": slot})
        self.answered = True
        if "failed" in said:
            return ImageRead(index, failed=said["failed"], reading=said["seconds"])
        digest, status = bytes.fromhex(said["digest"]), tuple(said["stat"])
        if digest not in decisions:
            with self.lock:
                decisions[digest] = self.wanted(digest)
        decode = decisions[digest]
        if decode:
            answer = _talk(to, back, {"decode": True})
            failed, decoding = answer.get("failed", ""), answer["seconds"]
        else:
            _send(to, {"decode": False})
            failed, decoding = "", 0.0
        pixels = self.memory[slot] if decode and not failed else None
        return ImageRead(index, digest, status, said["read_at"], failed, pixels, said["seconds"], decoding)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        handle = self.file.fileno()
        package = str(Path(featcache.__file__).parent.parent)
        command = [sys.executable, "-c", _START.format(handle, self.slot_bytes), package, self.settings]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(handle,),
                cwd="/",
                process_group=0,  # Ctrl-C goes to the parent alone, which then decides
            )
        except OSError as error:
            raise MachineError(f"a loader process cannot be started: {error.strerror}; try --workers 1") from None
        with self.lock:
            self.processes[number] = process
            if self.closed:
                process.kill()
        return process


def _talk(to: IO[bytes], back: IO[bytes], request: dict[str, object]) -> dict[str, Any]:
    _send(to, request)
    answer = back.readline()
    if not answer.endswith(b"\n"):
        raise EOFError
    found: dict[str, Any] = json.loads(answer)
    return found


def _send(to: IO[bytes], request: dict[str, object]) -> None:
    to.write(json.dumps(request).encode() + b"\n")
    to.flush()


def _reap(process: subprocess.Popen[bytes]) -> str:
    """Wait for a process that is ending, close its pipes, and say how it ended."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    code = process.wait()
    return f"signal {-code}" if code < 0 else f"exit {code}"


def _shared_file(size: int) -> IO[bytes]:
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
