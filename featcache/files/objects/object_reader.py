"""ObjectReader: an object that is open for reading at any place, as a descriptor is for a file.

Ranges are read where they are needed, many at a time, and always of the version that was opened: an object that is
replaced meanwhile is refused and never read half old, half new. What was read whole for its hash stays in memory while
there is room, so that the rows of a shard are not fetched a second time.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.object_path import ObjectPath
from featcache.files.objects.object_version import ObjectVersion

Stat = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, and in the place of the inode what stands for the version


@dataclass(frozen=True, slots=True, eq=False)
class ObjectReader:
    """One version of an object."""

    bucket: Bucket
    key: str
    version: ObjectVersion

    @property
    def size(self) -> int:
        """The size of the object, bytes."""
        return self.version.size

    @property
    def stat(self) -> Stat:
        """Four numbers that are others where the object is another one."""
        tag = f"{self.version.e_tag} {self.version.version}".encode()
        number = int.from_bytes(hashlib.sha256(tag).digest()[:8], "big") >> 1
        return self.size, self.version.modified_ns, self.version.modified_ns, number

    def read_into(self, out: memoryview, offset: int) -> int:
        """Return how many bytes were read from `offset` on: fewer than wanted only where the object ends.

        Args:
            out: Where they go.
            offset: Where to begin, bytes.

        Raises:
            FileExistsError: the object was replaced by another.
            MachineError: the object store does not answer.
        """
        end = min(offset + len(out), self.size)
        kept = self.bucket.kept(self.key, self.version)
        parts = iter([kept[offset:end]]) if kept is not None else self._parts(offset, end)
        have = 0
        for part in parts:
            out[have : have + len(part)] = part
            have += len(part)
        return have

    def read_ranges(self, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Return several ranges of bytes in their order, many requests in flight.

        Args:
            starts: Where each begins, bytes.
            sizes: How many bytes each has.

        Raises:
            FileExistsError, MachineError: as `read_into`.
        """
        ends = [start + size for start, size in zip(starts, sizes, strict=True)]
        if (kept := self.bucket.kept(self.key, self.version)) is not None:
            return [kept[start:end] for start, end in zip(starts, ends, strict=True)]
        if len(starts) == 1:
            return [b"".join(self._parts(starts[0], ends[0]))]
        return list(self.bucket.threads.map(self._range, starts, ends))

    def _range(self, start: int, end: int) -> bytes:
        return self.bucket.get_range(self.key, start, end, self.version.e_tag)

    def read_all(self, progress: Callable[[int], None] = lambda _: None) -> bytes:
        """Return the whole object, fetched anew.

        Args:
            progress: Gets the bytes of each part.

        Raises:
            FileExistsError, MachineError: as `read_into`.
        """
        parts = []
        for part in self._parts(0, self.size):
            parts.append(part)
            progress(len(part))
        data = b"".join(parts)
        self.bucket.keep(self.key, self.version, data)
        return data

    def hash(self, progress: Callable[[int], None] = lambda _: None) -> bytes:
        """Return the sha256 of the whole object, fetched anew, 32 bytes.

        Args:
            progress: Gets the bytes of each part.

        Raises:
            FileExistsError, MachineError: as `read_into`.
        """
        return hashlib.sha256(self.read_all(progress)).digest()

    def read_all_once(self) -> bytes:
        """Return the whole object, fetched anew only where it is not kept."""
        kept = self.bucket.kept(self.key, self.version)
        return self.read_all() if kept is None else kept

    def as_file(self) -> io.BytesIO:
        """Return the whole object as a file in memory, for a library that reads files."""
        return io.BytesIO(self.read_all_once())

    def _parts(self, start: int, end: int) -> Iterator[bytes]:
        return self.bucket.get_parts(self.key, start, end, self.version.e_tag)


def open_object(path: ObjectPath) -> ObjectReader:
    """Return an object that is open for reading.

    Args:
        path: Where it stands.

    Raises:
        FileNotFoundError: there is none.
        MachineError: the object store does not answer.
    """
    bucket = open_bucket(path)
    return ObjectReader(bucket, path.key, bucket.head(path.key))


def read_object(path: ObjectPath, limit: int) -> bytes:
    """Return all bytes of an object.

    Args:
        path: Where it stands.
        limit: The most bytes that it may have.

    Raises:
        OSError: there is none, or it is larger than `limit`.
        MachineError: the object store does not answer.
    """
    bucket = open_bucket(path)
    if limit < 1 << 28:  # a document: one request
        data, version = bucket.get(path.key, limit=limit)
        refuse_larger_object(path, max(version.size, len(data)), limit)
        return data
    reader = open_object(path)
    refuse_larger_object(path, reader.size, limit)
    return reader.read_all()


def refuse_larger_object(path: ObjectPath, size: int, limit: int) -> None:
    """Raise an OSError where an object has more than `limit` bytes."""
    if size > limit:
        raise OSError(27, f"it has {size:,} bytes, more than any such file has", str(path))
