"""Steps of a stack of heads on a CPU, from the first gather to the last update, as loops that LLVM compiles.

torch has an operation for each sign of the formulas in `stack`, `losses` and `optimizers`, and all its threads meet at
the end of each. Here every thread, a member of a `ThreadTeam`, takes its slice of the batch through a whole step, and
they meet three times (docs/decisions/065-steps-without-python.md). The formulas are the same: tests hold both against
torch's layers, losses and optimizers, and against each other.

A step by member m, with B_m its rows of the batch and K_m its rows of the weights, (width, heads x classes): the
products are fastest with W that way round.

    X_m = x[B_m], a column of ones                     gather
    Z_m = X_m W log2 e, P_m, G_m                       softmax_grad
    D_m = X_m' G_m / batch
    all meet
    D[K_m] = sum of D_m[K_m], squares of its columns   reduce_gradient
    all meet
    V[K_m], W[K_m] by D clipped                        clip_scales, update_weights
    all meet, each with its next X_m

Where the heads standardize, gathered rows are standardized before the products. These are BLAS's, one thread a call.
Floats are float32, arrays C-contiguous; `columns` is heads x classes.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featcache.heads.training.kernels.intrinsics import (
    NO_TRANSPOSE,
    ONE,
    TRANSPOSE,
    barrier,
    compiled,
    f32,
    load_acquire,
    prefetch,
    sgemm,
)  # fmt: skip
from featcache.heads.training.kernels.softmax import ROWS, LossTerms, softmax_grad
from featcache.heads.training.kernels.updates import (
    StackBuffers,
    UpdateRule,
    clip_scales,
    reduce_gradient,
    update_weights,
)  # fmt: skip

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

COMPILED_WITH = {  # see `softmax`
    "intrinsics": "d2928d6f9cf45ab6",
    "softmax": "20f675b7aa9fd2c9",
    "updates": "2c1eb0e207f79153",
}
ROWS_AHEAD, FLOATS_PER_CACHE_LINE = 2, 16  # rows; of float32s
LOG2_E = f32(1 / np.log(2))


class StepInputs(NamedTuple):
    """The rows that some steps go through."""

    x: Floats  # (any number, dim)
    rows: Longs  # (rows drawn,) of x, in the order of the steps
    y: Longs  # (rows drawn,) their classes
    batch_size: int  # rows of a batch; the last one may have fewer
    mean_parts: (
        Floats  # (2, dim) the mean and what its rounding left out; (2, 0) where rows are learnt from as they are
    )
    inverse_std: Floats  # (dim,) 1 / deviation, or (0,)


@compiled
def gather(x: Floats, rows: Longs, out: Floats) -> None:
    """Copy rows: out[i, :dim] = x[rows[i]]; out (len(rows), width).

    Rows lie far apart: while one is copied, the next but one is on its way from memory.
    """
    dim = x.shape[1]
    for i in range(len(rows)):
        if i + ROWS_AHEAD < len(rows):
            for k in range(0, dim, FLOATS_PER_CACHE_LINE):
                prefetch(x, rows[i + ROWS_AHEAD], k)
        row, copy = x[rows[i]], out[i]
        for k in range(dim):
            copy[k] = row[k]


@compiled
def standardize(rows: Floats, mean_parts: Floats, inverse_std: Floats) -> None:
    """Turn rows[:, :dim] into (rows - mean) / deviation, in place; mean_parts (2, dim), inverse_std (dim,).

    A float32 less one near it is exact, so what the mean's own rounding left out is still seen.
    """
    for i in range(len(rows)):
        row = rows[i]
        for k in range(len(inverse_std)):
            row[k] = ((row[k] - mean_parts[0, k]) - mean_parts[1, k]) * inverse_std[k]


@compiled
def train_steps(
    sgemm_address: int, member: int, counts: Longs, inputs: StepInputs, losses: LossTerms, buffers: StackBuffers,
    rule: UpdateRule, step: int, steps: int, loss_bits: Doubles, hits: Longs,
) -> None:  # fmt: skip
    """Take a member's share of the first so many batches; every member is called with the same arguments.

    Args:
        sgemm_address: of `cython_blas.sgemm`.
        member: 0, 1, …
        counts: (members, a cache line) of the barrier; all rows equal, before and after.
        inputs: the rows.
        losses: what the heads are to learn.
        buffers: the weights, and memory to work in.
        rule: how a step changes the weights.
        step: the place of the first batch in its epoch.
        steps: how many batches.
        loss_bits: (members, heads) bits of loss, added to.
        hits: (members, heads, classes) rows that were right, added to.
    """
    members, heads, dim, size = len(counts), losses.heads, inputs.x.shape[1], inputs.batch_size
    width, columns = buffers.w.shape
    x, z, part = buffers.batch[member], buffers.z[member], buffers.parts[member]
    squares = buffers.squares
    low, high = member * width // members, (member + 1) * width // members  # rows of the weights
    work, scale = np.empty((columns // heads, ROWS), np.float32), np.ones(columns, np.float32)
    rate, of_m = np.empty(columns, np.float32), np.empty(columns, np.float32)
    count = load_acquire(counts, member)
    for number in range(steps):
        batch = number * size
        y = inputs.y[batch : batch + size]
        first, last = member * len(y) // members, (member + 1) * len(y) // members
        gather(inputs.x, inputs.rows[batch + first : batch + last], x)
        if inputs.inverse_std.size:
            standardize(x[: last - first], inputs.mean_parts, inputs.inverse_std)
        if number:
            count += 1
            barrier(counts, member, count)
        if last > first:
            sgemm(sgemm_address, NO_TRANSPOSE, columns, last - first, width, LOG2_E, buffers.w, x, f32(0), z)
            softmax_grad(z[: last - first], y, first, losses, True, loss_bits[member], hits[member], work)
            sgemm(sgemm_address, TRANSPOSE, columns, width, last - first, ONE / f32(len(y)), z, x, f32(0), part)
        else:
            part[:] = f32(0)
        count += 1
        barrier(counts, member, count)
        reduce_gradient(buffers.parts, low, high, squares[member])
        if rule.clip_norm.size:
            count += 1
            barrier(counts, member, count)
            clip_scales(squares, rule.clip_norm, scale)
        update_weights(step + number, buffers, rule, scale, rate, of_m, dim, low, high)


@compiled
def score_rows(
    sgemm_address: int, member: int, x: Floats, y: Longs, losses: LossTerms, buffers: StackBuffers, loss_bits: Doubles,
    hits: Longs,
) -> None:  # fmt: skip
    """Score a member's share of rows; every member is called with the same arguments, and none waits for another.

    Args:
        sgemm_address: of `cython_blas.sgemm`.
        member: 0, 1, …
        x: (rows, dim) embeddings as they are, never standardized.
        y: (rows,) their classes.
        losses: what the heads are to learn; `heads` of it alone counts here.
        buffers: the weights, and memory to work in.
        loss_bits: (members, heads) bits of cross-entropy, added to.
        hits: (members, heads, classes) rows that were right, added to.
    """
    members, columns = len(buffers.z), buffers.w.shape[1]
    rows, dim = x.shape
    z, bias = buffers.z[member], buffers.w[dim]
    work = np.empty((columns // losses.heads, ROWS), np.float32)
    first, last = member * rows // members, (member + 1) * rows // members
    for begin in range(first, last, len(z)):
        count = min(len(z), last - begin)
        for r in range(count):
            for j in range(columns):
                z[r, j] = LOG2_E * bias[j]
        sgemm(sgemm_address, NO_TRANSPOSE, columns, count, dim, LOG2_E, buffers.w, x[begin:], ONE, z)
        softmax_grad(z[:count], y, begin, losses, False, loss_bits[member], hits[member], work)
