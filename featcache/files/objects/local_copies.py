"""Copies of what was read of a bucket, in a folder of this machine: by their hash, checked when they are read again.

    FOLDER/objects/<2 hex>/<64 hex>     a shard, a listing, a head's tensors: what is named by its sha256
    FOLDER/memory/<16 hex>/stat.log     what this machine remembers of files, for one cache

A copy is never trusted because it is there: one that is another than its name says is removed, and fetched again.
"""

import contextlib
import hashlib
from pathlib import Path

from featcache.errors import MachineError
from featcache.files.objects.object_path import ObjectPath

_FOLDERS: dict[str, Path] = {}  # by the cache's URL
_CHECKED: dict[Path, object] = {}  # copies that this process has hashed, with their stat then


def use_local_copies(cache: ObjectPath, folder: Path) -> None:
    """Keep copies of what is read of a cache in a folder, from now on and in this process.

    Args:
        cache: The cache.
        folder: Absolute; it need not be there yet.
    """
    _FOLDERS[str(cache)] = folder


def copies_folder(cache: ObjectPath) -> Path | None:
    """Return the folder of this machine that was named for a cache; None where none was.

    Args:
        cache: The cache.
    """
    return _FOLDERS.get(str(cache))


def memory_folder(cache: ObjectPath) -> Path | None:
    """Return the folder for what this machine remembers of files for a cache; None where no folder was given.

    Args:
        cache: The cache.
    """
    folder = _FOLDERS.get(str(cache))
    return None if folder is None else folder / "memory" / hashlib.sha256(str(cache).encode()).hexdigest()[:16]


def find_copy(path: ObjectPath, sha256: str) -> Path | None:
    """Return the copy of an object, whose hash is right as of now; None where there is none.

    Args:
        path: Where the object stands.
        sha256: What a log or a document says of it, 64 hex digits.
    """
    from featcache.files import hash_cache_file, read_file_stat, remove_file

    place = _place_of(path, sha256)
    status = None if place is None else read_file_stat(str(place))
    if place is None or status is None:
        return None
    try:
        if _CHECKED.get(place) == status or hash_cache_file(place) == sha256:
            _CHECKED[place] = status
            return place
    except OSError:
        return None
    with contextlib.suppress(MachineError):
        remove_file(place)
    return None


def keep_copy(path: ObjectPath, sha256: str, data: bytes) -> None:
    """Keep a copy of an object that was read and whose hash was right; a full disk keeps none, and hurts nobody.

    Args:
        path: Where the object stands.
        sha256: The hash, 64 hex digits.
        data: All bytes.
    """
    from featcache.files import make_folder, publish

    place = _place_of(path, sha256)
    if place is not None:
        with contextlib.suppress(MachineError):
            make_folder(place.parent)
            publish(place, data)


def _place_of(path: ObjectPath, sha256: str) -> Path | None:
    """Return where the copy of an object stands, or would; None where the cache keeps none."""
    for parent in path.parents:
        if (folder := _FOLDERS.get(str(parent))) is not None:
            return folder / "objects" / sha256[:2] / sha256
    return None
