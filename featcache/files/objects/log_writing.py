"""Adding to a log in an object store, and taking damaged lines out of it."""

from collections.abc import Sequence

from featcache.files.objects.bucket import open_bucket
from featcache.files.objects.lease import held_lease
from featcache.files.objects.numbered_log import NumberedLog
from featcache.files.objects.object_path import ObjectPath


def append_to_log(path: ObjectPath, data: bytes) -> None:
    """Add lines to a log: under the lease that this process has for it, else under the next number that is free.

    Args:
        path: The log.
        data: Sealed lines, each with its newline.

    Raises:
        CacheError: another process has taken the lease over.
        MachineError: the object store does not answer; the lines may stand or not.
    """
    lease = held_lease(path)
    if lease is None:
        NumberedLog(path).append(data)
    else:
        lease.append(data)


def rewrite_log(path: ObjectPath, lines: Sequence[bytes]) -> None:
    """Take out of each object of a log the lines that are not among these, and add those that no object has.

    Only under the lease, by repair.

    Args:
        path: The log.
        lines: Those that hold, without their newlines, in their order.

    Raises:
        MachineError: the object store does not answer.
    """
    log, bucket, wanted = NumberedLog(path), open_bucket(path), set(lines)
    held: set[bytes] = set()
    try:
        contents = log.read()
    except FileNotFoundError:
        contents = []
    for number, content in enumerate(contents, start=1):
        kept = [line for line in content.splitlines() if line in wanted]
        held.update(kept)
        if kept != content.splitlines():
            data = b"".join(line + b"\n" for line in kept)
            bucket.overwrite(log.key(number), data)
            bucket.log_objects[log.key(number)] = data
            bucket.log_contents.pop(path.key, None)
    if new := [line for line in lines if line not in held]:
        append_to_log(path, b"".join(line + b"\n" for line in new))
