"""Tar files: a table of where each member stands, made of the headers alone; then any member is one read.

Nothing is unpacked, and a member's name never becomes a path.
"""

import tarfile
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from featcache.containers.container import ContainerError, Place, refuse_larger_image
from featcache.containers.container_file import open_container_file
from featcache.files import FileStat

_BLOCK = 512  # bytes of a tar's block
_END_BLOCKS = 20  # that writers fill the last record up to
_MOST_HEADER = 1 << 20  # bytes of a header's own data, such as a long name
_MOST_TABLES = 64  # of files elsewhere, that a process remembers


class TarFile:
    """An open tar file without compression. A `Container`."""

    def __init__(self, path: str) -> None:
        """Open it; its members are looked for when they are first needed.

        Args:
            path: Of the file; a link is followed.

        Raises:
            OSError: it cannot be opened, or is no regular file.
            MachineError: it is elsewhere, and whoever has it does not answer.
        """
        self._path, self._file = path, open_container_file(path)
        self.status: FileStat = self._file.status
        self.can_change = self._file.can_change
        self.is_concurrent = not self.can_change  # closing a file of this machine would end another thread's read
        self._known: _Members | None = None

    def is_unchanged(self) -> bool:
        """Return whether the open file is still what it was."""
        return self._file.is_unchanged()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def names(self) -> Sequence[str]:
        """The names of its regular files, in their order, without a leading `./`.

        Raises:
            ContainerError: it is cut off, damaged or compressed.
        """
        return tuple(self._members.numbers)

    @property
    def repeated(self) -> Sequence[str]:
        """The names that two members have. Raises as `names`."""
        return tuple(self._members.repeated)

    @property
    def links(self) -> Sequence[str]:
        """The names of its links, devices, pipes and sparse files. Raises as `names`."""
        return self._members.links

    @property
    def unsafe(self) -> Sequence[str]:
        """The names that are absolute, lead upwards or hold a NUL. Raises as `names`."""
        return self._members.unsafe

    def index(self) -> None:
        """Read the headers, unless that is done. Raises as `names`."""
        _ = self._members

    def locate(self, key: str) -> Place:
        """Return offset and size of a member.

        Args:
            key: Of the image.

        Raises:
            ContainerError: there is none of this name, or the tar is damaged.
        """
        number = self._members.numbers.get(key)
        if number is None:
            raise ContainerError("the tar file has no such member")
        return [self._members.starts[number], self._members.sizes[number]]

    def read(self, place: Place, limit: int) -> bytes:
        """Return the bytes of a member.

        Args:
            place: As `locate` returned it.
            limit: The most bytes that it may have.

        Raises:
            ContainerError: it is larger than `limit`, or the file ends before it does.
            OSError: the disk refuses.
        """
        start, size = cast("list[int]", place)
        refuse_larger_image(size, limit)
        data = self._file.read_at(start, size)
        if len(data) < size:
            raise ContainerError("the tar file is cut off within it")
        return data

    def read_small(self, key: str, limit: int) -> bytes:
        """Return the bytes of a small member, such as a label; of a file elsewhere with what stands around it.

        Args:
            key: Its name.
            limit: The most bytes that it may have.

        Raises:
            ContainerError, OSError: as `locate` and `read`.
        """
        start, size = cast("list[int]", self.locate(key))
        if self.can_change:
            return self.read([start, size], limit)
        refuse_larger_image(size, limit)
        self._file.as_file().seek(start)
        return self._file.as_file().read(size)

    @property
    def _members(self) -> "_Members":
        if self._known is None and not self.can_change:
            self._known = _TABLES.get((self._path, self.status))
        if self._known is None:
            self._known = _Members(self._file.as_file())
            if not self.can_change:
                _remember_table(self._path, self.status, self._known)
        return self._known


class _Members:
    """Where each regular file of a tar stands, and what else is in it."""

    def __init__(self, file: BinaryIO) -> None:
        self.numbers: dict[str, int] = {}  # name -> its number, in the order of the tar
        self.starts, self.sizes = array("q"), array("q")  # of its bytes, by number
        self.repeated: dict[str, None] = {}
        self.links: list[str] = []
        self.unsafe: list[str] = []
        for member in _iterate_headers(file):
            name = member.name.removeprefix("./")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                self.links.append(name)
            elif not _is_safe(name):
                self.unsafe.append(name)
            elif name in self.numbers:
                self.repeated[name] = None
            else:
                self.numbers[name] = len(self.starts)
                self.starts.append(member.offset_data)
                self.sizes.append(member.size)


_TABLES: OrderedDict[tuple[str, FileStat], _Members] = OrderedDict()  # of files elsewhere: reading one takes time


def _remember_table(path: str, status: FileStat, members: _Members) -> None:
    _TABLES[path, status] = members
    while len(_TABLES) > _MOST_TABLES:
        _TABLES.popitem(last=False)


def _is_safe(name: str) -> bool:
    """Return whether a name stays below the folder that somebody else would unpack it to."""
    return not name.startswith("/") and "\0" not in name and ".." not in name.split("/")


class _HeaderFile:
    """What `tarfile` reads headers from: one that declares megabytes of itself is refused, not allocated."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._file.seek(0)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError(f"a header declares {size:,} bytes of itself")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def _iterate_headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar, in order.

    Raises:
        ContainerError: it is damaged, cut off or compressed, or goes on behind its end mark.
    """
    last, end = "its beginning", 0
    headers = cast("BinaryIO", _HeaderFile(file))
    try:
        with tarfile.open(fileobj=headers, mode="r:", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= end:  # tarfile would read the same headers again and again
                    raise tarfile.ReadError(f"the header of {member.name} declares {member.size:,} bytes")
                last, end = member.name, tar.offset
                yield member
                cast("Any", tar).members.clear()  # tarfile would keep every header
            end = tar.offset
    except ContainerError:  # of a file elsewhere: it is another by now
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ContainerError(f"no tar file, or damaged or cut off behind {last}: {error}") from None
    file.seek(end)
    rest = file.read(_BLOCK * _END_BLOCKS)
    if not rest:
        raise ContainerError(f"cut off behind {last}: its end mark is missing")
    if any(rest[:_BLOCK]):
        raise ContainerError(f"damaged or cut off behind {last}: what follows is no header")
    if any(rest):
        raise ContainerError(f"it goes on behind its end mark, which follows {last}: keep joined tar files apart")
