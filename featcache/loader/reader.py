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

from featcache.containers import ContainerError, MemberLocator, MemberPath, is_elsewhere, pin_commit
from featcache.errors import MachineError
from featcache.loader.pool import MAX_TRIES, WorkerPool
from featcache.loader.process import recv, request, send
from featcache.media import ImageTransform, View

_MAX_FILES = 8  # that a worker is asked for at once …
_MAX_REMOTE = 16  # images in a bucket or on the Hub that a worker fetches at once
_MAX_SECONDS = 0.02  # … as long as all of them take no more than so many seconds
PLAIN: tuple[View | None, ...] = (None,)  # of each image nothing but what the trunk's own transform makes


@dataclass(frozen=True, slots=True, eq=False)
class ImageRead:
    """What became of one file."""

    index: int  # its place in what was asked for
    digest: bytes = b""  # sha256 of the bytes; b"" where they could not be read
    stat: tuple[int, int, int, int] | None = None  # size, mtime_ns, ctime_ns, inode, as they were read
    read_at: int = 0  # time.time_ns before the reading
    failed: str = ""  # why it gives no image
    pixels: npt.NDArray[np.uint8] | None = None  # as `decode_image` gives them; None: it failed, or was not wanted
    video: bytes = b""  # of a frame, sha256 of its video, whose stat this is then
    reading: float = 0.0  # seconds that its process spent reading and hashing it
    decoding: float = 0.0  # seconds that it spent decoding it
    views: npt.NDArray[np.uint8] | None = None  # all views that were asked for, in their order; `pixels` is the first


def read_images(
    paths: Sequence[str | MemberPath],
    transform: ImageTransform,
    is_wanted: Callable[[bytes], bool],
    *,
    views: Sequence[View | None] = PLAIN,
    workers: int,
    ahead: int,
) -> Generator[ImageRead, None, None]:
    """Read and hash these files, decode those that are wanted, and yield what became of each, in order.

    Args:
        paths: The files, absolute: a worker's working folder is another; or images in containers, whose paths are.
        transform: What is done to each image.
        is_wanted: Says of a digest whether its image is to be decoded; called in other threads, one call at a time.
        views: Which of each image are made; None is the plain one.
        workers: At most so many processes read and decode.
        ahead: At most so many images are held decoded.

    Yields:
        An `ImageRead` for each file. Its pixels are a view into memory that is used again: valid until the next
        image is asked for.

    Raises:
        MachineError: a worker process cannot be started, or no worker stays alive.
    """
    workers = min(workers, max(1, len(paths)))
    pool = _ImagePool(paths, transform, is_wanted, views=views, workers=workers, ahead=ahead)
    try:
        pool.begin()  # inside: Ctrl-C may come while the workers start
        yield from pool.results()
    finally:
        pool.close()


