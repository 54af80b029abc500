"""The parent's side of the loader: many files in, their images out in the same order, with bounded memory."""

import queue
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import MachineError
from featcache.loader.process import TRIES, Workers, ask, hear, tell
from featcache.media import ImageTransform

_MOST = 8  # files that a worker is asked for at once …
_AT_ONCE = 0.02  # … as long as all of them take no more than so many seconds


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
    """A worker reads whole files, a few at a time."""

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
        """Take the next files and have them done, until there are none."""
        fair = max(1, len(self.memory) // len(self.threads))  # slots: nobody takes what another could work with
        pace = _AT_ONCE  # seconds that a file takes, as far as is known
        while slots := self._slots(max(1, min(_MOST, fair, int(_AT_ONCE / pace)))):
            with self.lock:
                share = -(-(len(self.paths) - self.next) // len(self.threads))  # so that the last ones end together
                count = 0 if self.closed else min(len(slots), share)
                first, self.next = self.next, self.next + count
            for slot in slots[count:]:
                self.free.put(slot)
            if not count:
                return
            begun = time.perf_counter()
            self._read(number, dict(zip(range(first, first + count), slots[:count], strict=True)))
            pace = max((time.perf_counter() - begun) / count, 1e-6)

    def _slots(self, most: int) -> list[int]:
        """At least one free slot, waited for, before any file is taken, so that order cannot block; [] at the end."""
        found: list[int] = []
        while len(found) < most:
            try:
                slot = self.free.get(block=not found)
            except queue.Empty:
                break
            if slot is None:
                return []
            found.append(slot)
        return found

    def _read(self, number: int, left: dict[int, int]) -> None:
        """Have these files done, {index: slot}; where a process dies of several, each has one to itself."""
        decisions: dict[tuple[int, bytes], bool] = {}  # a file's second worker gets the answer that its first one got
        deaths: dict[int, int] = defaultdict(int)
        alone = False
        while left:
            files = dict([next(iter(left.items()))]) if alone else dict(left)
            process = self.process(number)
            try:
                self._ask(process, files, left, decisions)
            except (EOFError, BrokenPipeError):
                died = self.bury(number)
                if self.closed:
                    return
                if len(files) > 1:
                    alone = True
                    continue
                (index,) = files
                deaths[index] += 1
                if deaths[index] < TRIES:
                    continue
                if not self.answered:
                    raise MachineError(f"no loader process stays alive ({died}); what it said stands above") from None
                # With its digest, so that the same bytes elsewhere learn of it; without a stat: it may have been the
                # machine.
                digest = next((digest for one, digest in reversed(decisions) if one == index), b"")
                self._done(left, [ImageRead(index, digest, failed=f"the decoder process died on it ({died})")])

    def _ask(
        self,
        process: subprocess.Popen[bytes],
        files: dict[int, int],
        left: dict[int, int],
        decisions: dict[tuple[int, bytes], bool],
    ) -> None:
        """Have as many of `files` done as the worker does at a time, and take them out of `left`."""
        said = ask(process, [[self.paths[index], slot] for index, slot in files.items()])
        self.answered = True
        found = [_image(index, one) for index, one in zip(files, said, strict=False)]
        sound = [image for image in found if not image.failed]
        with self.lock:
            for image in sound:
                key = image.index, image.digest
                if key not in decisions:
                    decisions[key] = self.wanted(image.digest)
        decode = [decisions[image.index, image.digest] for image in sound]
        wanted = [image for image, decided in zip(sound, decode, strict=True) if decided]
        self._done(left, [image for image in found if image not in wanted])
        if sound:
            tell(process, decode)
        decoded = hear(process) if wanted else []
        done = []
        for image, one in zip(wanted, decoded, strict=True):
            failed = one.get("failed", "")
            pixels = None if failed else self.memory[files[image.index]]
            done.append(replace(image, failed=failed, pixels=pixels, decoding=one["seconds"]))
        self._done(left, done)

    def _done(self, left: dict[int, int], images: Sequence[ImageRead]) -> None:
        with self.lock:
            for image in images:
                self.done[image.index] = (image, left.pop(image.index))
            self.lock.notify()


def _image(index: int, said: dict[str, Any]) -> ImageRead:
    """What reading one file gave."""
    if "failed" in said:
        return ImageRead(index, failed=said["failed"], reading=said["seconds"])
    digest, status = bytes.fromhex(said["digest"]), tuple(said["stat"])
    return ImageRead(index, digest, status, said["read_at"], reading=said["seconds"])
