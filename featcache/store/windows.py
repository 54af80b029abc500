"""Embeddings that are read where they are needed, a window of memory at a time, because they do not all fit into it.

A window is filled with chunks. A chunk is a stretch of one shard, about a megabyte: long enough for a disk to deliver
at its sequential speed, short enough that a window holds chunks from all over the store. That is what mixes the
classes: rows lie on disk in the order of the folders, so a whole shard often holds a single class.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcache.errors import MachineError
from featcache.files import AlignedBuffer, FileHandle, bypass_page_cache, close_file
from featcache.store import shard
from featcache.store.index import Digests
from featcache.store.shard import Shard
from featcache.store.store import FeatureStore

CHUNK_BYTES = 2**20
READERS = 8  # reads at a time: a disk that is asked one thing at a time idles in between


@dataclass(frozen=True, slots=True, eq=False)
class ShardChunk:
    """A stretch of one shard, and which rows of a split stand in it."""

    shard: Shard
    first: int  # the row of the shard that the stretch begins with
    within: npt.NDArray[np.int64]  # (n,), rows of the stretch, counted from `first`; a repeated image is repeated
    rows: npt.NDArray[np.int64]  # (n,), the rows of the split
    as_is: bool  # the stretch is what is wanted, row by row, in float32

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def span(self) -> int:
        """The number of the shard's rows in the stretch."""
        return int(self.within[-1]) + 1

    def read(self, handle: FileHandle, out: npt.NDArray[np.float32], buffer: AlignedBuffer | None) -> None:
        """Read the embeddings of `rows`, in their order.

        Args:
            handle: The open shard.
            out: Where they go, (len(self), dim) float32.
            buffer: Of a shard that is read past the page cache, what the disk writes to; else None.

        Raises:
            CacheError: the shard ends early.
            OSError: the disk refuses.
        """
        if buffer is not None and isinstance(handle, int):
            stretch = shard.view_rows(handle, self.shard, self.first, self.span, buffer)
            out[:] = stretch if self.as_is else stretch[self.within]
        elif self.as_is:
            shard.read_rows(handle, self.shard, self.first, out)
        else:
            stretch = np.empty((self.span, self.shard.dim), dtype=self.shard.dtype)
            shard.read_rows(handle, self.shard, self.first, stretch)
            out[:] = stretch[self.within]


