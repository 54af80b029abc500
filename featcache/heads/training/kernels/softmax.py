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
COMPILED_WITH = {"intrinsics": "d2928d6f9cf45ab6"}
ROWS = 128  # of a head, taken through the softmax together: with 34 classes 17 kB, half of the nearest cache


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
def _column_max(z: Floats, top: Floats, answer: Words) -> None:
    """Find the highest of each column, (count,), and its row, the first of equals; nan is higher than any number.

    That is NumPy's and torch's argmax. z (classes, ROWS).
    """
    for r in range(len(top)):
        top[r] = z[0, r]
        answer[r] = 0
    for c in range(1, len(z)):
        row, here = z[c], np.int32(c)
        for r in range(len(top)):
            higher = (not (row[r] <= top[r])) & (top[r] == top[r])
            top[r] = row[r] if higher else top[r]
            answer[r] = here if higher else answer[r]


@compiled
def _softmax(z: Floats, top: Floats, total: Floats, exact: Doubles) -> None:
    """Turn Z (classes, ROWS) into 2^(z - top), and total (count,) into its sum; exact (count,) is to work in.

    In float32, what each class adds to a sum near 1 would be rounded to 6e-8, and a head's weights with it.
    """
    for r in range(len(top)):
        exact[r] = 0.0
    for c in range(len(z)):
        row = z[c]
        for r in range(len(top)):
            row[r] = exp2(row[r] - top[r])
        for r in range(len(top)):
            exact[r] += row[r]
    for r in range(len(top)):
        total[r] = exact[r]


@compiled
def softmax_grad(
    z: Floats, y: Longs, first: int, losses: LossTerms, train: bool, loss_bits: Doubles, hits: Longs, work: Floats
) -> None:
    """Turn logits in bits into the gradient by the logits, in place; what is known on the way is counted.

    Args:
        z: (rows of the slice, columns).
        y: (rows of the batch,) classes.
        first: the place in the batch of the slice's first row.
        losses: what the heads are to learn.
        train: False where only the counts are wanted; z is then left as it is.
        loss_bits: (heads,) bits of loss, added to.
        hits: (heads, classes) rows whose class is the first with the highest logit, before the offset; added to.
        work: (classes, ROWS) to work in.
    """
    rows, classes = len(z), len(work)
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
        left = h * classes
        for begin in range(0, rows, ROWS):
            count = min(ROWS, rows - begin)
            for r in range(count):
                row = z[begin + r, left : left + classes]
                for c in range(classes):
                    work[c, r] = row[c]
            labels = y[first + begin : first + begin + count]
            own, top, total = all_own[:count], all_top[:count], all_total[:count]
            _column_max(work, top, answer)
            for r in range(count):
                own[r] = work[labels[r], r]
                hits[h, labels[r]] += answer[r] == labels[r]
            if train and losses.offset.size:
                for c in range(classes):
                    row = work[c]
                    for r in range(count):
                        row[r] += losses.offset[left + c]
                _column_max(work, top, answer)
                for r in range(count):
                    own[r] = work[labels[r], r]
            _softmax(work, top, total, exact[:count])
            for r in range(count):
                loss_bits[h] += np.float64(np.log2(total[r]) + (top[r] - own[r]))
            if not train:
                continue
            if losses.plain:
                for r in range(count):
                    kept[r] = ONE
                for c in range(classes):
                    row = work[c]
                    for r in range(count):
                        row[r] /= total[r]
            else:
                for r in range(count):
                    kept[r] = losses.one_minus_smoothing[h] * losses.class_weights[labels[r], h] * scale
                for c in range(classes):
                    row = work[c]
                    more, less = losses.smoothed_weights_sum[h] * scale, losses.smoothed_weights[left + c] * scale
                    for r in range(count):
                        row[r] = fma(row[r] / total[r], kept[r] + more, -less)
            for r in range(count):
                work[labels[r], r] -= kept[r]
            for r in range(count):
                row = z[begin + r, left : left + classes]
                for c in range(classes):
                    row[c] = work[c, r]
