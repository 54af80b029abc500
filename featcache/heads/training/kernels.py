"""Steps of a stack of heads on a CPU, from the first gather to the last update, as loops that LLVM compiles.

torch has an operation for each sign of the formulas in `stack`, `losses` and `optimizers`, and all its threads meet at
the end of each. Here every thread, a member of a `Crew`, takes its slice of the batch through a whole step, and they
meet three times (docs/decisions/065-steps-without-python.md). The formulas are the same: `tests/heads/test_stack.py`
holds both against torch's layers, losses and optimizers, and `tests/heads/test_fused.py` against each other.

A step by member m, with B_m its rows of the batch and K_m its rows of the weights, (width, heads x classes): the
products are fastest with W that way round.

    X_m = x[B_m], a column of ones                     gather
    Z_m = X_m W log2 e, P_m, G_m                       _slope
    D_m = X_m' G_m / batch
    all meet
    D[K_m] = sum of D_m[K_m], squares of its columns   _gradient
    all meet
    V[K_m], W[K_m] by D clipped                        _scales, _update
    all meet, each with its next X_m

Where the heads standardise, gathered rows are standardised before the products. These are BLAS's, one thread a call.
Floats are float32, arrays C-contiguous; `wide` is heads x classes.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featcache.heads.training.intrinsics import ONE, coming, compiled, exp2, f32, fma, meet, read, sgemm

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.int32]

INSTRUCTIONS = "679ec8036987d109"  # the beginning of its sha256: numba compiles anew when this file changes
ROWS = 128  # of a head, taken through the softmax together: with 34 classes 17 kB, half of the nearest cache
AHEAD, LINE = 2, 16  # rows; float32s of a cache line
BITS = f32(1 / np.log(2))  # log2 e
LEAST_NORM = 1e-6  # torch's clip_grad_norm_ adds it


class Source(NamedTuple):
    """What a stretch of steps goes through."""

    x: Floats  # (any number, dim)
    rows: Longs  # (rows drawn,) of x, in the order of the steps
    y: Longs  # (rows drawn,) their classes
    size: int  # rows of a batch; the last one may have fewer
    mean: Floats  # (2, dim) the mean and what its rounding left out; (2, 0) where rows are learnt from as they are
    inverse: Floats  # (dim,) 1 / deviation, or (0,)


class Asked(NamedTuple):
    """What the heads are to learn, as `losses` has it; every array has a row or column for each head."""

    heads: int
    plain: bool  # the cross-entropy alone
    offset: Floats  # (wide,) bits, or (0,)
    of_class: Floats  # (classes, heads) w
    keep: Floats  # (heads,) 1 - e
    spread: Floats  # (wide,) e / C w
    spread_sum: Floats  # (heads,) its sum


class Weights(NamedTuple):
    """What a step changes, and the members' rooms."""

    w: Floats  # (width, wide)
    first: Floats  # (width, wide) SGD's V, Adam's M
    second: Floats  # (width, adam) Adam's S
    batch: Floats  # (members, rows of a slice, width), a column of ones at dim
    z: Floats  # (members, rows of a slice, wide)
    parts: Floats  # (members, width, wide)
    squares: Doubles  # (members, wide)


class Pace(NamedTuple):
    """How a step changes them; a vector has an element for each column, (wide,), those of Adam's heads first."""

    adam: int  # columns of heads that Adam or AdamW moves
    clip_norm: Floats  # (heads,) or (0,)
    momentum: Floats  # of SGD's
    decay: Floats  # of SGD's and Adam's; (0,) where no head has any
    decoupled: Floats  # of AdamW's
    minus_lr: Floats  # (steps, heads)
    minus_lr_of_m: Floats  # (steps, heads)
    share_of_s: Floats  # (steps,)
    beta_1: float
    beta_2: float
    eps: float


