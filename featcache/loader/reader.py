"""The parent's side of the loader: many files in, their images out in the same order, with bounded memory."""

import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcache.errors import MachineError
from featcache.images import ImageTransform
from featcache.loader.process import TRIES, Workers, ask, tell


@dataclass(frozen=True, slots=True, eq=False)
class ImageRead:
    """What became of one file."""

    index: int  # its place in what was asked for
    digest: bytes = b""  # sha256 of the bytes; b"" where they could not be read
    stat: tuple[int, int, int, int] | None = None  # size, mtime_ns, ctime_ns, inode, as they were read
    read_at: int = 0  # time.time_ns before the reading
    failed: str = ""  # why it gives no image
    pixels: npt.NDArray[np.uint8] | None = None  # as `images.decode` gives them; None: it failed, or was not wanted
    video: bytes = b""  # of a frame, sha256 of its video, whose stat this is then
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
        pool.begin()  # inside: Ctrl-C may come while the workers start
        yield from pool.results()
    finally:
        pool.close()


class _Pool(Workers):
    """A worker reads whole files, one after the other."""

    def __init__(
        self,
        paths: Sequence[str],
        transform: ImageTransform,
        wanted: Callable[[bytes], bool],
        *,
        workers: int,
        ahead: int,
    ) -> None:
        super().__init__("worker", transform, workers=workers, ahead=ahead)
        self.paths, self.wanted = paths, wanted
        self.next = 0  # this and `done` are guarded by the lock, as calls of `wanted` are
        self.done: dict[int, tuple[ImageRead, int]] = {}

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

    def serve(self, number: int) -> None:
        """Take the next file and have it done, until there is none; slots come first, so that order cannot block."""
        while (slot := self.free.get()) is not None:
            with self.lock:
                if self.closed or self.next == len(self.paths):
                    return
                index, self.next = self.next, self.next + 1
            found = self._read(number, index, slot)
            with self.lock:
                self.done[index] = (found, slot)
                self.lock.notify()

    def _read(self, number: int, index: int, slot: int) -> ImageRead:
        decisions: dict[bytes, bool] = {}  # a file's second worker gets the answer that its first one got
        for _ in range(TRIES):
            process = self.process(number)
            try:
                return self._ask(process, index, slot, decisions)
            except (EOFError, BrokenPipeError):
                died = self.bury(number)
                if self.closed:
                    return ImageRead(index, failed="stopped")
        if not self.answered:
            raise MachineError(f"no loader process stays alive ({died}); what it said stands above")
        # With its digest, so that the same bytes elsewhere learn of it; without a stat: it may have been the machine.
        digest = next(reversed(decisions), b"")
        return ImageRead(index, digest, failed=f"the decoder process died on it ({died})")

    def _ask(self, process: subprocess.Popen[bytes], index: int, slot: int, decisions: dict[bytes, bool]) -> ImageRead:
        said = ask(process, {"path": self.paths[index], "slot": slot})
        self.answered = True
        if "failed" in said:
            return ImageRead(index, failed=said["failed"], reading=said["seconds"])
        digest, status = bytes.fromhex(said["digest"]), tuple(said["stat"])
        if digest not in decisions:
            with self.lock:
                decisions[digest] = self.wanted(digest)
        decode = decisions[digest]
        if decode:
            answer = ask(process, {"decode": True})
            failed, decoding = answer.get("failed", ""), answer["seconds"]
        else:
            tell(process, {"decode": False})
            failed, decoding = "", 0.0
        pixels = self.memory[slot] if decode and not failed else None
        return ImageRead(
            index, digest, status, said["read_at"], failed, pixels, reading=said["seconds"], decoding=decoding
        )
