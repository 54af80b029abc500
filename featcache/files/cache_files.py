"""Reading a file of the cache whole: a regular file, no link, and no larger than such a file can be.

A cache can come from anybody. A pipe in the place of a file would block for ever, a link would lead out of the folder,
and a sparse file of a terabyte would take all memory.
"""

import hashlib
import os
import stat
from pathlib import Path

from featcache.errors import CacheError
from featcache.files.objects import ObjectPath
from featcache.files.safe_read import hash_file, open_file, read_file

MAX_DOCUMENT_BYTES = 1 << 26  # bytes: trunk.json, weights.json, splits.json, head.json
MAX_LOG_BYTES = 1 << 32  # commits.jsonl and runs.jsonl
MAX_MEMORY_BYTES = 1 << 36  # stat.log: of some 230 bytes a file, 16 are in memory
MAX_LISTING_BYTES = 1 << 36  # of which only what is looked at is in memory
MAX_TENSORS_BYTES = 1 << 32  # head.safetensors, model.safetensors, model.skops, predictions
MAX_HISTORY_BYTES = 1 << 28  # history.csv: more than a million epochs


def open_cache_file(path: Path) -> int:
    """Return a descriptor for reading a file of a cache; the caller closes it.

    Args:
        path: The file, below the cache folder; whoever gave the cache away may have put anything there.

    Raises:
        OSError: it is missing, no regular file, or a link; `strerror` says which.
    """
    return open_file(path, follow_links=False)


def list_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder of a cache, sorted; none where there is no such folder.

    A glob passes over what it may not list, and a store that nobody may look into would count as none.

    Args:
        folder: A folder of the cache, such as `stores`; it need not be there.

    Raises:
        CacheError: it cannot be listed: it is no folder, or may not be read.
    """
    if isinstance(folder, ObjectPath):
        from featcache.files.objects import list_object_folders

        return list_object_folders(folder)
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
        raise CacheError(f"{folder}: cannot be listed: {error.strerror}; fix that, or name another --cache") from error


def is_missing(path: Path) -> bool:
    """Whether nothing stands at a place of a cache.

    Args:
        path: Where a file or a folder of the cache would stand.

    Raises:
        CacheError: the folder around it may not be looked into, so nobody can say.
    """
    if isinstance(path, ObjectPath):
        return not path.exists()
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise CacheError(f"{path.parent}: cannot be looked into: {error.strerror}; fix that") from error
    return False


def is_present(path: Path) -> bool:
    """Whether something stands at a place of a cache, be it a link that leads nowhere.

    Args:
        path: Where a file or a folder of the cache would stand.
    """
    return path.exists() if isinstance(path, ObjectPath) else os.path.lexists(path)


def is_regular_file(path: Path) -> bool:
    """Whether what stands at a place of a cache is a file, or a log, of the kind that featcache writes.

    Args:
        path: Where it stands.

    Raises:
        OSError: nothing stands there.
    """
    return isinstance(path, ObjectPath) or stat.S_ISREG(path.lstat().st_mode)


def read_cache_file(path: Path, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return all bytes of a file of a cache.

    Args:
        path: The file, below the cache folder.
        limit: The most bytes that such a file can have; unless another is given, those of a document.

    Raises:
        OSError: it is missing, no regular file, a link, or larger than `limit`.
        MachineError: the object store that it is in does not answer.
    """
    if isinstance(path, ObjectPath):
        from featcache.files.objects import read_object

        return read_object(path, limit)
    return read_file(path, limit, follow_links=False)


def hash_cache_file(path: Path) -> str:
    """Return the sha256 of a file of a cache, 64 hex digits, in bounded memory.

    Args:
        path: The file, below the cache folder.

    Raises:
        OSError: it is missing, no regular file, or a link.
        MachineError: the object store that it is in does not answer.
    """
    if isinstance(path, ObjectPath):
        from featcache.files.objects import open_object

        return open_object(path).hash().hex()
    return hash_file(path, follow_links=False).hex()


def read_if_hash_matches(path: Path, sha256: str, limit: int) -> bytes | None:
    """Return all bytes of a file of a cache whose sha256 is this one; None where it is another.

    A large file is hashed before any of it is held: what is not the file that was meant takes no memory.

    Args:
        path: The file, below the cache folder.
        sha256: What a document or a log of the cache says of it, 64 hex digits.
        limit: The most bytes that such a file can have.

    Raises:
        OSError: it is missing, no regular file, a link, or larger than `limit`.
        MachineError: the object store that it is in does not answer.
    """
    if isinstance(path, ObjectPath):
        return _read_object_of_hash(path, sha256, limit)
    if os.lstat(path).st_size > MAX_DOCUMENT_BYTES and hash_cache_file(path) != sha256:
        return None
    data = read_cache_file(path, limit)
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def _read_object_of_hash(path: ObjectPath, sha256: str, limit: int) -> bytes | None:
    """Return an object with this hash, from a copy on this machine's disk where there is one; None where it differs."""
    from featcache.files.objects import find_copy, keep_copy, read_object

    copy = find_copy(path, sha256)
    if copy is not None:
        return read_cache_file(copy, limit)
    data = read_object(path, limit)
    if hashlib.sha256(data).hexdigest() != sha256:
        return None
    keep_copy(path, sha256, data)
    return data
