"""Files that a command goes on in, such as a study: of a cache in a bucket they stand on this machine.

FOLDER/work/<16 hex>/…     by the name that the file would have below the cache; FOLDER is that of --local-cache
"""

import hashlib
from pathlib import Path

from featcache.errors import UsageError
from featcache.files.objects.local_copies import copies_folder
from featcache.files.objects.object_path import ObjectPath


def require_working_folder(cache: Path, command: str, what: str) -> None:
    """Refuse a cache in an object store for which no folder of this machine is named.

    Args:
        cache: The cache.
        command: What was typed: "search".
        what: What it keeps as a file that it goes on in: "its study".

    Raises:
        UsageError: there is no such folder.
    """
    if isinstance(cache, ObjectPath) and copies_folder(cache) is None:
        raise UsageError(
            f"{cache}: `featcache {command}` keeps {what} as a file that it goes on in, and a bucket has none; name a "
            f"folder of this machine for it: --local-cache FOLDER (what comes of it is kept in the bucket)"
        ).correct("--local-cache", "local")


def working_place(path: Path, cache: Path) -> Path:
    """Return where a file that a command goes on in stands: in the cache, or for one in a bucket on this machine.

    Args:
        path: Of the file or folder, below the cache.
        cache: The cache; of one in a bucket `require_working_folder` was asked before.
    """
    folder = copies_folder(cache) if isinstance(cache, ObjectPath) else None
    if folder is None:
        return path
    return folder.joinpath("work", hashlib.sha256(str(cache).encode()).hexdigest()[:16], *path.relative_to(cache).parts)


def bring_here(path: ObjectPath, cache: Path, limit: int) -> Path | None:
    """Return the file of this machine that has the bytes of an object, fetched once; None where no folder is named.

    Args:
        path: Of an object that never changes.
        cache: The cache that it is in.
        limit: The most bytes that it may have.

    Raises:
        OSError: it is gone, or larger.
        MachineError: the object store does not answer, or the disk refuses.
    """
    from featcache.files import make_folder, publish
    from featcache.files.objects.object_reader import read_object

    place = working_place(path, cache)
    if isinstance(place, ObjectPath):
        return None
    if not place.is_file():
        make_folder(place.parent)
        publish(place, read_object(path, limit))
    return place
