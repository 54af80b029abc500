"""Streamed: one split whose embeddings are read from disk as they are needed, where they do not fit into memory.

Every epoch draws the pieces of the store in a new order and fills a window of memory with them; the rows of a window
are shuffled, and while they are trained on, the next window is read. A window holds hundreds of pieces from all over
the store, each class its share of them, so a batch is close to a draw from all rows; memory is two windows, whatever
the store holds.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import numpy.typing as npt

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.features.in_memory import read_columns, read_widths
from featcache.machine import available_memory
from featcache.recipe import StoreOptions
from featcache.store import (
    CHUNK_BYTES,
    Digests,
    FeatureStore,
    ListingKey,
    ShardChunk,
    WindowReader,
    iter_windows,
    plan_chunks,
)

Window = npt.NDArray[np.float32]  # (rows, dim)
Rows = npt.NDArray[np.int64]

WINDOW_BYTES = 256 * 2**20  # of one window; two are held


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """A split's labels in memory, its embeddings on disk. `Features` without x, and two ways to walk over it."""

    y: npt.NDArray[np.int64]  # (rows,), an index into `classes`
    dim: int
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    clips: tuple[str, ...]
    subjects: tuple[str, ...]
    split: str
    failed: int
    part: str
    source: dict[str, str]
    store: FeatureStore = field(repr=False)
    pieces: Sequence[ShardChunk] = field(repr=False)  # of the store; of several side by side, of the first
    window_bytes: int = WINDOW_BYTES
    digests: Digests | None = field(default=None, repr=False)  # (rows, 32), where several stores stand side by side

    @property
    def widths(self) -> tuple[int, ...]:
        """How many columns each part has, where several stores stand side by side; () where there is one."""
        return read_widths(self.source)

    def __repr__(self) -> str:
        return f"<Streamed {self.split}: {len(self.y):,} x {self.dim}, {len(self.classes)} classes, on disk>"

    def epoch(self, batch_size: int, generator: np.random.Generator) -> Iterator[tuple[Window, Rows, Rows]]:
        """Yield every row once, in an order that `generator` draws, a window at a time.

        Each window is (x, drawn, rows): its embeddings are x[drawn], its labels y[rows], some whole batches; the last
        one's last batch may have fewer than `batch_size` rows. x is overwritten once the next window is asked for.

        Args:
            batch_size: rows of a batch.
            generator: draws the order of the rows; two equal ones give the same order.

        Raises:
            CacheError: a shard is missing, or has another size than the store's log says.
        """
        order = spread_evenly([int(self.y[piece.rows[0]]) for piece in self.pieces], generator)
        left, left_rows = np.empty((0, self.dim), dtype=np.float32), np.empty(0, dtype=np.int64)
        for buffer, rows, last in self._fill_windows([self.pieces[number] for number in order], room=batch_size):
            x = buffer[batch_size - len(left) : batch_size + len(rows)]
            x[: len(left)] = left  # of the window before: its batches had to be whole
            rows = np.concatenate([left_rows, rows])
            shuffled = generator.permutation(len(rows))
            whole = len(rows) if last else len(rows) - len(rows) % batch_size
            if whole:
                yield x, shuffled[:whole], rows[shuffled[:whole]]
            left, left_rows = x[shuffled[whole:]], rows[shuffled[whole:]]

    def blocks(self) -> Iterator[tuple[Window, Rows]]:
        """Yield every row once, in the order of the disk: (x, rows), x (n, dim) and its rows of the split, (n,).

        x is overwritten once the next block is asked for.

        Raises:
            CacheError: a shard is missing, or has another size than the store's log says.
        """
        for buffer, rows, _ in self._fill_windows(self.pieces, room=0):
            yield buffer[: len(rows)], rows

    def _fill_windows(self, pieces: Sequence[ShardChunk], *, room: int) -> Iterator[tuple[Window, Rows, bool]]:
        """Yield windows that are filled from row `room` on, the rows in them, and whether it is the last one."""
        longest = max(map(len, pieces), default=0)
        held = max(self.window_bytes // (4 * self.dim), longest)
        groups = list(iter_windows(pieces, min(held, len(self.y))))
        size = room + min(held, len(self.y))
        first, *others = self.store.parts
        width = first.dim or 0
        buffers = [np.empty((size, width), dtype=np.float32) for _ in groups[:2]]
        wide = np.empty((size, self.dim), dtype=np.float32) if others else None
        size_of_all, free = 4 * self.dim * len(self.y), available_memory()
        with closing(WindowReader(first, past_cache=free is not None and size_of_all > free)) as filler:
            filling = filler.start(groups[0], buffers[0][room:]) if groups else None
            for number in range(len(groups)):
                assert filling is not None  # noqa: S101 (begun above, or a window ago)
                rows = filling.wait()
                if number + 1 < len(groups):  # into the buffer that was worked on before this one
                    filling = filler.start(groups[number + 1], buffers[(number + 1) % 2][room:])
                buffer = buffers[number % 2]
                if wide is not None:
                    window = wide[room : room + len(rows)]
                    window[:, :width] = buffer[room : room + len(rows)]
                    self._fill_other_parts(window, rows)
                    buffer = wide
                yield buffer, rows, number + 1 == len(groups)

    def _fill_other_parts(self, window: Window, rows: Rows) -> None:
        """Write the embeddings of all stores but the first into a window that has the first one's."""
        assert self.digests is not None  # noqa: S101 (`open_streamed` gave them)
        start = self.store.parts[0].dim or 0
        for part in self.store.parts[1:]:
            end = start + (part.dim or 0)
            part.load_into(self.digests[rows], window[:, start:end])
            start = end


def spread_evenly(classes: Sequence[int], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return an order of the pieces, (pieces,), in which those of each class are shuffled and evenly spaced.

    Rows lie sorted by class, so a piece is of one class. In an order that is merely random a window of 256 pieces has
    now too much of a class, now too little, and a head follows that: its loss stayed 0.2 % above that of a training in
    memory, ten times the spread of the seeds (docs/decisions/057).

    Args:
        classes: (pieces,), the class of each piece.
        generator: draws the order.
    """
    class_of_piece = np.asarray(classes, dtype=np.int64)
    position = np.empty(len(class_of_piece))  # from 0 to 1
    for label in np.unique(class_of_piece):
        mine = generator.permutation(np.flatnonzero(class_of_piece == label))
        position[mine] = (np.arange(len(mine)) + generator.random(len(mine))) / len(mine)
    return np.argsort(position)


@checked
def stream(split: str, *, window_bytes: int = WINDOW_BYTES, **options: Unpack[StoreOptions]) -> Streamed:
    """Return one split, its embeddings left on disk: `featcache.load` for what does not fit into memory.

    Args:
        split: its name, such as "train".
        window_bytes: memory of one window of embeddings; two are held.
        **options: those of `featcache.load`.

    Raises:
        UsageError: no such recipe.
        CacheError: the split is not in the cache, or in several stores, or a file of it is damaged.
    """
    request = DatasetRequest(**options)
    store = request.store_of(split)
    return open_streamed(store, request.key_of(store, split), window_bytes=window_bytes)


def open_streamed(
    store: FeatureStore, key: ListingKey, *, window_bytes: int = WINDOW_BYTES, piece_bytes: int = CHUNK_BYTES
) -> Streamed:
    """Return one split of a store as `read_features` does, its embeddings left on disk.

    Args:
        store: a store that holds the split.
        key: (data set, variant, split).
        window_bytes: memory of one window of embeddings; two are held.
        piece_bytes: what is read from one place of a shard at a time, at most.

    Raises:
        CacheError: no such listing, or a damaged file.
    """
    digests, columns = read_columns(store, key)
    pieces = plan_chunks(store.parts[0], digests, chunk_bytes=piece_bytes)
    store.stat_log.try_flush()
    return Streamed(
        dim=store.dim or 0, store=store, pieces=pieces, window_bytes=window_bytes,
        digests=digests if len(store.parts) > 1 else None, **columns,
    )  # fmt: skip
