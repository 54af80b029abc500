"""A loader worker: one process that gets requests on its standard input and replies on its standard output.

A line of JSON each:

    > [[path, slot], …]                            (of an image in a container: [container, slot, place, stat])
    < [{"stat": [size, mtime_ns, ctime_ns, inode], "digest": …, "read_at": …, "seconds": …} or {"failed": reason, …}, …]
    > [true, false, …]                              (whether to decode each that was read, where any was)
    < [{"seconds": …} or {"failed": reason, …}, …]  (of each that was to be decoded, where any was)

The pixels stand in the slot of the file, those of each view one behind the other.

Several files at a time, because a request costs as much time as reading a small file. The first reply may be shorter
than its request: once a worker holds 64 MiB of what it has read, it replies, and is asked for the rest again.

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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featcache.containers import ContainerError, MemberReader, Place, is_elsewhere
from featcache.errors import FeatcacheError
from featcache.files import BLOCK_BYTES, open_file
from featcache.files.objects import is_remote, read_remote
from featcache.media import BadImageError, ImageTransform, View, copy_image, decode_views, may_be_image

_MAX_BYTES = 1 << 30  # a file larger than this is no picture that fits the limit on pixels
_MAX_HELD = 1 << 26  # bytes of files that a worker has read before it decodes
_HEAD = 1 << 10  # first bytes that show whether a larger file may be an image
_MAX_READS = 3  # how often a file that changes while it is read is read again


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """What a worker has to work with: its parent's requests, the replies to them, and the memory for pixels."""

    transform: ImageTransform
    views: Sequence[View | None]  # that are made of each image; None: the plain one
    slots: npt.NDArray[np.uint8]  # (slots, views, *transform.shape), shared with the parent
    requests: BinaryIO
    replies: io.FileIO

    def reply(self, message: object) -> None:
        """Send a message to the parent."""
        reply(self.replies, message)


def main(settings: str, shared: int) -> None:
    """Serve until standard input ends; `shared` is the descriptor of the memory shared with the parent."""
    serve(settings, shared, _read_and_decode)


