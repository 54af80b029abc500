"""Images that are objects in a bucket: `s3://BUCKET/PREFIX/train/ants/0013.jpg`, also `gs://` and `az://`.

An object is read whole, once. Its size, its time and its tag stand for the stat of a file.
"""

import hashlib
from collections.abc import Callable, Iterator

from featcache.errors import DataError, MachineError, UsageError
from featcache.files import FileStat
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.connection import StoreRefusalError
from featcache.files.objects.object_path import parse_object_url
from featcache.files.objects.object_version import ObjectVersion

REMOTE_SCHEMES = ("s3://", "gs://", "az://", "memory://")


def is_remote(path: str) -> bool:
    """Return whether a path names what is in a bucket, and not on this machine.

    Args:
        path: As it was typed, or of a row.
    """
    return path.startswith(REMOTE_SCHEMES)


def list_remote(root: str) -> Iterator[tuple[str, FileStat]]:
    """Yield what is in a bucket below a prefix: each key relative to it, with what stands for its stat, in their order.

    Args:
        root: `s3://BUCKET/PREFIX`.

    Raises:
        DataError: there is no such bucket, or nothing below the prefix.
        UsageError: it is no such URL, or obstore is not installed.
        MachineError: the object store does not answer.
    """
    bucket, prefix = _split(root.rstrip("/"))
    start = len(prefix) + 1 if prefix else 0
    is_empty = True
    try:
        for key, version in bucket.walk(prefix, any_name=True):
            is_empty = False
            yield key[start:], _as_stat(version)
    except FileNotFoundError:
        pass
    if is_empty:
        raise DataError(f"{root}: there is nothing in the bucket below this name")


def read_remote(path: str, limit: int) -> tuple[bytes, FileStat]:
    """Return the bytes of an object, and what stands for the stat of what was read.

    Args:
        path: `s3://BUCKET/KEY`.
        limit: The most bytes that it may have.

    Raises:
        OSError: it is not there, is larger, or the object store refuses; `strerror` says why.
    """
    try:
        bucket, key = _split(path)
        data, version = bucket.get(key, limit=limit)
    except StoreRefusalError as error:
        raise OSError(5, error.reason, path) from None
    except (MachineError, UsageError) as error:
        raise OSError(5, str(error), path) from None
    if version.size > limit:
        raise OSError(27, f"{version.size:,} bytes: larger than any supported image", path)
    return data, _as_stat(version)


def open_remote(path: str) -> tuple[FileStat, Callable[[int, int], bytes]]:
    """Return what stands for the stat of an object, and what fetches a range of this very version of it.

    Args:
        path: `s3://BUCKET/KEY`.

    Raises:
        FileNotFoundError: there is no such object. The function raises it, too, and a FileExistsError where another
            version stands there by now.
        UsageError, MachineError: as `list_remote`; the function too.
    """
    bucket, key = _split(path)
    try:
        version = bucket.head(key)
    except FileNotFoundError:
        bucket.has_keys(key)  # the answer to a HEAD does not say that it is the bucket that is missing
        raise
    return _as_stat(version), lambda start, end: b"".join(bucket.get_parts(key, start, end, version.e_tag))


def _split(path: str) -> tuple[Bucket, str]:
    """Return the bucket of a URL, and the key in it, as it stands: a key may have any characters."""
    scheme, _, rest = path.partition("://")
    name, _, key = rest.partition("/")
    place = parse_object_url(f"{scheme}://{name}", "--data")
    if place is None or not name:
        raise UsageError(f"{path}: expected s3://BUCKET/PREFIX")
    return open_bucket(place), key


def _as_stat(version: ObjectVersion) -> FileStat:
    tag = hashlib.sha256(f"{version.e_tag}\0{version.version}".encode()).digest()
    seconds = version.modified_ns // 10**9  # a list may have parts of a second where the answer to a GET has none
    return version.size, seconds * 10**9, 0, int.from_bytes(tag[:7], "big")