@compiled
def gather(x: Floats, rows: Longs, out: Floats) -> None:
    """out[i, :dim] = x[rows[i]]; out (len(rows), width).

    Rows lie far apart: while one is copied, the next but one is on its way from memory.
    """
    dim = x.shape[1]
    for i in range(len(rows)):
        if i + AHEAD < len(rows):
            for k in range(0, dim, LINE):
                coming(x, rows[i + AHEAD], k)
        row, room = x[rows[i]], out[i]
        for k in range(dim):
            room[k] = row[k]


@compiled
def standardise(rows: Floats, mean: Floats, inverse: Floats) -> None:
    """rows[:, :dim] less the mean (2, dim), times the inverse (dim,), in place.

    A float32 less one near it is exact, so what the mean's own rounding left out is still seen.
    """
    for i in range(len(rows)):
        row = rows[i]
        for k in range(len(inverse)):
            row[k] = ((row[k] - mean[0, k]) - mean[1, k]) * inverse[k]


@compiled
def _top(z: Floats, top: Floats, place: Words) -> None:
    """The highest of each column, (count,), and its row, the first of equals; nan is higher than any number.

    That is NumPy's and torch's argmax. z (classes, ROWS).
    """
    for r in range(len(top)):
        top[r] = z[0, r]
        place[r] = 0
    for c in range(1, len(z)):
        row, here = z[c], np.int32(c)
        for r in range(len(top)):
            higher = (not (row[r] <= top[r])) & (top[r] == top[r])
            top[r] = row[r] if higher else top[r]
            place[r] = here if higher else place[r]


@compiled
def _softmax(z: Floats, top: Floats, total: Floats, exact: Doubles) -> None:
    """Z (classes, ROWS) becomes 2^(z - top), and total (count,) its sum; exact (count,) to work in.

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
def _slope(
    z: Floats, y: Longs, first: int, asked: Asked, learn: bool, lost: Doubles, right: Longs, room: Floats
) -> None:
    """Logits in bits become the gradient by the logits; what is known on the way is counted.

    Args:
        z: (rows of the slice, wide).
        y: (rows of the batch,) classes.
        first: the place in the batch of the slice's first row.
        asked: what the heads are to learn.
        learn: False where only the counts are wanted; z is then left as it is.
        lost: (heads,) bits of loss, added to.
        right: (heads, classes) rows whose class is the first with the highest logit, before the offset; added to.
        room: (classes, ROWS) to work in.
    """
    rows, classes = len(z), len(room)
    kept, all_own = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)
    all_top, all_total, exact = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32), np.empty(ROWS)
    place = np.empty(ROWS, np.int32)
    for h in range(asked.heads):
        scale = ONE
        if learn and not asked.plain:
            weight = 0.0
            for label in y:
                weight += asked.of_class[label, h]
            scale = f32(len(y) / weight)
        left = h * classes
        for begin in range(0, rows, ROWS):
            count = min(ROWS, rows - begin)
            for r in range(count):
                row = z[begin + r, left : left + classes]
                for c in range(classes):
                    room[c, r] = row[c]
            labels = y[first + begin : first + begin + count]
            own, top, total = all_own[:count], all_top[:count], all_total[:count]
            _top(room, top, place)
            for r in range(count):
                own[r] = room[labels[r], r]
                right[h, labels[r]] += place[r] == labels[r]
            if learn and asked.offset.size:
                for c in range(classes):
                    row = room[c]
                    for r in range(count):
                        row[r] += asked.offset[left + c]
                _top(room, top, place)
                for r in range(count):
                    own[r] = room[labels[r], r]
            _softmax(room, top, total, exact[:count])
            for r in range(count):
                lost[h] += np.float64(np.log2(total[r]) + (top[r] - own[r]))
            if not learn:
                continue
            if asked.plain:
                for r in range(count):
                    kept[r] = ONE
                for c in range(classes):
                    row = room[c]
                    for r in range(count):
                        row[r] /= total[r]
            else:
                for r in range(count):
                    kept[r] = asked.keep[h] * asked.of_class[labels[r], h] * scale
                for c in range(classes):
                    row = room[c]
                    more, less = asked.spread_sum[h] * scale, asked.spread[left + c] * scale
                    for r in range(count):
                        row[r] = fma(row[r] / total[r], kept[r] + more, -less)
            for r in range(count):
                room[labels[r], r] -= kept[r]
            for r in range(count):
                row = z[begin + r, left : left + classes]
                for c in range(classes):
                    row[c] = room[c, r]


@compiled
def _gradient(parts: Floats, first: int, last: int, square: Doubles) -> None:
    """Rows first to last of parts[0] become the gradient; square (wide,) what its columns have there."""
    wide, d = len(square), parts[0]
    for j in range(wide):
        square[j] = 0.0
    for k in range(first, last):
        for m in range(1, len(parts)):
            for j in range(wide):
                d[k, j] += parts[m, k, j]
        for j in range(wide):
            square[j] += np.float64(d[k, j]) * d[k, j]


@compiled
def _scales(squares: Doubles, clip_norm: Floats, scale: Floats) -> None:
    """What clips each column's gradient, (wide,): the same for all columns of a head; squares (members, wide)."""
    classes = len(scale) // len(clip_norm)
    for h in range(len(clip_norm)):
        square = 0.0
        for m in range(len(squares)):
            for j in range(h * classes, (h + 1) * classes):
                square += squares[m, j]
        clipped = f32(clip_norm[h] / (np.sqrt(square) + LEAST_NORM))
        for j in range(h * classes, (h + 1) * classes):
            scale[j] = ONE if clipped > ONE else clipped  # nan where it is nan