def serve(settings: str, shared: int, loop: Callable[[Channel], None]) -> None:
    """Run a worker's loop on what `main` was given: transform and views as JSON, and the descriptor of the memory."""
    fields = json.loads(settings)
    views = [None if view is None else View(**view) for view in fields.pop("views", [None])]
    transform = ImageTransform(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
    slots = np.frombuffer(mmap.mmap(shared, 0), dtype=np.uint8).reshape(-1, len(views), *transform.shape)
    with contextlib.suppress(BrokenPipeError):  # the parent died while something was read or decoded for it
        # Unbuffered: what could not be said must not be said again at exit.
        replies = io.FileIO(sys.stdout.fileno(), "w", closefd=False)
        loop(Channel(transform, views, slots, sys.stdin.buffer, replies))


def _read_and_decode(channel: Channel) -> None:
    members = MemberReader()
    while line := channel.requests.readline():
        outcomes: list[dict[str, Any]] = []
        readable: list[tuple[bytes, bytes, int]] = []  # a file's bytes, its digest, and the slot for its pixels
        held = 0
        for slot, data, outcome in _read_each(json.loads(line), members):
            outcomes.append(outcome)
            if data is not None:
                readable.append((data, bytes.fromhex(outcome["digest"]), slot))
                held += len(data)
            if held > _MAX_HELD:
                break
        channel.reply(outcomes)
        if not readable or not (line := channel.requests.readline()):
            continue
        decoded = []
        for (data, digest, slot), is_wanted in zip(readable, json.loads(line), strict=True):
            if is_wanted:
                decoded.append(_decode(data, digest, channel, channel.slots[slot]))
        if decoded:
            channel.reply(decoded)


def _read_each(
    asked: Sequence[Sequence[Any]], members: MemberReader
) -> Iterator[tuple[int, bytes | None, dict[str, Any]]]:
    """Yield the slot of each image that is asked for, its bytes, and what the parent is told of it, in order."""
    if asked and is_elsewhere(asked[0][0]):
        yield from _read_remotes(asked, members)
        return
    for path, slot, *place in asked:
        begun = time.perf_counter()
        data, outcome = _read_and_hash_any(members, path, *place)
        yield slot, data, outcome | {"seconds": time.perf_counter() - begun}


def _read_remotes(
    asked: Sequence[Sequence[Any]], members: MemberReader
) -> Iterator[tuple[int, bytes | None, dict[str, Any]]]:
    """Yield what `_read_each` does, of what is in a bucket or on the Hub: all of it is on its way at once."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(asked)) as threads:
        jobs = [threads.submit(_read_and_hash_any, members, path, *place) for path, _, *place in asked]
        results = [job.result() for job in jobs]
    seconds = (time.perf_counter() - begun) / len(asked)
    for (_, slot, *_), (data, outcome) in zip(asked, results, strict=True):
        yield slot, data, outcome | {"seconds": seconds}


def _read_and_hash_any(members: MemberReader, path: str, *place: Any) -> tuple[bytes | None, dict[str, Any]]:
    """Return what `read_and_hash` does, of a file, of an object in a bucket, or of an image in a container."""
    if place:
        return _read_and_hash_member(members, path, *place)
    return _read_and_hash_remote(path) if is_remote(path) else read_and_hash(path)


def _read_and_hash_remote(path: str) -> tuple[bytes | None, dict[str, Any]]:
    read_at = time.time_ns()
    try:
        data, status = read_remote(path, _MAX_BYTES)
    except OSError as error:
        return None, {"failed": f"cannot be read: {error.strerror or error}"}
    return data, {"stat": status, "digest": hashlib.sha256(data).hexdigest(), "read_at": read_at}


def _decode(data: bytes, digest: bytes, channel: Channel, slot: npt.NDArray[np.uint8]) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        for pixels, place in zip(decode_views(data, channel.transform, channel.views, digest), slot, strict=True):
            copy_image(pixels, place)
    except BadImageError as error:
        return {"failed": str(error), "seconds": time.perf_counter() - begun}
    return {"seconds": time.perf_counter() - begun}


def read_and_hash(path: str) -> tuple[bytes | None, dict[str, Any]]:
    """Return a file's bytes, None where they cannot be had, and what the parent is told of it.

    Of a large file that is no image by its first bytes, these are its bytes, enough to say so; its digest is of all.
    """
    try:
        for _ in range(_MAX_READS):
            read_at = time.time_ns()
            with os.fdopen(open_file(path, follow_links=True), "rb") as file:
                before = os.fstat(file.fileno())
                if before.st_size > _MAX_BYTES:
                    return None, {"failed": f"{before.st_size:,} bytes: larger than any supported image"}
                data, count, digest = _read_contents(file, before.st_size)
                after = os.fstat(file.fileno())
            status = (after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino)
            is_unchanged = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == status[:3]
            if is_unchanged and count == after.st_size:
                return data, {"stat": status, "digest": digest, "read_at": read_at}
    except (OSError, ValueError) as error:
        return None, {"failed": f"cannot be read: {getattr(error, 'strerror', None) or error}"}
    return None, {"failed": f"it changed while it was read, {_MAX_READS} times"}


def _read_and_hash_member(
    members: MemberReader, container: str, place: Place, status: Sequence[int]
) -> tuple[bytes | None, dict[str, Any]]:
    """Return the bytes of an image in a container, and what the parent is told of it, as `read_and_hash` does."""
    read_at = time.time_ns()
    size, mtime, ctime, inode = status
    try:
        data = members.read_at(container, place, (size, mtime, ctime, inode), _MAX_BYTES)
    except ContainerError as error:
        return None, {"failed": str(error)}
    except (OSError, FeatcacheError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        return None, {"failed": f"cannot be read: {why}"}
    return data, {"stat": status, "digest": hashlib.sha256(data).hexdigest(), "read_at": read_at}


def _read_contents(file: BinaryIO, size: int) -> tuple[bytes, int, str]:
    """Return the bytes of a file of `size` bytes as `read_and_hash` does, their count, and the sha256 of all, in hex.

    One more than `size` is read, which shows a file that grows; it may grow without end.
    """
    head = file.read(_HEAD) if size > _MAX_HELD else b""
    if head and not may_be_image(head):
        running, count = hashlib.sha256(head), len(head)
        while block := file.read(min(BLOCK_BYTES, size + 1 - count)):
            running.update(block)
            count += len(block)
        return head, count, running.hexdigest()
    file.seek(0)
    data = file.read(size + 1)
    return data, len(data), hashlib.sha256(data).hexdigest()


def reply(replies: io.FileIO, message: object) -> None:
    """Send a message, one line of JSON, to the parent.

    Args:
        replies: The standard output of this process, unbuffered.
        message: What JSON can carry.

    Raises:
        BrokenPipeError: the parent has ended.
    """
    replies.write(json.dumps(message).encode() + b"\n")


def transform_to_json(transform: ImageTransform, views: Sequence[View | None] = (None,)) -> str:
    """Return what `main` needs to know, as one argument."""
    as_json = [None if view is None else dataclasses.asdict(view) for view in views]
    return json.dumps(dataclasses.asdict(transform) | ({"views": as_json} if any(views) else {}))
