"""Objects that are written for a moment: to ask an object store for the time, and whether it keeps conditions."""

import uuid
from typing import Any

from featcache.errors import MachineError
from featcache.files.objects.bucket import Bucket

PROBES = ".clock-", ".probe-"  # how their names begin


def clock_ns(bucket: Bucket, prefix: str) -> int:
    """Return the time by the clock of the object store, nanoseconds since 1970.

    Args:
        bucket: Which is asked.
        prefix: Below which an object is written for a moment, to see when that was.

    Raises:
        MachineError: the object store does not answer.
    """
    key = f"{prefix}/{PROBES[0]}{uuid.uuid4().hex}"
    bucket.overwrite(key, b"now")
    try:
        return bucket.head(key).modified_ns
    finally:
        bucket.remove(key)


def require_conditions(bucket: Bucket, prefix: str) -> None:
    """Refuse an object store that ignores the conditions of puts, which all that a cache promises rests on.

    Asked once by whoever writes; it costs a few small requests.

    Args:
        bucket: Which is asked.
        prefix: Below which an object is written for a moment.

    Raises:
        MachineError: it ignores them, or refuses them.
    """
    if bucket.has_conditions:
        return
    key = f"{prefix}/{PROBES[1]}{uuid.uuid4().hex}"
    try:
        bucket.put_unchecked(key, b"first", "create")
        before = bucket.head(key)
        _require_refusal(bucket, key, "create", "If-None-Match: *")
        bucket.put_unchecked(key, b"second", before.condition)
        _require_refusal(bucket, key, before.condition, "If-Match")
    finally:
        bucket.remove(key)
    bucket.has_conditions = True


def _require_refusal(bucket: Bucket, key: str, mode: Any, name: str) -> None:
    try:
        bucket.put_unchecked(key, b"this must not be written", mode)
    except FileExistsError:
        return
    raise MachineError(
        f"{bucket.url}: this object store ignores the condition `{name}` of a put: two writers would overwrite what "
        f"the other has committed; use one that has conditional puts (AWS, Google Cloud, Azure, MinIO, "
        f"Cloudflare R2), or a cache in a local folder"
    )
