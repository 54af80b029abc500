"""One immutable HDF5 shard: /embeddings (rows, dim) and /digests (rows, 32) uint8, both contiguous.

Others read shards as HDF5. Here they are read at their offsets, once their hash was checked: no parser sees another.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.files import (
    AlignedBuffer,
    FileHandle,
    StatLog,
    as_binary_file,
    close_file,
    hash_handle,
    keep_local_copy,
    now_ns,
    open_in_cache,
    read_at,
    stat_handle,
)  # fmt: skip
from featcache.files.objects import ObjectPath, ObjectReader
from featcache.store import hdf5
from featcache.store.remote_rows import read_remote_rows

Digests = npt.NDArray[np.uint8]  # (rows, 32)
Embeddings = npt.NDArray[np.float32] | npt.NDArray[np.float16]  # (rows, dim)

SHARD_NAME = re.compile(r"[0-9]{5,9}-[0-9a-f]{8}\.h5")
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_ROWS = 1 << 24  # what is read of a shard before its hash is known grows with its rows: 32 bytes each
MAX_DIM = 1 << 22  # all tokens of a large network, laid flat
_ROWS_PER_SINGLE_READ = 256  # where fewer rows than one in so many are wanted, digests are read one by one
_STRETCH_BYTES = 1 << 19  # of a file that are read at a time where its rows are wanted in another order
_LONG_RUN = 8  # consecutive rows from which a pread of their own beats a gather


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What the log says of a shard; checked on the way in, because a log can come from anybody."""

    name: str
    rows: int
    dim: int
    dtype: str  # "float32" or "float16"
    embeddings_offset: int  # bytes from the start of the file
    digests_offset: int
    bytes: int
    sha256: str  # of the file
    digests_sha256: str  # of its rows x 32 bytes of digests
    made: int | None = None  # the entry of trunk.json's `made` that computed these rows; None: nobody knows

    def __post_init__(self) -> None:
        for name in ("rows", "dim", "embeddings_offset", "digests_offset", "bytes"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 1 << 48:
                raise ValueError(f"{name} is {value!r}")
        if self.rows > MAX_ROWS or self.dim > MAX_DIM:
            raise ValueError(f"{self.rows} rows of {self.dim}, more than a shard may hold")
        if self.made is not None and (type(self.made) is not int or not 0 <= self.made < 1 << 32):
            raise ValueError(f"made is {self.made!r}")
        if not (
            SHARD_NAME.fullmatch(self.name)
            and _SHA256.fullmatch(self.sha256)
            and _SHA256.fullmatch(self.digests_sha256)
        ):
            raise ValueError(f"a shard's name or hash is malformed: {self.name!r}")
        if self.dtype not in ("float32", "float16"):
            raise ValueError(f"dtype is {self.dtype!r}")
        ends = (self.embeddings_offset + self.rows * self.row_bytes, self.digests_offset + self.rows * 32)
        if not (self.rows and self.dim) or max(ends) > self.bytes:
            raise ValueError(f"{self.rows} rows of {self.dim} do not fit into {self.bytes} bytes")

    @property
    def row_bytes(self) -> int:
        """The size of one embedding, bytes."""
        return self.dim * np.dtype(self.dtype).itemsize


def build_shard(
    number: int, digests: Digests, embeddings: Embeddings, *, made: int | None = None
) -> tuple[Shard, bytes]:
    """Return a new shard's entry for the log, and the bytes of its file.

    Args:
        number: How many shards were ever added to the store.
        digests: Of the images, (rows, 32) uint8.
        embeddings: Of the same images, (rows, dim) in the store's type.
        made: The entry of trunk.json's `made` that computed them.
    """
    data, offsets = hdf5.build_file({"embeddings": embeddings, "digests": digests})
    sha256 = hashlib.sha256(data).hexdigest()
    entry = Shard(
        name=f"{number:05d}-{sha256[:8]}.h5",
        rows=len(embeddings),
        dim=embeddings.shape[1],
        dtype=str(embeddings.dtype),
        embeddings_offset=offsets["embeddings"],
        digests_offset=offsets["digests"],
        bytes=len(data),
        sha256=sha256,
        digests_sha256=hashlib.sha256(np.ascontiguousarray(digests).data).hexdigest(),
        made=made,
    )
    return entry, data


def open_shard(folder: Path, shard: Shard) -> FileHandle:
    """Return a shard's file, open for reading, which has the right size; never through a link.

    Raises:
        CacheError: it is missing, no regular file, or of another size.
    """
    path = folder / shard.name
    try:
        handle = open_in_cache(path, shard.sha256)
    except OSError as error:
        raise CacheError(f"{path}: this shard cannot be opened: {error.strerror}. {_WAY_OUT}") from None
    size = stat_handle(handle)[0]
    if size != shard.bytes:
        close_file(handle)
        raise CacheError(f"{path}: {size} bytes, the log says {shard.bytes}. {_WAY_OUT}")
    return handle


def add_digests_hash(folder: Path, shard: Shard) -> Shard:
    """Return the entry with the hash of the digests that stand in its file: for a file that the log does not know."""
    return replace(shard, digests_sha256=hashlib.sha256(_read_unchecked_digests(folder, shard).data).hexdigest())


def read_digests(folder: Path, shard: Shard) -> Digests:
    """Return the digests of a shard, (rows, 32) uint8, checked against the log.

    Args:
        folder: The folder of the shards.
        shard: What the log says of it.

    Raises:
        CacheError: they do not match the log, or the file is missing or of another size.
    """
    digests = _read_unchecked_digests(folder, shard)
    if hashlib.sha256(digests.data).hexdigest() != shard.digests_sha256:
        raise CacheError(f"{folder / shard.name}: its digests do not match the log. {_WAY_OUT}")
    return digests


def read_some_digests(folder: Path, shard: Shard, rows: npt.NDArray[np.int64]) -> Digests:
    """Return the digests of these rows, (n, 32), as they stand in the file: to be compared, not to be trusted."""
    if len(rows) > shard.rows // _ROWS_PER_SINGLE_READ or isinstance(folder, ObjectPath):
        return _read_unchecked_digests(folder, shard)[rows]
    out = np.empty((len(rows), 32), dtype=np.uint8)
    handle = open_shard(folder, shard)
    try:
        data = out.data.cast("B")
        for position, row in enumerate(rows.tolist()):
            _read_into(handle, data[32 * position : 32 * position + 32], shard.digests_offset + 32 * row)
    finally:
        close_file(handle)
    return out


def _read_unchecked_digests(folder: Path, shard: Shard) -> Digests:
    """Return the digests of a shard, (rows, 32), as they stand in its file."""
    handle = open_shard(folder, shard)
    try:
        digests = np.empty((shard.rows, 32), dtype=np.uint8)
        _read_into(handle, digests.data.cast("B"), shard.digests_offset)
    finally:
        close_file(handle)
    return digests


def check_shard_hash(folder: Path, shard: Shard, stat_log: StatLog) -> None:
    """Check the whole file against the log, unless `stat_log` remembers that this very file passed.

    Raises:
        CacheError: the file is not the one that was committed.
    """
    path = str((folder / shard.name).absolute())
    handle = open_shard(folder, shard)
    try:
        status = stat_handle(handle)
        remembered = stat_log.find(path, status)
        if remembered is not None and remembered.digest.hex() == shard.sha256:
            return
        read_at = now_ns()
        digest = hash_handle(handle)
    finally:
        close_file(handle)
    if digest.hex() != shard.sha256:
        raise CacheError(f"{path}: its sha256 does not match the log: the file was damaged or changed. {_WAY_OUT}")
    keep_local_copy(handle, folder / shard.name, shard.sha256)
    stat_log.remember(path, status, digest, read_at=read_at)


def gather_rows(
    folder: Path, shard: Shard, rows: npt.NDArray[np.int64], out: npt.NDArray[np.float32], to: npt.NDArray[np.int64]
) -> None:
    """Set out[to] = embeddings[rows], as float32. Stretches of consecutive rows are read in place.

    Args:
        folder: The folder of the shards.
        shard: The shard.
        rows: Which of its rows, (n,).
        out: Where they go, (…, dim) float32; it may be some columns of a wider array.
        to: Which rows of `out`, (n,).

    Raises:
        CacheError: the file is missing, or of another size.
        IndexError: a row below 0, or beyond the last one.
    """
    if not len(rows):
        return
    if not 0 <= rows.min() <= rows.max() < shard.rows:
        raise IndexError(f"rows {rows.min()} to {rows.max()} of a shard that has {shard.rows}")
    handle = open_shard(folder, shard)
    if isinstance(handle, ObjectReader):
        out[to] = read_remote_rows(handle, shard.embeddings_offset, shard.dim, np.dtype(shard.dtype), rows)
        return
    try:
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(to) != 1)) + 1
        starts, ends = np.concatenate(([0], breaks)), np.concatenate((breaks, [len(rows)]))
        in_place = shard.dtype == "float32" and out.flags.c_contiguous
        direct = (ends - starts >= _LONG_RUN) & in_place
        size = shard.row_bytes
        offsets = shard.embeddings_offset + rows[starts[direct]] * size
        begins, lengths = to[starts[direct]] * size, (ends - starts)[direct] * size
        data = out.data.cast("B") if in_place else memoryview(b"")
        for offset, begin, length in zip(offsets.tolist(), begins.tolist(), lengths.tolist(), strict=True):
            _read_into(handle, data[begin : begin + length], offset)
        scattered = np.flatnonzero(np.repeat(~direct, ends - starts))
        _scatter(handle, shard, rows[scattered], out, to[scattered])
    finally:
        close_file(handle)


