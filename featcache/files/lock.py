"""One writer at a time for a store. Readers need no lock: what is committed never changes.

The lock is flock's. Where a file system has none (ENOSYS, ENOLCK, EOPNOTSUPP: some network mounts), a file that only
one process can create stands for it, `.lock.held`, with the host and the process in it. A holder that died on this
host is found out and its file taken over; of another host nobody can know, so the message names the file to remove.

Neither is what the store's correctness rests on (a lock can be a no-op without saying so): scratch files have names of
their own, shards are named by their content, and each line of the log is one append. Two writers that do not see each
other embed images twice; of equal digests the first committed row counts.
"""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from featcache.errors import CacheError, MachineError, UsageError
from featcache.files import publishing
from featcache.files.documents import read_lock_holder
from featcache.files.objects import ObjectPath
from featcache.files.os_errors import translate_os_errors
from featcache.files.safe_read import describe_kind

NOTE = "writer.json"  # who holds a store, beside its lock; in a bucket, the lock itself
LOG = "commits.jsonl"  # of a store, which its holder alone adds to
SOFT = ".lock.held"
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_SAY_AFTER = 1.0  # seconds of waiting


@contextlib.contextmanager
def hold_store(root: Path, *, wait: float = 0.0, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold a store for writing during the block.

    Args:
        root: The store's folder.
        wait: Seconds to wait for another process that holds it.
        waiting: Told once who is waited for.

    Raises:
        CacheError: another process still holds it; the message says which, and since when. Or what stands in the place
            of the lock is no lock file.
        UsageError: `wait` is below 0, or not a number.
        MachineError: the disk refuses.
    """
    if not wait >= 0:
        raise UsageError(f"--wait: found {wait}, expected at least 0 seconds")
    if isinstance(root, ObjectPath):
        with _hold_object_store(root, wait=wait, waiting=waiting):
            yield
        return
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(hold_lock(root / ".lock", wait=min(wait, _SAY_AFTER)))
        if not held and wait > _SAY_AFTER:
            waiting(_describe_holder(root))
            held = stack.enter_context(hold_lock(root / ".lock", wait=wait - _SAY_AFTER))
        if not held:
            raise _held_error(root, _describe_holder(root), wait)
        with _write_note(root / NOTE):
            yield


@contextlib.contextmanager
def _hold_object_store(root: ObjectPath, *, wait: float, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a store in a bucket during the block, and its log, which nobody else can then add to."""
    from featcache.files.objects import hold_lease

    with hold_lease(root / NOTE, log=root / LOG, wait=wait, waiting=waiting) as holder:
        if holder:
            raise _held_error(root, holder, wait)
        yield


def _held_error(root: Path, holder: str, wait: float) -> CacheError:
    """Return the error that another process writes to a store."""
    waited = f"still, after {wait:g} s, " if wait else ""
    return CacheError(
        f"{root}: {waited}another extract is writing to this store ({holder}); "
        f"wait until it ends (--wait SECONDS), or stop it: nothing that it committed is lost"
    )


@contextlib.contextmanager
def _write_note(note: Path) -> Iterator[None]:
    """Let a file say who holds the store during the block."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        publishing.publish(note, json.dumps(holder).encode(), replace=True)
        yield
    finally:
        with contextlib.suppress(MachineError):
            publishing.remove_file(note)


@contextlib.contextmanager
def hold_lock(path: Path, *, wait: float) -> Iterator[bool]:
    """Hold a lock during the block, or find out that another process holds it.

    It is given back at the end of the block, whatever ended it: an exception's traceback may keep the lock itself
    alive for as long as the process.

    Args:
        path: The lock's file.
        wait: Seconds to wait for it.

    Yields:
        Whether the lock is held; False where another process has held it all the time.

    Raises:
        CacheError: what stands at `path` is no lock file: a pipe, a link, a device, a folder.
        MachineError: the disk refuses.
    """
    if isinstance(path, ObjectPath):
        from featcache.files.objects import hold_lease

        with hold_lease(path, wait=wait) as holder:
            yield not holder
        return
    soft = path.with_name(path.name + ".held")
    for place in (path, soft):
        _refuse_special(place)
    lock: BaseFileLock = FileLock(path, timeout=wait, fallback_to_soft=False)
    try:
        with translate_os_errors(path):
            held = _acquire(lock)
            if held is None:
                lock = SoftFileLock(soft, timeout=wait)
                held = bool(_acquire(lock))
        yield held
    finally:
        lock.release()  # of one that is not held, it does nothing


def _refuse_special(path: Path) -> None:
    """Refuse whatever is no regular file: filelock opens what it finds, and would write through a link."""
    try:
        kind = describe_kind(os.lstat(path).st_mode)
    except OSError:  # it is not there, or cannot be: taking it tells
        return
    if kind:
        raise CacheError(f"{path}: it is {kind}, expected the lock file of a cache; remove it and run this again")


def _acquire(lock: BaseFileLock) -> bool | None:
    """Take a lock, and return whether it was taken; None where the file system has no such locks."""
    try:
        lock.acquire()
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS or isinstance(lock, SoftFileLock):
            raise
        return None
    return True


def _describe_holder(root: Path) -> str:
    """Return who holds a store, and what to do where it cannot be known whether that process still runs."""
    remove = ""
    if os.path.lexists(root / SOFT):
        remove = f"; this file system has no locks: if that process is gone, remove {root / SOFT}"
    try:
        holder = read_lock_holder(root / NOTE)
        return f"pid {holder.pid} on {holder.host}, since {holder.since}{remove}"
    except (OSError, ValueError):
        return f"it has just begun{remove}"
