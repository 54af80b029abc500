"""Publish, never edit: a file gets its name when it is whole and on disk. The only module that writes to the cache."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from featcache.files.objects import ObjectPath
from featcache.files.os_errors import translate_os_errors
from featcache.files.safe_read import BLOCK_BYTES, describe_refusal, open_file, refuse_special

_ABANDONED_SECONDS = 3600.0


def publish(path: Path, data: bytes | memoryview, *, replace: bool = False) -> None:
    """Write a file so that it is either not there (or what it was) or complete, also after a power cut.

    A failing fsync is not tried again: the kernel may have dropped the pages, and a retry would "succeed".

    Args:
        path: Where it is to stand; its folder is there.
        data: Its bytes.
        replace: Whether its content may change later. Else it becomes read-only: its name is made of its content, so a
            file that stands there already is the same one, or a damaged one that is replaced.

    Raises:
        MachineError: the disk is full, the folder read-only, …; no scratch file stays behind.
    """
    _publish(path, [data], replace=replace)


def publish_blocks(path: Path, blocks: Iterable[bytes | memoryview]) -> None:
    """Publish consecutive blocks as one read-only file, as `publish` does: they need not be held together.

    Args:
        path: Where it is to stand; its folder is there.
        blocks: Its bytes.

    Raises:
        MachineError: as `publish`.
    """
    _publish(path, blocks, replace=False)


def copy_file(path: Path, place: Path) -> None:
    """Publish the bytes of `path` under another name too, a piece at a time: however large it is, memory is not filled.

    Args:
        path: The file; a link is not followed.
        place: Where the copy is to stand, read-only; its folder is there.

    Raises:
        MachineError: it cannot be read, or the disk refuses; no scratch file stays behind.
    """
    if isinstance(place, ObjectPath) and isinstance(path, ObjectPath):
        path.copy_to(place)
        return
    with translate_os_errors(place), os.fdopen(open_file(path, follow_links=False), "rb", buffering=0) as file:
        _publish(place, iter(lambda: file.read(BLOCK_BYTES), b""), replace=False)


def _publish(path: Path, blocks: Iterable[bytes | memoryview], *, replace: bool) -> None:
    """Write a file under a scratch name, make it durable, and give it its name."""
    if isinstance(path, ObjectPath):
        path.publish(b"".join(blocks), replace=replace)
        return
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with translate_os_errors(path):
        try:
            handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            try:
                for block in blocks:
                    write_all(handle, block)
                if not replace:
                    os.fchmod(handle, 0o444)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(scratch, path)
        finally:  # Ctrl-C included
            with contextlib.suppress(OSError):
                os.unlink(scratch)
        sync_folder(path.parent)


def append_bytes(path: Path, data: bytes, *, sync: bool) -> None:
    """Append whole lines to a file in one write.

    Args:
        path: The file; it is made where it is missing.
        data: The lines.
        sync: Whether to fsync them: the caller's promise rests on them.

    Raises:
        MachineError: the disk is full, …; a part of a line may stand there, which readers ignore. Or no regular file
            stands there: a pipe, a link.
    """
    with translate_os_errors(path):
        handle = _open_to_write(path, os.O_CREAT | os.O_APPEND)
        try:
            write_all(handle, data)
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)


def ends_with_newline(path: Path) -> bool:
    """Return whether the last line of a log has its newline; a log that is not there has no torn line.

    Raises:
        MachineError: it cannot be read, or no regular file stands there.
    """
    with translate_os_errors(path):
        try:
            handle = open_file(path, follow_links=False)
        except FileNotFoundError:
            return True
        with os.fdopen(handle, "rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def truncate_file(path: Path, size: int) -> None:
    """Cut a file to `size` bytes: the torn last line of a log, under the lock.

    Raises:
        MachineError: the disk refuses, or no regular file stands there.
    """
    with translate_os_errors(path):
        handle = _open_to_write(path)
        try:
            os.ftruncate(handle, size)
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder and those above it; a power cut does not take a new one away, nor what is then put into it.

    Args:
        path: The folder; it may be there already.

    Raises:
        MachineError: the disk refuses, or something else stands there.
    """
    if isinstance(path, ObjectPath):  # an object store has no folders
        return
    with translate_os_errors(path):
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not os.path.isdir(folder):  # another process has not just made it: something else stands there
                    raise
            sync_folder(folder.parent)


def move_file(path: Path, place: Path) -> None:
    """Give a file or folder another name.

    Args:
        path: Where it stands.
        place: Where it is to stand; its folder is there, and a file that has this name is replaced.

    Raises:
        MachineError: the disk refuses.
    """
    if isinstance(path, ObjectPath) and isinstance(place, ObjectPath):
        path.move_to(place)
        return
    with translate_os_errors(place):
        os.rename(path, place)
        sync_folder(place.parent)
        if path.parent != place.parent:
            sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file; one that is gone already is no error. Not durable until its folder is synced.

    Args:
        path: The file; of a link, the link itself is removed.

    Raises:
        MachineError: the disk refuses.
    """
    if isinstance(path, ObjectPath):
        path.unlink(missing_ok=True)
        return
    with translate_os_errors(path), contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_empty_folder(path: Path) -> None:
    """Remove a folder in which nothing is left; one that holds something stays.

    Args:
        path: The folder.
    """
    if not isinstance(path, ObjectPath):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def sweep_scratch(folder: Path) -> None:
    """Remove the scratch files of runs that were killed. Only under the writer's lock.

    Args:
        folder: Where they are looked for; not in the folders below it.
    """
    if isinstance(folder, ObjectPath):  # a put is there as a whole, or not at all
        return
    for litter in folder.glob(".*.partial"):
        with contextlib.suppress(OSError):
            os.unlink(litter)


def sweep_old_scratch(cache: Path) -> None:
    """Remove scratch files anywhere in a cache that nobody can still be writing: an hour old. Needs no lock.

    Args:
        cache: The cache folder; all folders below it are looked through.
    """
    if isinstance(cache, ObjectPath):
        return
    for litter in cache.rglob(".*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - litter.lstat().st_mtime > _ABANDONED_SECONDS:
                os.unlink(litter)


def _open_to_write(path: Path, flags: int = 0) -> int:
    """Return a descriptor for writing a regular file, never through a link; a pipe is refused and not waited for."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o644)
    except OSError as error:
        raise describe_refusal(error, path, follow_links=False) from None
    refuse_special(handle, path)
    return handle


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write every byte; a short write goes on where it ended."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def sync_file(path: Path) -> None:
    """Make what was written to a file durable.

    Args:
        path: The file, written and closed.

    Raises:
        OSError: the disk refuses, or a link stands there.
    """
    _sync(path, os.O_NOFOLLOW)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder durable.

    Args:
        folder: The folder in which a file got its name, or lost it.

    Raises:
        OSError: the disk refuses, or no folder stands there.
    """
    if isinstance(folder, ObjectPath):
        return
    _sync(folder, os.O_DIRECTORY)


def _sync(path: Path, flag: int) -> None:
    handle = os.open(path, os.O_RDONLY | flag)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
