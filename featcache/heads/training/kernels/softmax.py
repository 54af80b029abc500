"""Compiled loops that turn logits into their gradient and count loss and hits on the way."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featcache.heads.training.kernels.intrinsics import ONE, compiled, exp2, f32, fma

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.int32]

# The beginnings of the files' sha256: numba compiles anew when this file changes.
COMPILED_WITH = {"intrinsics": "d6c859f190f8d6f4"}
ROWS = 128  # of a head, taken through the softmax together: with 34 classes 17 kB, half of the nearest cache
BLOCK_ROWS = 32  # of a batch: no block is shared by two members, and each has a sum of losses of its own


class LossTerms(NamedTuple):
    """What the heads are to learn, as `losses` has it; every array has a row or column for each head."""

    heads: int
    plain: bool  # the cross-entropy alone
    offset: Floats  # (columns,) bits, or (0,)
    class_weights: Floats  # (classes, heads) w
    one_minus_smoothing: Floats  # (heads,) 1 - e
    smoothed_weights: Floats  # (columns,) e / C w
    smoothed_weights_sum: Floats  # (heads,) its sum


@compiled
def _column_max(z: Floats, left: int, right: int, begin: int, top: Floats, answer: Words) -> None:
    """Find the highest of rows left to right of z in columns begin, begin + 1, …, and how far from left it stands.

    The first of equals; nan is higher than any number: NumPy's and torch's argmax. top and answer (columns,).
    """
    for r in range(len(top)):
        top[r] = z[left, begin + r]
        answer[r] = 0
    for c in range(left + 1, right):
        row, here = z[c][begin : begin + len(top)], np.int32(c - left)
        for r in range(len(top)):
            higher = (not (row[r] <= top[r])) & (top[r] == top[r])
            top[r] = row[r] if higher else top[r]
            answer[r] = here if higher else answer[r]


@compiled
def _softmax(z: Floats, left: int, right: int, begin: int, top: Floats, total: Floats, exact: Doubles) -> None:
    """Turn rows left to right of z, in columns begin, begin + 1, …, into 2^(z - top), and total into their sum.

    exact (columns,) is to work in: in float32, what each class adds to a sum near 1 would be rounded to 6e-8, and a
    head's weights with it. top and total (columns,).
    """
    for r in range(len(top)):
        exact[r] = 0.0
    for c in range(left, right):
        row = z[c][begin : begin + len(top)]
        for r in range(len(top)):
            row[r] = exp2(row[r] - top[r])
        for r in range(len(top)):
            exact[r] += row[r]
    for r in range(len(top)):
        total[r] = exact[r]


@compiled
def softmax_grad(
    z: Floats, first: int, last: int, y: Longs, losses: LossTerms, train: bool, loss_bits: Doubles, hits: Longs
) -> None:
    """Turn logits in bits into the gradient by the logits, in place; what is known on the way is counted.

    Args:
        z: (columns, rows), of a batch's rows.
        first: the first row of the slice; a multiple of BLOCK_ROWS.
        last: the row after its last.
        y: (rows of the batch,) classes.
        losses: what the heads are to learn.
        train: False where only the counts are wanted.
        loss_bits: (blocks of BLOCK_ROWS rows of a batch, heads) bits of loss, added to.
        hits: (heads, classes) rows whose class is the first with the highest logit, before the offset; added to.
    """
    classes = len(z) // losses.heads
    kept, all_own = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)
    all_top, all_total, exact = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32), np.empty(ROWS)
    answer = np.empty(ROWS, np.int32)
    for h in range(losses.heads):
        scale = ONE
        if train and not losses.plain:
            weight = 0.0
            for label in y:
                weight += losses.class_weights[label, h]
            scale = f32(len(y) / weight)
        left, right = h * classes, (h + 1) * classes
        for begin in range(first, last, ROWS):
            count = min(ROWS, last - begin)
            labels = y[begin : begin + count]
            own, top, total = all_own[:count], all_top[:count], all_total[:count]
            _column_max(z, left, right, begin, top, answer)
            for r in range(count):
                own[r] = z[left + labels[r], begin + r]
                hits[h, labels[r]] += answer[r] == labels[r]
            if train and losses.offset.size:
                for c in range(left, right):
                    row = z[c][begin : begin + count]
                    for r in range(count):
                        row[r] += losses.offset[c]
                _column_max(z, left, right, begin, top, answer)
                for r in range(count):
                    own[r] = z[left + labels[r], begin + r]
            _softmax(z, left, right, begin, top, total, exact[:count])
            for r in range(count):
                loss_bits[(begin + r) // BLOCK_ROWS, h] += np.float64(np.log2(total[r]) + (top[r] - own[r]))
            if not train:
                continue
            if losses.plain:
                for r in range(count):
                    kept[r] = ONE
                for c in range(left, right):
                    row = z[c][begin : begin + count]
                    for r in range(count):
                        row[r] /= total[r]
            else:
                for r in range(count):
                    kept[r] = losses.one_minus_smoothing[h] * losses.class_weights[labels[r], h] * scale
                for c in range(left, right):
                    row = z[c][begin : begin + count]
                    more, less = losses.smoothed_weights_sum[h] * scale, losses.smoothed_weights[c] * scale
                    for r in range(count):
                        row[r] = fma(row[r] / total[r], kept[r] + more, -less)
            for r in range(count):
                z[left + labels[r], begin + r] -= kept[r]