def _scatter(
    handle: int,
    shard: Shard,
    rows: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
    to: npt.NDArray[np.int64],
) -> None:
    """Gather rows in no order: the file is read in its own, a stretch that a core's cache holds at a time.

    Stretches of which less than a quarter is wanted are mapped instead: only the pages that are touched are read.
    """
    order = np.argsort(rows, kind="stable")
    rows, to = rows[order], to[order]
    longest = max(1, _STRETCH_BYTES // shard.row_bytes)
    cuts = np.flatnonzero(np.diff(rows // longest)) + 1
    stretch = np.empty((longest, shard.dim), dtype=shard.dtype)
    mapped: npt.NDArray[np.generic] | None = None
    for source, target in zip(np.split(rows, cuts), np.split(to, cuts), strict=True) if len(rows) else ():
        first, count = int(source[0]), int(source[-1] - source[0]) + 1
        if len(source) < count / 4:
            if mapped is None:
                with as_binary_file(handle) as file:
                    shape = (shard.rows, shard.dim)
                    mapped = np.memmap(file, shard.dtype, "r", shard.embeddings_offset, shape)
            out[target] = mapped[source]
            continue
        _read_into(handle, stretch[:count].data.cast("B"), shard.embeddings_offset + first * shard.row_bytes)
        out[target] = stretch[source - first]


def view_rows(handle: int, shard: Shard, first: int, count: int, buffer: AlignedBuffer) -> Embeddings:
    """Return consecutive rows of an open shard, from `first` on, (count, dim) of the shard's own dtype, in `buffer`."""
    if not 0 <= first <= first + count <= shard.rows:
        raise IndexError(f"rows {first} to {first + count} of {shard.rows}")
    size = count * shard.row_bytes
    data = buffer.read(handle, shard.embeddings_offset + first * shard.row_bytes, size)
    if len(data) < size:
        raise CacheError(f"a shard ended {size - len(data)} bytes early. {_WAY_OUT}")
    return np.frombuffer(data, dtype=shard.dtype).reshape(count, shard.dim)


def read_rows(handle: FileHandle, shard: Shard, first: int, out: Embeddings) -> None:
    """Read consecutive rows of an open shard, from `first` on, into `out`: (rows, dim) of the shard's own dtype."""
    if out.dtype != shard.dtype or not 0 <= first <= first + len(out) <= shard.rows:
        raise IndexError(f"rows {first} to {first + len(out)} as {out.dtype}, of {shard.rows} as {shard.dtype}")
    _read_into(handle, out.data.cast("B"), shard.embeddings_offset + first * shard.row_bytes)


def _read_into(handle: FileHandle, out: memoryview, offset: int) -> None:
    """Fill `out` with the bytes of an open shard from `offset` on."""
    while out:
        count = read_at(handle, out, offset)
        if count == 0:
            raise CacheError(f"a shard ended {len(out)} bytes early. {_WAY_OUT}")
        out, offset = out[count:], offset + count


_WAY_OUT = "`featcache verify` lists what is damaged, `featcache repair` takes it out."