def plan_chunks(store: FeatureStore, digests: Digests, *, chunk_bytes: int = CHUNK_BYTES) -> list[ShardChunk]:
    """Return a split's rows as chunks, in the order of the disk; every shard in use is checked against its hash.

    Args:
        store: Where the embeddings are.
        digests: Of the split's rows, (rows, 32) uint8.
        chunk_bytes: The size of a chunk.

    Raises:
        CacheError: an embedding that the store lacks, or a shard that does not match the log.
        MachineError: the memory of the cache cannot be read.
    """
    shard_numbers, shard_rows = store.locate(digests)
    chunks = []
    order = np.lexsort((shard_rows, shard_numbers))
    for number in np.unique(shard_numbers):
        part = store.shards[number]
        shard.check_shard_hash(store.root / "shards", part, store.stat_log)
        split_rows = order[shard_numbers[order] == number]
        longest = max(1, chunk_bytes // part.row_bytes)
        # Stretches begin at whole multiples, so that a chunk is a chunk whatever else the split holds.
        cuts = np.flatnonzero(np.diff(shard_rows[split_rows] // longest)) + 1
        for rows in np.split(split_rows, cuts):
            first = int(shard_rows[rows[0]])
            within = shard_rows[rows] - first
            as_is = part.dtype == "float32" and np.array_equal(within, np.arange(len(rows)))
            chunks.append(ShardChunk(part, first, within, rows, as_is))
    return chunks


class WindowReader:
    """Fills a window of memory with chunks while the one before it is worked on.

    A thread asks for Python's lock once a chunk, around one system call: whoever trains meanwhile holds that lock most
    of the time, and a thread that had to open and stat a file for each chunk would mostly wait for it.
    """

    def __init__(self, store: FeatureStore, *, past_cache: bool = False) -> None:
        """Open no file yet.

        Args:
            store: Where the chunks are.
            past_cache: Whether to leave out the system's page cache, which could not hold what is read until it is
                read again.
        """
        self._folder, self._past_cache = store.shard_folder, past_cache
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="featcache-read")
        self._open_shards: dict[str, _OpenShard] = {}  # of the window that is being filled

    def start(self, chunks: Sequence[ShardChunk], out: npt.NDArray[np.float32]) -> "PendingWindow":
        """Begin to read these chunks, one behind the other.

        Args:
            chunks: What the window is to hold; at least one.
            out: The window, (rows of all chunks, dim) float32; it belongs to the reader until `PendingWindow.wait`.

        Returns:
            What to wait for before the window is used.

        Raises:
            CacheError: a shard is missing, or has another size than the log says.
        """
        queue: deque[_Read] = deque()
        start = 0
        for chunk in chunks:
            opened = self._open_shards.get(chunk.shard.name) or self._open(chunk.shard)
            queue.append((opened, chunk, out[start : start + len(chunk)]))
            start += len(chunk)
        jobs = [self._threads.submit(_read_all, queue) for _ in range(READERS)]
        return PendingWindow(self, jobs, np.concatenate([chunk.rows for chunk in chunks]))

    def _open(self, part: Shard) -> "_OpenShard":
        """Open a shard, and keep it open for the window."""
        handle = shard.open_shard(self._folder, part)
        opened = self._open_shards[part.name] = _OpenShard(
            handle, self._past_cache and isinstance(handle, int) and bypass_page_cache(handle)
        )
        return opened

    def close(self) -> None:
        """Wait for what is being read, and begin nothing more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.release()

    def release(self) -> None:
        """Close the files of a window that has been read."""
        for opened in self._open_shards.values():
            close_file(opened.handle)
        self._open_shards.clear()


@dataclass(frozen=True, slots=True)
class _OpenShard:
    """A shard that is open."""

    handle: FileHandle
    past_cache: bool


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow:
    """A window that is being filled."""

    reader: WindowReader
    jobs: Sequence[Future[None]]
    rows: npt.NDArray[np.int64]  # of the split, in the order in which they will stand in the window

    def wait(self) -> npt.NDArray[np.int64]:
        """Wait until the window is full, and return which rows of the split are in it, (rows,), in its order.

        Raises:
            CacheError: a shard ends early.
            MachineError: the disk refuses.
        """
        for job in self.jobs:
            job.result()
        self.reader.release()
        return self.rows


_Read = tuple[_OpenShard, ShardChunk, npt.NDArray[np.float32]]


def _read_all(queue: deque[_Read]) -> None:
    """Read what no other thread has taken yet."""
    buffer = AlignedBuffer()
    while True:
        try:
            opened, chunk, out = queue.popleft()
        except IndexError:
            return
        try:
            chunk.read(opened.handle, out, buffer if opened.past_cache else None)
        except OSError as error:
            raise MachineError(f"{chunk.shard.name}: this shard cannot be read: {error.strerror}") from None


def iter_windows(chunks: Sequence[ShardChunk], rows: int) -> Iterator[list[ShardChunk]]:
    """Yield the chunks in their order, as many at a time as fit into a window of so many rows; at least one.

    Args:
        chunks: In the order in which they are to be read, such as a shuffled one.
        rows: How many rows a window has; a chunk that has more of them gets a window to itself.
    """
    window: list[ShardChunk] = []
    held = 0
    for chunk in chunks:
        if window and held + len(chunk) > rows:
            yield window
            window, held = [], 0
        window.append(chunk)
        held += len(chunk)
    if window:
        yield window