@compiled
def _sgd(
    v: Floats, w: Floats, d: Floats, scale: Floats, momentum: Floats, decay: Floats, rate: Floats, dim: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """SGD for rows first to last of (width, columns).

    In small loops: LLVM gives up on one whose arrays, for all it knows, overlap in more than eight ways.
    """
    for k in range(first, last):
        for j in range(v.shape[1]):
            v[k, j] = fma(momentum[j], v[k, j], scale[j] * d[k, j])
        if decay.size and k != dim:
            for j in range(v.shape[1]):
                v[k, j] = fma(decay[j], w[k, j], v[k, j])
        for j in range(v.shape[1]):
            w[k, j] = fma(rate[j], v[k, j], w[k, j])


@compiled
def _adam(
    m: Floats, s: Floats, w: Floats, d: Floats, scale: Floats, coupled: Floats, decoupled: Floats, rate: Floats,
    of_m: Floats, share_of_s: np.float32, beta_1: float, beta_2: float, eps: float, dim: int, first: int, last: int,
) -> None:  # fmt: skip
    """Adam and AdamW for rows first to last and the first columns, as many as s has; d is overwritten."""
    of_gradient, of_square, less_of_square, epsilon = f32(1 - beta_1), f32(beta_2), f32(1 - beta_2), f32(eps)
    for k in range(first, last):
        for j in range(s.shape[1]):
            d[k, j] *= scale[j]
        if coupled.size and k != dim:
            for j in range(s.shape[1]):
                w[k, j] = fma(w[k, j], decoupled[j] * rate[j], w[k, j])
            for j in range(s.shape[1]):
                d[k, j] = fma(coupled[j], w[k, j], d[k, j])
        for j in range(s.shape[1]):
            m[k, j] = fma(of_gradient, d[k, j] - m[k, j], m[k, j])
            s[k, j] = fma(of_square, s[k, j], less_of_square * d[k, j] * d[k, j])
            d[k, j] = m[k, j] / (np.sqrt(s[k, j]) / share_of_s + epsilon)
        for j in range(s.shape[1]):
            w[k, j] = fma(of_m[j], d[k, j], w[k, j])


@compiled
def _update(
    step: int, weights: Weights, pace: Pace, scale: Floats, rate: Floats, of_m: Floats, dim: int, first: int, last: int
) -> None:
    """One step of every head's optimizer for rows first to last of the weights; row dim, the bias, knows no decay.

    rate and of_m are (wide,) to work in.
    """
    d, w, v, s = weights.parts[0], weights.w, weights.first, weights.second
    classes = len(rate) // pace.minus_lr.shape[1]
    for j in range(len(rate)):
        rate[j], of_m[j] = pace.minus_lr[step, j // classes], pace.minus_lr_of_m[step, j // classes]
    if pace.adam:
        _adam(
            v, s, w, d, scale, pace.decay, pace.decoupled, rate, of_m, pace.share_of_s[step],
            pace.beta_1, pace.beta_2, pace.eps, dim, first, last,
        )  # fmt: skip
    if not pace.adam:
        _sgd(v, w, d, scale, pace.momentum, pace.decay, rate, dim, first, last)
    elif pace.adam < len(scale):  # columns that lie apart: slower
        a = pace.adam
        _sgd(
            v[:, a:], w[:, a:], d[:, a:], scale[a:], pace.momentum[a:], pace.decay[a:], rate[a:], dim, first, last
        )  # fmt: skip


@compiled
def go(
    blas: int, member: int, counts: Longs, source: Source, asked: Asked, weights: Weights, pace: Pace, step: int,
    steps: int, lost: Doubles, right: Longs,
) -> None:  # fmt: skip
    """A member's share of the source's first so many batches; every member is called with the same.

    Args:
        blas: the address of `cython_blas.sgemm`.
        member: 0, 1, …
        counts: (members, a cache line) where they meet; all rows equal, before and after.
        source: the rows.
        asked: what they teach.
        weights: what is learnt.
        pace: how fast.
        step: the place of the first batch in its epoch.
        steps: how many batches.
        lost: (members, heads) bits of loss, added to.
        right: (members, heads, classes) rows that were right, added to.
    """
    members, heads, dim, size = len(counts), asked.heads, source.x.shape[1], source.size
    width, wide = weights.w.shape
    x, z, part = weights.batch[member], weights.z[member], weights.parts[member]
    squares = weights.squares
    low, high = member * width // members, (member + 1) * width // members  # rows of the weights
    room, scale = np.empty((wide // heads, ROWS), np.float32), np.ones(wide, np.float32)
    rate, of_m = np.empty(wide, np.float32), np.empty(wide, np.float32)
    met = read(counts, member)
    for number in range(steps):
        batch = number * size
        y = source.y[batch : batch + size]
        first, last = member * len(y) // members, (member + 1) * len(y) // members
        gather(source.x, source.rows[batch + first : batch + last], x)
        if source.inverse.size:
            standardise(x[: last - first], source.mean, source.inverse)
        if number:
            met += 1
            meet(counts, member, met)
        if last > first:
            sgemm(blas, 78, wide, last - first, width, BITS, weights.w, x, f32(0), z)
            _slope(z[: last - first], y, first, asked, True, lost[member], right[member], room)
            sgemm(blas, 84, wide, width, last - first, ONE / f32(len(y)), z, x, f32(0), part)
        else:
            part[:] = f32(0)
        met += 1
        meet(counts, member, met)
        _gradient(weights.parts, low, high, squares[member])
        if pace.clip_norm.size:
            met += 1
            meet(counts, member, met)
            _scales(squares, pace.clip_norm, scale)
        _update(step + number, weights, pace, scale, rate, of_m, dim, low, high)


@compiled
def look(
    blas: int, member: int, x: Floats, y: Longs, asked: Asked, weights: Weights, lost: Doubles, right: Longs
) -> None:
    """A member's share of rows that are scored, x (rows, dim), y (rows,) their classes; the rest is as in `go`."""
    members, wide = len(weights.z), weights.w.shape[1]
    rows, dim = x.shape
    z, bias = weights.z[member], weights.w[dim]
    room = np.empty((wide // asked.heads, ROWS), np.float32)
    first, last = member * rows // members, (member + 1) * rows // members
    for begin in range(first, last, len(z)):
        count = min(len(z), last - begin)
        for r in range(count):
            for j in range(wide):
                z[r, j] = BITS * bias[j]
        sgemm(blas, 78, wide, count, dim, BITS, weights.w, x[begin:], ONE, z)
        _slope(z[:count], y, begin, asked, False, lost[member], right[member], room)
