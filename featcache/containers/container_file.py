"""What a container is read from: a file of this machine, an object of a bucket, a file of a data set of the Hub."""

import os
from typing import BinaryIO, Protocol, cast

from featcache.containers.hub_files import is_streamed, open_streamed
from featcache.containers.remote_file import RemoteFile
from featcache.files import FileStat, open_file, read_file_stat, to_file_stat
from featcache.files.objects import is_remote, open_remote


class ContainerFile(Protocol):
    """An open file, read at any place."""

    status: FileStat  # when it was opened
    can_change: bool  # whether a read may be of what stands there by now, and not of what was opened

    def is_unchanged(self) -> bool:
        """Return whether the open file is still what it was."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes from any place, fewer where the file ends before; thread-safe."""

    def as_file(self) -> BinaryIO:
        """Return it for a library that reads files."""

    def close(self) -> None:
        """Close it."""


class LocalFile:
    """A file of this machine. A `ContainerFile`."""

    can_change = True

    def __init__(self, path: str) -> None:
        """Open it.

        Args:
            path: Of the file; a link is followed.

        Raises:
            OSError: it cannot be opened, or is no regular file.
        """
        self._file: BinaryIO = os.fdopen(open_file(path, follow_links=True), "rb")
        self.status = to_file_stat(os.fstat(self._file.fileno()))

    def is_unchanged(self) -> bool:
        """Return whether the open file is still what it was."""
        return to_file_stat(os.fstat(self._file.fileno())) == self.status

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes from any place, fewer where the file ends before.

        Args:
            offset: Where to begin.
            size: How many.

        Raises:
            OSError: the disk refuses.
        """
        data = bytearray()
        while len(data) < size and (block := os.pread(self._file.fileno(), size - len(data), offset + len(data))):
            data += block
        return bytes(data)

    def as_file(self) -> BinaryIO:
        """Return the open file."""
        return self._file

    def close(self) -> None:
        """Close it."""
        self._file.close()


def open_container_file(path: str) -> ContainerFile:
    """Return the file of a container, opened.

    Args:
        path: Of the file, on this machine (a link is followed), in a bucket or on the Hub.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        UsageError: a package that reads it is not installed.
        MachineError: whoever has it does not answer.
    """
    if is_remote(path):
        return cast("ContainerFile", RemoteFile(*open_remote(path)))
    return cast("ContainerFile", RemoteFile(*open_streamed(path))) if is_streamed(path) else LocalFile(path)


def is_elsewhere(path: str) -> bool:
    """Return whether a path names what is in a bucket or on the Hub, and not on this machine.

    Args:
        path: As it was typed, or of a row.
    """
    return is_remote(path) or is_streamed(path)


def is_current(path: str, status: FileStat, *, can_change: bool) -> bool:
    """Return whether an open container may go on being used for a path.

    Args:
        path: Of its file.
        status: Of the file when it was opened.
        can_change: Whether a read may be of what stands there by now; else it shows a change itself.
    """
    return not can_change or read_file_stat(path) == status
