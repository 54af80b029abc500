"""Reading a file of the cache whole: a regular file, no link, and no larger than such a file can be.

A cache can come from anybody. A pipe in the place of a file would block for ever, a link would lead out of the folder,
and a sparse file of a terabyte would take all memory.
"""

import errno
import hashlib
import mmap
import os
import sys
from pathlib import Path

from featcache.errors import CacheError
from featcache.files.safe_read import hash_file, open_file, read_file

ALIGNED = 1 << 12  # bytes: where a read past the page cache may begin and end, on every disk that is common

DOCUMENT = 1 << 26  # bytes: trunk.json, weights.json, splits.json, head.json
LOG = 1 << 32  # stat.log and commits.jsonl
LISTING = 1 << 32
HEAD = 1 << 32  # head.safetensors, model.safetensors, model.skops, predictions
HISTORY_BYTES = 1 << 28  # history.csv: more than a million epochs


def open_regular(path: Path) -> int:
    """Return a descriptor for reading a file of a cache.

    Raises:
        OSError: it is missing, no regular file, or a link; `strerror` says which.
    """
    return open_file(path, follow_links=False)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder of a cache, sorted; none where there is no such folder.

    A glob passes over what it may not list, and a store that nobody may look into would count as none.

    Raises:
        CacheError: it cannot be listed: it is no folder, or may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(
                folder / entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) or os.path.isdir(entry.path)
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(f"{folder}: cannot be listed: {error.strerror}; mend that, or name another --cache") from error


def is_missing(path: Path) -> bool:
    """Whether nothing stands at a place of a cache.

    Raises:
        CacheError: the folder around it may not be looked into, so nobody can say.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise CacheError(f"{path.parent}: cannot be looked into: {error.strerror}; mend that") from error
    return False


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
    """Return all bytes of a file of a cache.

    Raises:
        OSError: it is missing, no regular file, a link, or larger than `limit`.
    """
    return read_file(path, limit, follow_links=False)


def hash_regular(path: Path) -> str:
    """Return the sha256 of a file of a cache, 64 hex digits, in bounded memory.

    Raises:
        OSError: it is missing, no regular file, or a link.
    """
    return hash_file(path, follow_links=False).hex()


def read_hashed(path: Path, sha256: str, limit: int) -> bytes | None:
    """Return all bytes of a file of a cache whose sha256 is this one; None where it is another.

    A large file is hashed before any of it is held: what is not the file that was meant takes no memory.

    Raises:
        OSError: it is missing, no regular file, a link, or larger than `limit`.
    """
    if os.lstat(path).st_size > DOCUMENT and hash_regular(path) != sha256:
        return None
    data = read_regular(path, limit)
    return data if hashlib.sha256(data).hexdigest() == sha256 else None
