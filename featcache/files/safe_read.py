"""Opening and reading files that somebody else may have put there: regular files alone, never waited for, bounded.

A pipe would block for ever, a device or a sparse file would fill the memory, and inside a cache a link would lead out
of it. Files of a cache are opened without following a link; a user's own images, tables and recipes may be links, and
what they lead to is checked in the same way. `cache_files` and `documents` do this for a cache, with limits.
"""

import errno
import hashlib
import os
import stat
from pathlib import Path

BLOCK_BYTES = 1 << 20  # bytes that are read at a time
MAX_TABLE_BYTES = 1 << 32  # bytes: the largest table or annotation file that is read

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a symbolic link"),
)
_LINK = {errno.ELOOP, errno.EMLINK}  # what O_NOFOLLOW says of a link; the second is FreeBSD's


def describe_kind(mode: int) -> str:
    """Return what a file of this `st_mode` is, in words; "" for a regular file.

    Args:
        mode: The `st_mode` that `os.lstat` gives, or `os.stat` where links are followed.
    """
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "" if stat.S_ISREG(mode) else "no regular file")


def open_file(path: str | Path, *, follow_links: bool) -> int:
    """Return a descriptor for reading a regular file, which the caller closes; nothing is waited for.

    Args:
        path: The file.
        follow_links: Whether the last part of the path may be a symbolic link.

    Raises:
        OSError: it is missing, may not be opened, or is a pipe, a device, a socket, a folder, or a link that is not to
            be followed; `strerror` says which.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW))
    except ValueError:  # a NUL in the name, or a character that no file name has
        raise OSError(errno.EINVAL, "no file can have this name", os.fspath(path)) from None
    except OSError as error:
        raise describe_refusal(error, path, follow_links=follow_links) from None
    refuse_special(handle, path)
    return handle


def read_file(path: str | Path, limit: int, *, follow_links: bool) -> bytes:
    """Return all bytes of a regular file.

    Args:
        path: The file.
        limit: The most bytes that it may have.
        follow_links: Whether the last part of the path may be a symbolic link.

    Raises:
        OSError: as `open_file`; or it is larger than `limit` bytes.
    """
    with os.fdopen(open_file(path, follow_links=follow_links), "rb") as file:
        refuse_larger(file.fileno(), limit)
        data = file.read(os.fstat(file.fileno()).st_size + 1)  # as much is allocated as is asked for
        while len(data) <= limit and (block := file.read(BLOCK_BYTES)):  # it grows
            data += block
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes, more than any such file has", os.fspath(path))
    return data


def describe_refusal(error: OSError, path: str | Path, *, follow_links: bool) -> OSError:
    """Return the error that opening `path` gave, saying what stands there where the system's words do not."""
    if error.errno in _LINK and not follow_links:
        return OSError(error.errno, "it is a symbolic link, which is not followed here", os.fspath(path))
    if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # a socket; or a pipe that is opened for writing
        try:
            kind = describe_kind(os.lstat(path).st_mode)
        except OSError:
            kind = ""
        if kind:
            return OSError(error.errno, f"it is {kind}, not a regular file", os.fspath(path))
    return error


def refuse_special(handle: int, path: str | Path) -> None:
    """Close an open file and raise an OSError unless it is a regular one.

    Raises:
        OSError: it is a pipe, a device or a folder.
    """
    if kind := describe_kind(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))


def refuse_larger(handle: int, limit: int) -> None:
    """Raise an OSError unless an open file has at most `limit` bytes.

    Args:
        handle: The descriptor of the open file.
        limit: The most bytes that it may have.

    Raises:
        OSError: it has more.
    """
    size = os.fstat(handle).st_size
    if size > limit:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than any such file has")


def hash_file(path: str | Path, *, follow_links: bool) -> bytes:
    """Return the sha256 of a regular file, 32 bytes, in bounded memory however large it is.

    Args:
        path: The file.
        follow_links: Whether the last part of the path may be a symbolic link.

    Raises:
        OSError: as `open_file`.
    """
    running = hashlib.sha256()
    with os.fdopen(open_file(path, follow_links=follow_links), "rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            running.update(block)
    return running.digest()


def describe_target(path: str | Path) -> str:
    """Return why no file can be written in the place of what stands at `path`, in words; "" where one can.

    A pipe or a device there would be replaced by a file, and whoever reads it would wait for ever.

    Args:
        path: Where a file is to be written, absolute or relative to the working folder; links are followed.
    """
    try:
        kind = describe_kind(os.stat(path).st_mode)
    except (OSError, ValueError):  # nothing there: whether it can be made shows when it is written
        return ""
    return f"is {kind}, expected a file or nothing" if kind else ""
