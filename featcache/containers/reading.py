"""Opening containers and reading images from them: each container is opened, and looked through, once."""

import errno
import threading
from collections import OrderedDict
from itertools import islice
from typing import Self

from featcache.arguments import nearest_name
from featcache.containers.address import ARROW_SUFFIXES, LMDB_SUFFIXES, PARQUET_SUFFIXES, MemberPath, member_path
from featcache.containers.container import Container, ContainerError, Place
from featcache.containers.container_file import is_current, is_elsewhere
from featcache.containers.lmdb_file import LmdbFile
from featcache.containers.remote_file import CHANGED
from featcache.containers.table_file import ArrowFile, ParquetFile
from featcache.containers.tar_file import TarFile
from featcache.errors import DataError, FeatcacheError, MachineError, UsageError
from featcache.files import FileStat

_MOST_COMPARED = 20_000  # names that a misspelt one is held against
_MOST_OPEN = 64  # containers that one reader holds open
_MAPPED = (*ARROW_SUFFIXES, *LMDB_SUFFIXES)


def open_container(path: str) -> Container:
    """Return a container, opened.

    Args:
        path: Of the file; a link is followed. Tar and Parquet files may be in a bucket or on the Hub.

    Raises:
        OSError: it cannot be opened.
        ContainerError: it is damaged, or no container.
        UsageError: the package that reads it is not installed; or it is elsewhere, and of a kind that is read here.
        MachineError: it is elsewhere, and whoever has it does not answer.
    """
    if is_elsewhere(path) and path.lower().endswith(_MAPPED):
        raise UsageError(
            f"{path}: LMDB and Arrow files are mapped into memory, which works on this machine alone; copy it here, "
            f"and name the copy"
        )
    if path.lower().endswith(PARQUET_SUFFIXES):
        return ParquetFile(path)
    if path.lower().endswith(LMDB_SUFFIXES):
        return LmdbFile(path)
    return ArrowFile(path) if path.lower().endswith(ARROW_SUFFIXES) else TarFile(path)


def nearest_member(member: MemberPath) -> str | None:
    """Return the path of the image that a key which is not there most likely means; None where none is near.

    Args:
        member: An image that its container does not have: a row whose number lacks its zeros, or a misspelt name.
    """
    try:
        container = open_container(member.container)
    except (OSError, ContainerError, FeatcacheError):
        return None
    try:
        if isinstance(container, TarFile | LmdbFile):
            key = nearest_name(member.key, islice(container.names, _MOST_COMPARED))
        elif isinstance(container, ParquetFile | ArrowFile):
            key = container.nearest_key(member.key)
        else:
            key = None
    except (ContainerError, MachineError):
        return None
    finally:
        container.close()
    return None if key in (None, member.key) else member_path(member.container, str(key))


class MemberLocator:
    """Where images stand in their containers, for whoever reads them later; no container stays open. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._containers: dict[str, Container | str] = {}  # or why there is none

    def locate(self, member: MemberPath) -> tuple[Place, FileStat]:
        """Return where an image stands in its container, and the container's stat when that was so.

        Args:
            member: Which.

        Raises:
            ContainerError: the container cannot be read, or has no such image.
        """
        with self._lock:
            if member.container not in self._containers:
                self._containers[member.container] = _index(member.container)
            container = self._containers[member.container]
            if isinstance(container, str):
                raise ContainerError(container)
            return container.locate(member.key), container.status


def _index(path: str) -> Container | str:
    """Return a container, closed, once it knows where its images are; or why that cannot be told."""
    try:
        container = open_container(path)
    except (OSError, ContainerError, DataError, MachineError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    try:
        container.index()
    except (ContainerError, MachineError) as error:
        return str(error)
    finally:
        container.close()
    return container


class MemberReader:
    """Reads images from containers, of which those that were used last stay open. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Container] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the containers."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def read(self, member: MemberPath, limit: int) -> bytes:
        """Return the bytes of one image.

        Args:
            member: Which.
            limit: The most bytes that it may have.

        Raises:
            OSError: the container or the image cannot be read; `strerror` says why.
        """
        try:
            with self._lock:
                container = self._get(member.container)
                place = container.locate(member.key)
                if not container.is_concurrent:
                    return container.read(place, limit)
            return container.read(place, limit)
        except (ContainerError, FeatcacheError) as error:
            raise OSError(errno.EIO, str(error), f"{member.container}#{member.key}") from None

    def read_at(self, container: str, place: Place, status: FileStat, limit: int) -> bytes:
        """Return the bytes of one image whose place is known.

        Args:
            container: The path of its container.
            place: Where it stands there.
            status: The container's stat when that was so.
            limit: The most bytes that it may have.

        Raises:
            ContainerError: it cannot be read, or the container has changed.
            OSError: the container cannot be opened, or the disk refuses.
            MachineError: it is elsewhere, and whoever has it does not answer.
        """
        with self._lock:
            opened = self._get(container)
            if opened.status != status:
                raise ContainerError(CHANGED)
            if not opened.is_concurrent:
                data = opened.read(place, limit)
                if not opened.is_unchanged():
                    raise ContainerError(CHANGED)
                return data
        return opened.read(place, limit)

    def _get(self, path: str) -> Container:
        """Return a container that is what stands at its path now."""
        container = self._open.get(path)
        if container is not None and not is_current(path, container.status, can_change=container.can_change):
            self._open.pop(path).close()
            container = None
        if container is None:
            container = self._open[path] = open_container(path)
        self._open.move_to_end(path)
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return container


def read_member(member: MemberPath, limit: int) -> bytes:
    """Return the bytes of one image in a container, which is opened for it alone: `MemberReader` reads several.

    Args:
        member: Which.
        limit: The most bytes that it may have.

    Raises:
        OSError: as `MemberReader.read`.
    """
    with MemberReader() as reader:
        return reader.read(member, limit)
