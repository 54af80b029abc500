"""Reading a file of the cache whole: a regular file, no link, and no larger than such a file can be.

A cache can come from anybody. A pipe in the place of a file would block for ever, a link would lead out of the folder,
and a sparse file of a terabyte would take all memory.
"""

import errno
import os
import stat
from pathlib import Path

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
