"""Reading a file past the system's page cache, which could not hold what is read until it is read again."""

import errno
import mmap
import os
import sys

ALIGNMENT_BYTES = 1 << 12  # where a read past the page cache may begin and end, on every disk that is common


def bypass_page_cache(handle: int) -> bool:
    """Read an open file past the system's page cache from now on (O_DIRECT), where that is possible.

    A read through the cache costs a core 0.6 s for a gigabyte, one past it 0.1 (measured, docs/decisions/058). For what
    does not fit into memory the cache is of no use. Reads must then be those of `AlignedBuffer`.

    Args:
        handle: The descriptor of a file that is open for reading.

    Returns:
        Whether it is possible: not outside Linux, and not on every file system.
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
    """Undo `bypass_page_cache`, and return whether there was something to undo."""
    import fcntl

    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    direct = bool(flags & getattr(os, "O_DIRECT", 0))
    if direct:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return direct


class AlignedBuffer:
    """Memory that a disk can write to directly; it grows with what is read."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")

    def read(self, handle: int, offset: int, size: int) -> memoryview:
        """Return bytes of an open file, fewer where it ends; they are valid until the next read.

        Args:
            handle: The file; `bypass_page_cache` may have been called for it.
            offset: Where to begin, bytes.
            size: How many bytes.

        Raises:
            OSError: the disk refuses.
        """
        before = offset % ALIGNMENT_BYTES
        wanted = -(-(before + size) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
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
            if count % ALIGNMENT_BYTES:  # the end of the file, or a disk that stops elsewhere
                _through_cache(handle)
        return self._memory[before : max(before, min(have, before + size))]