class _ImagePool(WorkerPool):
    """A worker reads whole files, a few at a time."""

    def __init__(
        self,
        paths: Sequence[str | MemberPath],
        transform: ImageTransform,
        is_wanted: Callable[[bytes], bool],
        *,
        views: Sequence[View | None],
        workers: int,
        ahead: int,
    ) -> None:
        super().__init__("worker", transform, views, workers=workers, ahead=ahead)
        self.paths, self.is_wanted = paths, is_wanted
        self.locator = MemberLocator()
        first = next(iter(paths[:1]), "")
        self.are_elsewhere = is_elsewhere(first.container if isinstance(first, MemberPath) else first)
        self.next = 0  # this and `done` are guarded by the lock, as calls of `is_wanted` are
        self.done: dict[int, tuple[ImageRead, int]] = {}  # by index, with the slot to give back

    def results(self) -> Iterator[ImageRead]:
        """Yield what became of each file, in order."""
        for index in range(len(self.paths)):
            with self.lock:
                while index not in self.done and self.error is None:
                    self.lock.wait(timeout=1.0)  # a plain wait would not see Ctrl-C on every platform
                if index not in self.done:
                    assert self.error is not None  # noqa: S101 (the loop above ended)
                    raise self.error
                image, slot = self.done.pop(index)
            yield image
            self.free.put(slot)

    def serve(self, number: int) -> None:
        """Take the next files and have them done, until there are none."""
        fair = max(1, len(self.memory) // len(self.threads))  # slots: nobody takes what another could work with
        seconds_a_file = _MAX_SECONDS  # as far as is known
        while slots := self._take_slots(self._count_files(fair, seconds_a_file)):
            with self.lock:
                share = -(-(len(self.paths) - self.next) // len(self.threads))  # so that the last ones end together
                count = 0 if self.is_closed else min(len(slots), share)
                first, self.next = self.next, self.next + count
            for slot in slots[count:]:
                self.free.put(slot)
            if not count:
                return
            begun = time.perf_counter()
            self._read(number, dict(zip(range(first, first + count), slots[:count], strict=True)))
            seconds_a_file = max((time.perf_counter() - begun) / count, 1e-6)

    def _count_files(self, fair: int, seconds_a_file: float) -> int:
        """Return how many files a worker is asked for at once: many that are elsewhere, which come side by side."""
        if self.are_elsewhere:
            return min(_MAX_REMOTE, fair)
        return max(1, min(_MAX_FILES, fair, int(_MAX_SECONDS / seconds_a_file)))

    def _take_slots(self, most: int) -> list[int]:
        """Wait for one free slot, and take up to `most`; [] at the end.

        It is called before any file is taken, so that the order of files cannot block.
        """
        slots: list[int] = []
        while len(slots) < most:
            try:
                slot = self.free.get(block=not slots)
            except queue.Empty:
                break
            if slot is None:
                return []
            slots.append(slot)
        return slots

    def _read(self, number: int, remaining: dict[int, int]) -> None:
        """Have these files done, {index: slot}; where a process dies of several, each has one to itself."""
        decisions: dict[tuple[int, bytes], bool] = {}  # a file's second worker gets the answer that its first one got
        deaths: dict[int, int] = defaultdict(int)
        one_at_a_time = False
        while remaining:
            files = dict([next(iter(remaining.items()))]) if one_at_a_time else dict(remaining)
            process = self.ensure_process(number)
            try:
                self._request(process, files, remaining, decisions)
            except (EOFError, BrokenPipeError):
                ending = self.replace_dead(number)
                if self.is_closed:
                    return
                if len(files) > 1:
                    one_at_a_time = True
                    continue
                (index,) = files
                deaths[index] += 1
                if deaths[index] < MAX_TRIES:
                    continue
                if not self.has_answered:
                    raise MachineError(
                        f"the loader processes keep crashing ({ending}); their output is above"
                    ) from None
                # With its digest, so that the same bytes elsewhere learn of it; without a stat: it may have been the
                # machine.
                digest = next((digest for file, digest in reversed(decisions) if file == index), b"")
                self._finish(
                    remaining, [ImageRead(index, digest, failed=f"the decoder process crashed on it ({ending})")]
                )

    def _request(
        self,
        process: subprocess.Popen[bytes],
        files: dict[int, int],
        remaining: dict[int, int],
        decisions: dict[tuple[int, bytes], bool],
    ) -> None:
        """Have as many of `files` done as the worker does at a time, and take them out of `remaining`."""
        messages = self._locate(files, remaining)
        outcomes = request(process, list(messages.values())) if messages else []
        self.has_answered = self.has_answered or bool(messages)
        images = [_image_read(index, outcome) for index, outcome in zip(messages, outcomes, strict=False)]
        readable = [image for image in images if not image.failed]
        with self.lock:
            for image in readable:
                key = image.index, image.digest
                if key not in decisions:
                    decisions[key] = self.is_wanted(image.digest)
        decided = [decisions[image.index, image.digest] for image in readable]
        wanted = [image for image, is_wanted in zip(readable, decided, strict=True) if is_wanted]
        self._finish(remaining, [image for image in images if image not in wanted])
        if readable:
            send(process, decided)
        decoded = recv(process) if wanted else []
        finished = []
        for image, outcome in zip(wanted, decoded, strict=True):
            failed = outcome.get("failed", "")
            views = None if failed else self.memory[files[image.index]]
            pixels = None if views is None else views[0]
            finished.append(replace(image, failed=failed, pixels=pixels, views=views, decoding=outcome["seconds"]))
        self._finish(remaining, finished)

    def _locate(self, files: dict[int, int], remaining: dict[int, int]) -> dict[int, list[Any]]:
        """Return what a worker is asked for each of these files, by index; hand on those that are in no container."""
        messages: dict[int, list[Any]] = {}
        for index, slot in files.items():
            path = self.paths[index]
            if not isinstance(path, MemberPath):
                messages[index] = [path, slot]
                continue
            try:
                messages[index] = [pin_commit(path.container), slot, *self.locator.locate(path)]
            except ContainerError as error:
                self._finish(remaining, [ImageRead(index, failed=str(error))])
        return messages

    def _finish(self, remaining: dict[int, int], images: Sequence[ImageRead]) -> None:
        """Hand these images on."""
        with self.lock:
            for image in images:
                self.done[image.index] = (image, remaining.pop(image.index))
            self.lock.notify()


def _image_read(index: int, outcome: dict[str, Any]) -> ImageRead:
    """Return what reading one file gave."""
    if "failed" in outcome:
        return ImageRead(index, failed=outcome["failed"], reading=outcome["seconds"])
    digest, status = bytes.fromhex(outcome["digest"]), tuple(outcome["stat"])
    return ImageRead(index, digest, status, outcome["read_at"], reading=outcome["seconds"])
