"""Reading a file of the cache whole: a regular file, no link, and no larger than such a file can be.

A cache can come from anybody. A pipe in the place of a file would block for ever, a link would lead out of the folder,
and a sparse file of a terabyte would take all memory.
"""

import errno
import mmap
import os
import stat
import sys
from pathlib import Path

ALIGNED = 1 << 12  # bytes: where a read past the page cache may begin and end, on every disk that is common

DOCUMENT = 1 << 26  # bytes: trunk.json, weights.json, splits.json, head.json
LOG = 1 << 32  # stat.log and commits.jsonl
LISTING = 1 << 32
HEAD = 1 << 32  # head.safetensors, history.csv


def open_regular(path: Path) -> int:
    """A descriptor for reading.

    Raises:
        OSError: it is missing, no regular file, or a link.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file")
    return handle


def past_cache(handle: int) -> bool:
    """From now on read this file past the system's page cache (O_DIRECT); False where that cannot be had.

    A read through the cache costs a core 0.6 s for a gigabyte, one past it 0.1 (measured, docs/decisions/058). For what
    does not fit into memory the cache is of no use. Reads must then be those of `Scratch`.
    """
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_DIRECT)
    except OSError:  # not every file system has it
        return False
    return True


def _through_cache(handle: int) -> bool:
    """Undo `past_cache`; False where there was nothing to undo."""
    import fcntl

    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    direct = bool(flags & getattr(os, "O_DIRECT", 0))
    if direct:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return direct


class Scratch:
    """Memory that a disk can write to directly; it grows with what is asked for."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")

    def read(self, handle: int, offset: int, size: int) -> memoryview:
        """These bytes, fewer where the file ends; valid until the next read.

        Raises:
            OSError: the disk refuses.
        """
        before = offset % ALIGNED
        wanted = -(-(before + size) // ALIGNED) * ALIGNED
        if wanted > len(self._memory):
            self._memory = memoryview(mmap.mmap(-1, wanted))  # begins where a page does
        have = 0
        while have < before + size:
            try:
                count = os.preadv(handle, [self._memory[have:wanted]], offset - before + have)
            except OSError as error:
                if error.errno != errno.EINVAL or not _through_cache(handle):
                    raise
                continue  # a disk that wants other places to begin at
            have += count
            if not count:
                break
            if count % ALIGNED:  # the end of the file, or a disk that stops elsewhere
                _through_cache(handle)
        return self._memory[before : max(before, min(have, before + size))]


def read_regular(path: Path, limit: int = DOCUMENT) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: it is missing, no regular file, a link, or larger than `limit`.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes, more than any such file has")
        return file.read()
