"""Embeddings that are read where they are needed, a piece of a shard at a time, because they do not fit into memory.

A piece is a stretch of one shard, about a megabyte: long enough for a disk to deliver at its sequential speed, short
enough that a window of memory holds pieces from all over the store. That is what mixes the classes: rows lie on disk
in the order of the folders, so a whole shard often holds a single class.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcache.store import shard
from featcache.store.index import Digests
from featcache.store.shard import Shard
from featcache.store.store import FeatureStore

PIECE_BYTES = 2**20
READERS = 4  # reads at a time: a disk that is asked one thing at a time idles in between


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A stretch of one shard, and which rows of the split stand in it."""

    shard: Shard
    first: int  # the row of the shard that the stretch begins with
    within: npt.NDArray[np.int64]  # (n,), rows of the stretch, counted from `first`; a repeated image is repeated
    rows: npt.NDArray[np.int64]  # (n,), the rows of the split

    def __len__(self) -> int:
        return len(self.rows)


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
            pieces.append(Piece(part, first, row[rows] - first, rows))
    return pieces


def read(folder: Path, piece: Piece, out: npt.NDArray[np.float32]) -> None:
    """Read a piece's embeddings into `out`, (len(piece), dim) float32, in the order of `piece.rows`."""
    spread = int(piece.within[-1]) + 1
    if piece.shard.dtype == "float32" and spread == len(piece) and bool((np.diff(piece.within) == 1).all()):
        shard.read_rows(folder, piece.shard, piece.first, out)
        return
    stretch = np.empty((spread, piece.shard.dim), dtype=piece.shard.dtype)
    shard.read_rows(folder, piece.shard, piece.first, stretch)
    out[:] = stretch[piece.within]


class Filler:
    """Fills a window of memory with pieces while the one before it is worked on."""

    def __init__(self, store: FeatureStore) -> None:
        self._folder = store.root / "shards"
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="featcache-read")

    def fill(self, pieces: Sequence[Piece], out: npt.NDArray[np.float32]) -> "Filling":
        """Begin to read; `out` is (rows of all pieces, dim) and belongs to the readers until `done`."""
        starts = np.cumsum([0, *map(len, pieces)])
        jobs = [
            self._readers.submit(read, self._folder, piece, out[start : start + len(piece)])
            for piece, start in zip(pieces, starts, strict=False)
        ]
        rows = np.concatenate([piece.rows for piece in pieces]) if pieces else np.empty(0, dtype=np.int64)
        return Filling(jobs, rows)

    def close(self) -> None:
        """Wait for what is being read, and begin nothing more."""
        self._readers.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True, eq=False)
class Filling:
    """Reads that are under way."""

    jobs: Sequence[Future[None]]
    rows: npt.NDArray[np.int64]  # of the split, in the order in which they will stand in the window

    def done(self) -> npt.NDArray[np.int64]:
        """Wait; the rows.

        Raises:
            CacheError: a shard cannot be read any more.
        """
        for job in self.jobs:
            job.result()
        return self.rows


def windows(pieces: Sequence[Piece], rows: int) -> Iterator[list[Piece]]:
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
