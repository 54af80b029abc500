"""Embeddings that are read where they are needed, a piece of a shard at a time, because they do not fit into memory.

A piece is a stretch of one shard, about a megabyte: long enough for a disk to deliver at its sequential speed, short
enough that a window of memory holds pieces from all over the store. That is what mixes the classes: rows lie on disk
in the order of the folders, so a whole shard often holds a single class.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcache.errors import MachineError
from featcache.files import Scratch, past_cache
from featcache.store import shard
from featcache.store.index import Digests
from featcache.store.shard import Shard
from featcache.store.store import FeatureStore

PIECE_BYTES = 2**20
READERS = 8  # reads at a time: a disk that is asked one thing at a time idles in between


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A stretch of one shard, and which rows of the split stand in it."""

    shard: Shard
    first: int  # the row of the shard that the stretch begins with
    within: npt.NDArray[np.int64]  # (n,), rows of the stretch, counted from `first`; a repeated image is repeated
    rows: npt.NDArray[np.int64]  # (n,), the rows of the split
    as_is: bool  # the stretch is what is wanted, row by row, in float32

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def span(self) -> int:
        """Rows of the shard that the stretch has."""
        return int(self.within[-1]) + 1

    def read(self, handle: int, out: npt.NDArray[np.float32], scratch: Scratch | None) -> None:
        """Read its embeddings from the open shard into `out`, (len(self), dim), in the order of `rows`.

        `scratch`: of a file that is read past the page cache, where the disk writes to.

        Raises:
            CacheError: the shard ends early.
        """
        if scratch is not None:
            stretch = shard.view_rows(handle, self.shard, self.first, self.span, scratch)
            out[:] = stretch if self.as_is else stretch[self.within]
        elif self.as_is:
            shard.read_rows(handle, self.shard, self.first, out)
        else:
            stretch = np.empty((self.span, self.shard.dim), dtype=self.shard.dtype)
            shard.read_rows(handle, self.shard, self.first, stretch)
            out[:] = stretch[self.within]


def pieces_of(store: FeatureStore, digests: Digests, *, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """The split's rows as pieces, in the order of the disk; every shard that is needed is checked against its hash.

    Raises:
        CacheError: an embedding that the store lacks, or a shard that does not match the log.
    """
    which, row = store.places(digests)
    pieces = []
    order = np.lexsort((row, which))
    for number in np.unique(which):
        part = store.shards[number]
        shard.ensure_hash(store.root / "shards", part, store.known)
        mine = order[which[order] == number]
        longest = max(1, piece_bytes // part.row_bytes)
        # Stretches begin at whole multiples, so that a piece is a piece whatever else the split holds.
        cuts = np.flatnonzero(np.diff(row[mine] // longest)) + 1
        for rows in np.split(mine, cuts):
            first = int(row[rows[0]])
            within = row[rows] - first
            as_is = part.dtype == "float32" and np.array_equal(within, np.arange(len(rows)))
            pieces.append(Piece(part, first, within, rows, as_is))
    return pieces


class Filler:
    """Fills a window of memory with pieces while the one before it is worked on.

    A reader asks for Python's lock once a piece, around one system call: whoever trains meanwhile holds that lock most
    of the time, and a reader that had to open and stat a file for each piece would mostly wait for it.
    """

    def __init__(self, store: FeatureStore, *, past_cache: bool = False) -> None:
        """`past_cache`: leave out the system's page cache, which could not hold what is read until it is read again."""
        self._folder, self._past_cache = store.shard_folder, past_cache
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="featcache-read")
        self._opened: dict[str, _Opened] = {}  # of the window that is being filled

    def fill(self, pieces: Sequence[Piece], out: npt.NDArray[np.float32]) -> "Filling":
        """Begin to read; `out` is (rows of all pieces, dim) and belongs to the readers until `done`.

        Raises:
            CacheError: a shard is missing, or has another size than the log says.
        """
        todo: deque[_ToRead] = deque()
        start = 0
        for piece in pieces:
            opened = self._opened.get(piece.shard.name) or self._open(piece.shard)
            todo.append((opened, piece, out[start : start + len(piece)]))
            start += len(piece)
        jobs = [self._readers.submit(_read_all, todo) for _ in range(READERS)]
        return Filling(self, jobs, np.concatenate([piece.rows for piece in pieces]))

    def _open(self, part: Shard) -> "_Opened":
        handle = shard.open_shard(self._folder, part)
        opened = self._opened[part.name] = _Opened(handle, self._past_cache and past_cache(handle))
        return opened

    def close(self) -> None:
        """Wait for what is being read, and begin nothing more."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        self.release()

    def release(self) -> None:
        """Close the files of a window that has been read."""
        for opened in self._opened.values():
            os.close(opened.handle)
        self._opened.clear()


@dataclass(frozen=True, slots=True)
class _Opened:
    """A shard that is open."""

    handle: int
    past_cache: bool


@dataclass(frozen=True, slots=True, eq=False)
class Filling:
    """Reads that are under way."""

    filler: Filler
    jobs: Sequence[Future[None]]
    rows: npt.NDArray[np.int64]  # of the split, in the order in which they will stand in the window

    def done(self) -> npt.NDArray[np.int64]:
        """Wait; the rows.

        Raises:
            CacheError: a shard cannot be read any more.
        """
        for job in self.jobs:
            job.result()
        self.filler.release()
        return self.rows


_ToRead = tuple[_Opened, Piece, npt.NDArray[np.float32]]


def _read_all(todo: deque[_ToRead]) -> None:
    """Read what no other reader has taken yet."""
    scratch = Scratch()
    while True:
        try:
            opened, piece, out = todo.popleft()
        except IndexError:
            return
        try:
            piece.read(opened.handle, out, scratch if opened.past_cache else None)
        except OSError as error:
            raise MachineError(f"{piece.shard.name}: this shard cannot be read: {error.strerror}") from None


def iter_windows(pieces: Sequence[Piece], rows: int) -> Iterator[list[Piece]]:
    """Pieces in their order, as many at a time as fit into `rows`; at least one."""
    window: list[Piece] = []
    held = 0
    for piece in pieces:
        if window and held + len(piece) > rows:
            yield window
            window, held = [], 0
        window.append(piece)
        held += len(piece)
    if window:
        yield window
