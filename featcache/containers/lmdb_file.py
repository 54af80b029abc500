"""LMDB files (`data.mdb`) whose values are images: a key of the file is the image's key.

Keys need not be text; they are kept as names of files are. The package lmdb reads them; it trusts the file.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from featcache.containers.container import ContainerError, Place, refuse_larger_image
from featcache.errors import UsageError
from featcache.files import FileStat, open_file, to_file_stat


class LmdbFile:
    """An open LMDB file. A `Container`."""

    can_change, is_concurrent = True, False

    def __init__(self, path: str) -> None:
        """Open it, for reading and without a lock: somebody else may be writing to it.

        Args:
            path: Of the file itself, not of the folder that it lies in; a link is followed.

        Raises:
            UsageError: lmdb is not installed.
            OSError: it cannot be opened, or is no regular file.
            ContainerError: it is no LMDB file.
        """
        try:
            import lmdb
        except ImportError:
            raise UsageError(
                f"{path}: LMDB files are read by lmdb, which is not installed: pip install 'featcache[lmdb]'"
            ) from None
        handle = open_file(path, follow_links=True)
        self.status: FileStat = to_file_stat(os.fstat(handle))
        os.close(handle)
        self._path, self._error = path, lmdb.Error
        try:
            self._environment: Any = lmdb.open(path, subdir=False, readonly=True, lock=False, readahead=False)
        except lmdb.Error as error:
            raise ContainerError(f"no LMDB file, or damaged or cut off: {error}") from None

    def is_unchanged(self) -> bool:
        """Return whether the file is still what it was."""
        return to_file_stat(os.stat(self._path)) == self.status

    def close(self) -> None:
        """Close the file."""
        self._environment.close()

    @property
    def names(self) -> Sequence[str]:
        """All its keys, sorted by their bytes.

        Raises:
            ContainerError: it is damaged.
        """
        return tuple(os.fsdecode(key) for key in self._iterate_keys())

    def index(self) -> None:
        """Do nothing: the file is its own index."""

    def locate(self, key: str) -> Place:
        """Return the key itself; whether it is there shows when it is read.

        Args:
            key: Of the image.
        """
        return key

    def read(self, place: Place, limit: int) -> bytes:
        """Return the bytes of an image.

        Args:
            place: As `locate` returned it.
            limit: The most bytes that it may have.

        Raises:
            ContainerError: there is none of this key, it is larger than `limit`, or the file is damaged.
        """
        try:
            with self._environment.begin(buffers=True) as transaction:
                value = transaction.get(os.fsencode(str(place)))
                if value is None:
                    raise ContainerError("the LMDB file has no such key")
                refuse_larger_image(len(value), limit)
                return bytes(value)
        except self._error as error:
            raise ContainerError(f"the LMDB file is damaged: {error}") from None

    def _iterate_keys(self) -> Iterator[bytes]:
        try:
            with self._environment.begin() as transaction, transaction.cursor() as cursor:
                yield from cursor.iternext(keys=True, values=False)
        except self._error as error:
            raise ContainerError(f"the LMDB file is damaged: {error}") from None
