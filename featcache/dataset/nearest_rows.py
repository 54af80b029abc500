"""For two matrices too large for memory: which rows have a near row in the other, by their cosine.

The rows come in blocks. With `held` x `passing` rows at a time, memory is at most

    4 held (3 dim + 2 passing) + 12 (n + m) bytes

for n and m rows: 289 MB for 260,000 x 90,000 x 768 at 16,384 x 1,024.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

HELD = 16_384  # rows of one matrix that stay in memory while those of the other pass by
PASSING = 1_024
SLACK = 1e-5  # a cosine in float32 is off by less (3e-6 at the most was seen, up to 4,096 dimensions)
DECIMALS = 12  # of a cosine in float64: equal vectors have 1, not 1 - 2e-16

Rows = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]


class RowBlocks(Protocol):
    """(rows, dim) float32, of which only a few rows are read at a time; an array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Embeddings: ...


@dataclass(frozen=True, slots=True, eq=False)
class NearestRows:
    """The rows of one matrix whose nearest row in the other is near enough, in their order."""

    rows: Rows  # (n,)
    neighbours: Rows  # (n,), rows of the other matrix
    cosines: npt.NDArray[np.float64]  # (n,)


def find_nearest_rows(
    a: RowBlocks,
    b: RowBlocks,
    cosine: float,
    *,
    held: int = HELD,
    passing: int = PASSING,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[NearestRows, NearestRows]:
    """Return the rows of `a`, and those of `b`, whose nearest row in the other has at least this cosine.

    One pass of float32 products serves both: its maxima along either axis. Which rows are near enough is then
    settled in float64, so blocks and BLAS do not change it; between neighbours that are equally near within
    float32's rounding, any may be named. A row of zeros is near nothing.

    Args:
        a: (n, dim) float32.
        b: (m, dim) float32.
        cosine: above 0, at most 1.
        held: rows of the smaller matrix that are in memory at a time.
        passing: rows of the larger one.
        progress: gets the number of products so far, of n x m.
    """
    if len(a) > len(b):  # the smaller one is held: the other passes by less often
        of_b, of_a = find_nearest_rows(b, a, cosine, held=held, passing=passing, progress=progress)
        return of_a, of_b
    best_a, best_b = _NearestSoFar(len(a), cosine - SLACK), _NearestSoFar(len(b), cosine - SLACK)
    products = np.empty(min(held, len(a)) * min(passing, len(b)), dtype=np.float32)
    for i in range(0, len(a), held):
        held_rows = _normalize(a[i : i + held])
        for j in range(0, len(b), passing):
            block = _normalize(b[j : j + passing])
            tile = products[: len(held_rows) * len(block)].reshape(len(held_rows), len(block))
            np.matmul(held_rows, block.T, out=tile)
            best_a.update(i, j, tile)
            best_b.update(j, i, tile.T)
            progress(i * len(b) + len(held_rows) * (j + len(block)))
    return best_a.settle(a, b, cosine, passing), best_b.settle(b, a, cosine, passing)


class _NearestSoFar:
    """The nearest neighbour so far of each row of one matrix, where its cosine is above a floor."""

    def __init__(self, rows: int, floor: float) -> None:
        self.cosine = np.full(rows, floor, dtype=np.float32)
        self.neighbour = np.full(rows, -1, dtype=np.int64)

    def update(self, row: int, neighbour: int, tile: Embeddings) -> None:
        """Take the products of the rows from `row` on with the neighbours from `neighbour` on."""
        top = tile.max(axis=1)
        better = np.flatnonzero(top > self.cosine[row : row + len(tile)])
        if len(better):
            self.cosine[row + better] = top[better]
            self.neighbour[row + better] = neighbour + tile[better].argmax(axis=1)

    def settle(self, a: RowBlocks, b: RowBlocks, cosine: float, block: int) -> NearestRows:
        """Return, in float64, what reaches the cosine; where float32's rounding decided, look at every neighbour."""
        rows = np.flatnonzero(self.neighbour >= 0)
        neighbours, cosines = self.neighbour[rows], np.empty(len(rows))
        for i in range(0, len(rows), block):
            end = i + block
            cosines[i:end] = np.einsum("nd,nd->n", _normalize64(a[rows[i:end]]), _normalize64(b[neighbours[i:end]]))
        cosines = cosines.round(DECIMALS)
        undecided = np.flatnonzero(cosines < cosine)
        for i in range(0, len(undecided), block):
            part = undecided[i : i + block]
            cosines[part], neighbours[part] = _find_exactly(_normalize64(a[rows[part]]), b, block)
        near = cosines >= cosine
        return NearestRows(rows[near], neighbours[near], cosines[near])


def _find_exactly(queries: npt.NDArray[np.float64], b: RowBlocks, block: int) -> tuple[npt.NDArray[np.float64], Rows]:
    """Return the cosine and the row of the nearest of all rows of `b`, for each query."""
    cosine, neighbour = np.full(len(queries), -np.inf), np.full(len(queries), -1, dtype=np.int64)
    for j in range(0, len(b), block):
        products = (queries @ _normalize64(b[j : j + block]).T).round(DECIMALS)
        top = products.max(axis=1)
        better = top > cosine
        cosine[better], neighbour[better] = top[better], j + products[better].argmax(axis=1)
    return cosine, neighbour


def _normalize(x: Embeddings) -> Embeddings:
    """Return the rows at length 1, float32; a row of zeros stays."""
    norm = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))  # in float32 a square may be inf, or 0
    out = np.empty(x.shape, dtype=np.float32)
    return np.divide(x, np.where(norm > 0, norm, 1)[:, None], out=out, casting="same_kind")


def _normalize64(x: Embeddings) -> npt.NDArray[np.float64]:
    """Return the rows at length 1, float64; a row of zeros stays."""
    wide = x.astype(np.float64)
    norm = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    wide /= np.where(norm > 0, norm, 1)[:, None]
    return wide
