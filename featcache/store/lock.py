"""One writer at a time for a store. Readers need no lock: what is committed never changes."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from featcache.errors import CacheError
from featcache.store import publish


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Hold the store for writing.

    Raises:
        CacheError: another process holds it; the message says which, and since when.
    """
    holder = root / "writer.json"
    with publish.told(root / ".lock"):
        lock = FileLock(root / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise CacheError(
                f"{root}: another extract is writing to this store ({_describe(holder)}); "
                f"wait until it ends, or stop it: nothing that it committed is lost"
            ) from None
    try:
        me = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        publish.publish(holder, json.dumps(me).encode(), replace=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_bytes())
        return f"pid {found['pid']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"
