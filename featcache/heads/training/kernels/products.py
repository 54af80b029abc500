"""The two matrix products of a step, in which every number is one fixed sum: whatever stands beside it, whoever asks.

BLAS takes another kernel, and with it another order of the terms, for a product of another shape or by more threads;
these never do (docs/decisions/102-a-head-equals-itself.md):

    Z[j, r] = alpha sum over k of W[j, k] X[r, k]    LANES sums of every LANES-th term in turn; these added by halves
    D[j, k] = alpha sum over r of G[j, r] X[r, k]    in turn, for ROW_BLOCK rows at a time

Of operands that are pairs of bfloat16s (`bfloat16`) a term is the sum of a pair's products, and what is counted below
are words: two numbers of a row of W and X where logits are summed, two rows of X and of G' where gradients are.

Logits lie as (columns, rows) and weights as (columns, width), `columns` being heads x classes: so no loop meets a
column that does not fill a vector, and the softmax finds a class's logits side by side.
"""

import numpy as np
import numpy.typing as npt

from featcache.heads.training.kernels.intrinsics import compiled
from featcache.heads.training.kernels.tiles import (
    COLUMN_TILE,
    GRADIENT_TILE,
    LINE,
    PANEL,
    ROW_TILE,
    line_tile,
    logit_tile,
    panel_tile,
)

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]

COMPILED_WITH = {"intrinsics": "d6c859f190f8d6f4", "tiles": "76f143566f54c0ab"}  # see `softmax`
ROW_BLOCK = 64  # rows of X in a part of a gradient's sum
WIDTH_BLOCK = 1040  # of W and X in a part of a logit's sum: rows of a tile stay in the nearest cache
COLUMN_BLOCK = 48  # of W, that stay in the second one


@compiled
def multiply_logits(w: Floats | Words, x: Floats | Words, first: int, last: int, alpha: np.float32, z: Floats) -> None:
    """Set z[:, first:last] = alpha W X', and some columns after it up to a multiple of ROW_TILE from first.

    Args:
        w: (columns, width), the width a multiple of LINE.
        x: (rows, width), with rows up to that multiple.
        first: the first row.
        last: the row after the last.
        alpha: what the sums are multiplied by.
        z: (columns, rows).
    """
    columns, width = w.shape
    for left in range(0, columns, COLUMN_BLOCK):
        right = min(left + COLUMN_BLOCK, columns)
        for low in range(0, width, WIDTH_BLOCK):
            high = min(low + WIDTH_BLOCK, width)
            for r in range(first, last, ROW_TILE):
                for j in range(left, right, COLUMN_TILE):
                    logit_tile(min(COLUMN_TILE, right - j), w, j, x, r, low, high, alpha, z)


@compiled
def multiply_gradient(
    g: Floats | Words, x: Floats | Words, rows: int, alpha: np.float32, low: int, high: int, d: Floats
) -> None:
    """Set d[:, low:high] = alpha G X[:, low:high] of the first so many rows; low and high are multiples of LINE.

    Args:
        g: (columns, rows).
        x: (rows, width).
        rows: how many.
        alpha: what the sums are multiplied by.
        low: where it begins in a row of x.
        high: where it ends.
        d: (columns, width).
    """
    columns, k = len(d), low
    while k < high:
        size = PANEL if k + PANEL <= high else LINE
        for top in range(0, rows, ROW_BLOCK):
            end = min(top + ROW_BLOCK, rows)
            next_row, next_k = (end, k) if end < rows else (0, k + size)
            for j in range(0, columns, GRADIENT_TILE):
                count = min(GRADIENT_TILE, columns - j)
                if size == PANEL:
                    panel_tile(count, g, j, x, k, top, end, next_row, next_k, alpha, d)
                else:
                    line_tile(count, g, j, x, k, top, end, next_row, next_k, alpha, d)
        k += size
