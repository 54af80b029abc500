"""A file of a cache that is open for reading at any place: a descriptor of a local file, or an object of a bucket.

What reads shards asks for no more than this. For a local file each function is the one call of the system that it
names.
"""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeAlias

from featcache.files.cache_files import open_cache_file
from featcache.files.file_stat import FileStat, to_file_stat
from featcache.files.objects import ObjectPath, ObjectReader

FileHandle: TypeAlias = int | ObjectReader
_BLOCK = 1 << 20  # bytes that are hashed at a time


def open_in_cache(path: Path, sha256: str = "") -> FileHandle:
    """Return a file of a cache, open for reading; the caller closes it.

    Args:
        path: The file, below the cache folder.
        sha256: What a log says of it, 64 hex digits: a local copy of an object is used instead. "" where none says.

    Raises:
        OSError: it is missing, no regular file, or a link; `strerror` says which.
        MachineError: the object store does not answer.
    """
    if not isinstance(path, ObjectPath):
        return open_cache_file(path)
    from featcache.files.objects import find_copy, open_object

    copy = find_copy(path, sha256) if sha256 else None
    return open_object(path) if copy is None else open_cache_file(copy)


def close_file(handle: FileHandle) -> None:
    """Close what was open.

    Args:
        handle: As `open_in_cache` returned it.
    """
    if isinstance(handle, int):
        os.close(handle)


def stat_handle(handle: FileHandle) -> FileStat:
    """Return the four numbers that say whether a file is still the one that was read; the first is its size, bytes.

    Args:
        handle: As `open_in_cache` returned it.
    """
    return to_file_stat(os.fstat(handle)) if isinstance(handle, int) else handle.stat


def read_at(handle: FileHandle, out: memoryview, offset: int) -> int:
    """Return how many bytes were read from a place on: 0 where the file has ended.

    Args:
        handle: As `open_in_cache` returned it.
        out: Where they go, as many as fit.
        offset: Where to begin, bytes.

    Raises:
        OSError: the disk refuses.
        MachineError: the object store does not answer.
    """
    return os.preadv(handle, [out], offset) if isinstance(handle, int) else handle.read_into(out, offset)


def hash_handle(handle: FileHandle, progress: Callable[[int], None] = lambda _: None) -> bytes:
    """Return the sha256 of an open file, 32 bytes; an object is fetched anew.

    Args:
        handle: As `open_in_cache` returned it.
        progress: Gets the bytes of each block that was read.
    """
    if not isinstance(handle, int):
        return handle.hash(progress)
    running = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK))
    offset = 0
    while count := os.preadv(handle, [buffer], offset):
        running.update(buffer[:count])
        offset += count
        progress(count)
    return running.digest()


def keep_local_copy(handle: FileHandle, path: Path, sha256: str) -> None:
    """Keep a copy of an object that was read whole on this machine's disk, where its cache keeps copies.

    Args:
        handle: As `open_in_cache` returned it; its hash was found right. Of a local file nothing is done.
        path: Where the object stands.
        sha256: The hash, 64 hex digits.
    """
    if isinstance(handle, int) or not isinstance(path, ObjectPath):
        return
    from featcache.files.objects import keep_copy

    keep_copy(path, sha256, handle.read_all_once())


def as_binary_file(handle: FileHandle) -> BinaryIO:
    """Return an open file as Python has files, for a library that reads them; closing it leaves the handle open.

    Args:
        handle: As `open_in_cache` returned it.
    """
    if isinstance(handle, int):
        return os.fdopen(os.dup(handle), "rb")
    file: io.BytesIO = handle.as_file()
    return file
