"""A loader worker: one process, asked over its standard input, answering on its standard output, a JSON line each.

    > [[path, slot], …]
    < [{"stat": [size, mtime_ns, ctime_ns, inode], "digest": …, "read_at": …, "seconds": …} or {"failed": reason, …}, …]
    > [true, false, …]                              (whether to decode each that was read, where any was)
    < [{"seconds": …} or {"failed": reason, …}, …]  (of each that was to be decoded, where any was)

The pixels stand in the slot of the file.

Several files at a time, because a question costs as much time as reading a small file. The first answer may be shorter
than its question: what a worker has read once it holds 64 MiB, it is asked for the rest again.

The bytes that are hashed are the bytes that are decoded. A process of its own, not a fork: a fork of a process that
runs torch inherits locks in any state. It imports no torch, and ends when its standard input does, so that it
outlives its parent by nothing, however that died.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import mmap
import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featcache.files import BLOCK, open_file
from featcache.media import BadImageError, ImageTransform, decode, may_be_image, put

_MAX_BYTES = 1 << 30  # a file larger than this is no picture that fits the limit on pixels
_HELD = 1 << 26  # bytes of files that a worker has read before it decodes
_HEAD = 1 << 10  # first bytes that show whether a larger file may be an image
_READS = 3  # how often a file that changes while it is read is read again


def main(settings: str, slots: int) -> None:
    """Serve until standard input ends; `slots` is the descriptor of the memory shared with the parent."""
    serve(settings, slots, _serve)


def serve(
    settings: str,
    slots: int,
    loop: Callable[[ImageTransform, npt.NDArray[np.uint8], BinaryIO, io.FileIO], None],
) -> None:
    """Run a worker's loop on what `main` was given: the transform, and the memory as (slots, *transform.shape)."""
    found = json.loads(settings)
    transform = ImageTransform(**{**found, "mean": tuple(found["mean"]), "std": tuple(found["std"])})
    places = np.frombuffer(mmap.mmap(slots, 0), dtype=np.uint8).reshape(-1, *transform.shape)
    with contextlib.suppress(BrokenPipeError):  # the parent died while something was read or decoded for it
        # Unbuffered: what could not be said must not be said again at exit.
        loop(transform, places, sys.stdin.buffer, io.FileIO(sys.stdout.fileno(), "w", closefd=False))


def _serve(transform: ImageTransform, places: npt.NDArray[np.uint8], asked: BinaryIO, answer: io.FileIO) -> None:
    while line := asked.readline():
        outcomes: list[dict[str, Any]] = []
        sound: list[tuple[bytes, int]] = []
        held = 0
        for path, slot in json.loads(line):
            begun = time.perf_counter()
            data, outcome = read(path)
            outcomes.append(outcome | {"seconds": time.perf_counter() - begun})
            if data is not None:
                sound.append((data, slot))
                held += len(data)
            if held > _HELD:
                break
        say(answer, outcomes)
        if not sound or not (line := asked.readline()):
            continue
        decoded = []
        for (data, slot), wanted in zip(sound, json.loads(line), strict=True):
            if wanted:
                decoded.append(_decode(data, transform, places[slot]))
        if decoded:
            say(answer, decoded)


def _decode(data: bytes, transform: ImageTransform, place: npt.NDArray[np.uint8]) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        put(decode(data, transform), place)
    except BadImageError as error:
        return {"failed": str(error), "seconds": time.perf_counter() - begun}
    return {"seconds": time.perf_counter() - begun}


def read(path: str) -> tuple[bytes | None, dict[str, Any]]:
    """A file's bytes, and what is said of them; None where they cannot be had.

    Of a large file that is no image by its first bytes, these are its bytes, enough to say so; its digest is of all.
    """
    try:
        for _ in range(_READS):
            read_at = time.time_ns()
            with os.fdopen(open_file(path, follow_links=True), "rb") as file:
                before = os.fstat(file.fileno())
                if before.st_size > _MAX_BYTES:
                    return None, {"failed": f"{before.st_size:,} bytes: larger than any supported image"}
                data, count, digest = _contents(file, before.st_size)
                after = os.fstat(file.fileno())
            status = (after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino)
            unchanged = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == status[:3]
            if unchanged and count == after.st_size:
                return data, {"stat": status, "digest": digest, "read_at": read_at}
    except (OSError, ValueError) as error:
        return None, {"failed": f"cannot be read: {getattr(error, 'strerror', None) or error}"}
    return None, {"failed": f"it changed while it was read, {_READS} times"}


def _contents(file: BinaryIO, size: int) -> tuple[bytes, int, str]:
    """The bytes of a file of `size` bytes as `read` gives them, how many there are, and the sha256 of all, in hex.

    One more than `size` is read, which shows a file that grows; it may grow without end.
    """
    head = file.read(_HEAD) if size > _HELD else b""
    if head and not may_be_image(head):
        running, count = hashlib.sha256(head), len(head)
        while block := file.read(min(BLOCK, size + 1 - count)):
            running.update(block)
            count += len(block)
        return head, count, running.hexdigest()
    file.seek(0)
    data = file.read(size + 1)
    return data, len(data), hashlib.sha256(data).hexdigest()


def say(answer: io.FileIO, value: object) -> None:
    """Answer the parent."""
    answer.write(json.dumps(value).encode() + b"\n")


def settings_of(transform: ImageTransform) -> str:
    """What `main` needs to know, as one argument."""
    return json.dumps(dataclasses.asdict(transform))
