"""One split that is read from disk as it is needed: for embeddings that do not fit into memory.

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
from featcache.dataset import Asked
from featcache.features.in_memory import source_of
from featcache.machine import available_memory
from featcache.recipe import StoreOptions
from featcache.store import (
    CHUNK_BYTES,
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
    pieces: Sequence[ShardChunk] = field(repr=False)
    window_bytes: int = WINDOW_BYTES

    def __repr__(self) -> str:
        return f"<Streamed {self.split}: {len(self.y):,} x {self.dim}, {len(self.classes)} classes, on disk>"

    def epoch(self, batch_size: int, generator: np.random.Generator) -> Iterator[tuple[Window, Rows, Rows]]:
        """Every row once, in an order that `generator` draws, a window at a time.

        Each window is (x, drawn, rows): its embeddings are x[drawn], its labels y[rows], some whole batches; the last
        one's last batch may have fewer than `batch_size` rows. x is overwritten once the next window is asked for.
        """
        order = spread([int(self.y[piece.rows[0]]) for piece in self.pieces], generator)
        left, left_rows = np.empty((0, self.dim), dtype=np.float32), np.empty(0, dtype=np.int64)
        for buffer, rows, last in self._filled([self.pieces[number] for number in order], room=batch_size):
            x = buffer[batch_size - len(left) : batch_size + len(rows)]
            x[: len(left)] = left  # of the window before: its batches had to be whole
            rows = np.concatenate([left_rows, rows])
            shuffled = generator.permutation(len(rows))
            whole = len(rows) if last else len(rows) - len(rows) % batch_size
            if whole:
                yield x, shuffled[:whole], rows[shuffled[:whole]]
            left, left_rows = x[shuffled[whole:]], rows[shuffled[whole:]]

    def blocks(self) -> Iterator[tuple[Window, Rows]]:
        """Every row once, in the order of the disk: x and its rows of the split; x is overwritten by the next one."""
        for buffer, rows, _ in self._filled(self.pieces, room=0):
            yield buffer[: len(rows)], rows

    def _filled(self, pieces: Sequence[ShardChunk], *, room: int) -> Iterator[tuple[Window, Rows, bool]]:
        """Windows that are filled from `room` on, the rows in them, and whether it is the last one."""
        longest = max(map(len, pieces), default=0)
        held = max(self.window_bytes // (4 * self.dim), longest)
        groups = list(iter_windows(pieces, min(held, len(self.y))))
        size = room + min(held, len(self.y))
        buffers = [np.empty((size, self.dim), dtype=np.float32) for _ in groups[:2]]
        size_of_all, free = 4 * self.dim * len(self.y), available_memory()
        with closing(WindowReader(self.store, past_cache=free is not None and size_of_all > free)) as filler:
            filling = filler.start(groups[0], buffers[0][room:]) if groups else None
            for number in range(len(groups)):
                assert filling is not None  # noqa: S101 (begun above, or a window ago)
                rows = filling.wait()
                if number + 1 < len(groups):  # into the buffer that was worked on before this one
                    filling = filler.start(groups[number + 1], buffers[(number + 1) % 2][room:])
                yield buffers[number % 2], rows, number + 1 == len(groups)


def spread(classes: Sequence[int], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """An order of the pieces, (pieces,), in which those of each class come in a random order and at even distances.

    Rows lie sorted by class, so a piece is of one class. In an order that is merely random a window of 256 pieces has
    now too much of a class, now too little, and a head follows that: its loss stayed 0.2 % above that of a training in
    memory, ten times the spread of the seeds (docs/decisions/057).
    """
    kinds = np.asarray(classes, dtype=np.int64)
    place = np.empty(len(kinds))
    for kind in np.unique(kinds):
        mine = generator.permutation(np.flatnonzero(kinds == kind))
        place[mine] = (np.arange(len(mine)) + generator.random(len(mine))) / len(mine)
    return np.argsort(place)


@checked
def stream(split: str, *, window_bytes: int = WINDOW_BYTES, **where: Unpack[StoreOptions]) -> Streamed:
    """One split, its embeddings left on disk; the twin of `featcache.load` for what does not fit into memory.

    Raises:
        UsageError: no such recipe.
        CacheError: the split is not in the cache, or in several stores, or a file of it is damaged.
    """
    asked = Asked(**where)
    store = asked.store_of(split)
    return streamed_of(store, asked.key_of(store, split), window_bytes=window_bytes)


def streamed_of(
    store: FeatureStore, key: ListingKey, *, window_bytes: int = WINDOW_BYTES, piece_bytes: int = CHUNK_BYTES
) -> Streamed:
    """The split of one (data set, variant, split) of a store, as `features_of` has it, without x.

    Raises:
        CacheError: no such listing, or a damaged file.
    """
    extracted = store.listing(key)
    listing, good = extracted.listing, extracted.embedded
    pieces = plan_chunks(store, extracted.digests[good], chunk_bytes=piece_bytes)
    store.stat_log.try_flush()
    rows = listing.take(good)
    return Streamed(
        y=rows.labels,
        dim=store.dim or 0,
        classes=rows.classes,
        paths=rows.paths,
        clips=rows.clips,
        subjects=rows.subjects,
        split=listing.split,
        failed=len(listing) - len(good),
        part=listing.part,
        source=source_of(store, key, listing),
        store=store,
        pieces=pieces,
        window_bytes=window_bytes,
    )
