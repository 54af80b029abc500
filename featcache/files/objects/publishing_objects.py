"""Publishing in an object store: an object is there as a whole or not at all, and none takes another's name."""

import time
from pathlib import Path

from featcache.files.objects.bucket import open_bucket
from featcache.files.objects.lease import lease_around
from featcache.files.objects.numbered_log import NumberedLog
from featcache.files.objects.object_path import LOGS, ObjectPath
from featcache.files.objects.probes import PROBES, require_conditions

_ABANDONED_SECONDS = 3600


def publish_object(path: ObjectPath, data: bytes | memoryview, *, replace: bool) -> None:
    """Publish an object.

    Args:
        path: Where it is to stand.
        data: Its bytes.
        replace: Whether its content may change later. Else its name is made of its content: what has this name already
            is the same, or is damaged and replaced.

    Raises:
        CacheError: it belongs to a store whose lease this process held, and another has taken over.
        MachineError: the object store does not answer, or ignores the conditions of puts.
    """
    bucket, key = open_bucket(path), path.key
    require_conditions(bucket, path.parent.key)
    if replace:
        lease = lease_around(path)
        if lease is None:
            bucket.overwrite(key, data)
        else:
            lease.publish(path, bytes(data))
        return
    try:
        bucket.create(key, data)
    except FileExistsError:  # and other bytes than these
        bucket.overwrite(key, data)


def copy_object(path: ObjectPath, place: ObjectPath) -> None:
    """Publish an object, or all lines of a log, under another name too.

    Args:
        path: Where it stands.
        place: Where the copy is to stand.

    Raises:
        FileNotFoundError: there is none.
        MachineError: the object store does not answer.
    """
    bucket = open_bucket(path)
    try:
        data = bucket.get(path.key)[0]
    except FileNotFoundError:
        data = b"".join(NumberedLog(path).read())
    bucket.overwrite(place.key, data)


def move_object(path: ObjectPath, place: ObjectPath) -> None:
    """Give an object, or all objects below a name, another name: copied, and then removed.

    Args:
        path: Where it stands.
        place: Where it is to stand.

    Raises:
        MachineError: the object store does not answer; what was not copied yet stands where it stood.
    """
    bucket = open_bucket(path)
    keys = [path.key] if path.is_file() else [key for key, _ in bucket.walk(path.key)]
    for key in keys:
        bucket.overwrite(place.key + key.removeprefix(path.key), bucket.get(key)[0])
    for key in keys:
        bucket.remove(key)
    bucket.forget_log(path.key)


def sweep_old_probes(cache: ObjectPath) -> None:
    """Remove what processes that were killed an hour ago had written for a moment, to ask for time or conditions.

    Args:
        cache: All names below it are looked through.

    Raises:
        MachineError: the object store does not answer.
    """
    bucket = open_bucket(cache)
    for key, version in bucket.walk(cache.key):
        is_old = time.time_ns() - version.modified_ns > _ABANDONED_SECONDS * 10**9
        if is_old and key.rpartition("/")[2].startswith(PROBES):
            bucket.remove(key)


def list_object_folders(folder: ObjectPath) -> list[Path]:
    """Return the folders directly below a name, sorted; none where there are none. A log is no folder.

    Args:
        folder: The name.

    Raises:
        MachineError: the object store does not answer.
    """
    folders, _ = open_bucket(folder).list_folder(folder.key)
    return [folder / name for name in folders if name not in LOGS]
