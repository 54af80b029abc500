"""Steps of a stack of heads on a CPU, from the first gather to the last update, as loops that LLVM compiles.

torch has an operation for each sign of the formulas in `stack`, `losses` and `optimizers`, and all its threads meet at
the end of each. Here every thread, a member of a `ThreadTeam`, takes its slice of the batch through a whole step, and
they meet three times (docs/decisions/065-steps-without-python.md). The formulas are the same: tests hold both against
torch's layers, losses and optimizers, and against each other.

A step by member m, with B_m its rows of the batch and K_m its columns of the weights, (heads x classes, width):

    X[B_m] = x[rows], a column of ones                  gather
    Z[, B_m] = W X[B_m]' log2 e, P, G                   multiply_logits, softmax_grad
    all meet
    D[, K_m] = G X[, K_m] / batch, squares of its lines multiply_gradient, square_gradient
    all meet
    V[, K_m], W[, K_m] by D clipped                     clip_scales, update_weights
    all meet, each with its next X[B_m]

Where the heads standardize, gathered rows are standardized before the products. No number is a sum that members share:
which of them computes it, and what stands beside it, is all the same. Floats are float32, arrays C-contiguous.

Where the products are of bfloat16s, each operand is rounded by the member that made it, as it is made (`bfloat16`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featcache.heads.training.kernels.bfloat16 import BfloatPairs, round_batch, round_gradient, round_weights
from featcache.heads.training.kernels.intrinsics import ONE, barrier, compiled, f32, load_acquire, prefetch
from featcache.heads.training.kernels.products import multiply_gradient, multiply_logits
from featcache.heads.training.kernels.softmax import BLOCK_ROWS, LossTerms, softmax_grad
from featcache.heads.training.kernels.tiles import LINE
from featcache.heads.training.kernels.updates import (
    StackBuffers,
    UpdateRule,
    clip_scales,
    square_gradient,
    update_weights,
)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

COMPILED_WITH = {  # see `softmax`
    "bfloat16": "1f4ee17cf5578627",
    "intrinsics": "d6c859f190f8d6f4",
    "products": "c0356c91e0e76a0c",
    "softmax": "c98e690fb57df505",
    "tiles": "76f143566f54c0ab",
    "updates": "0bf2ecbd7911730f",
}
ROWS_AHEAD = 2
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
            for k in range(0, dim, LINE):
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
def gather_rounded(inputs: StepInputs, begin: int, first: int, last: int, batch: Floats, pairs: BfloatPairs) -> None:
    """Gather rows first to last of a batch that begins at `begin` of what was drawn, a block at a time.

    Args:
        inputs: the rows.
        begin: the batch's first row.
        first: a multiple of BLOCK_ROWS.
        last: the row after the last.
        batch: `StackBuffers.batch`; a block of it from first on is overwritten.
        pairs: where the rows go.
    """
    for low in range(first, last, BLOCK_ROWS):
        count = min(BLOCK_ROWS, last - low)
        block = batch[first : first + count]
        gather(inputs.x, inputs.rows[begin + low : begin + low + count], block)
        if inputs.inverse_std.size:
            standardize(block, inputs.mean_parts, inputs.inverse_std)
        round_batch(batch[first : first + BLOCK_ROWS], count, inputs.x.shape[1], low, pairs.rows, pairs.row_pairs)


@compiled
def share_of_rows(rows: int, member: int, members: int) -> tuple[int, int]:
    """Return a member's first row of a batch, and the one after its last: whole blocks, but for the batch's last."""
    blocks = -(-rows // BLOCK_ROWS)
    return (
        min(rows, member * blocks // members * BLOCK_ROWS),
        min(rows, (member + 1) * blocks // members * BLOCK_ROWS),
    )


@compiled
def train_steps(
    member: int, counts: Longs, inputs: StepInputs, losses: LossTerms, buffers: StackBuffers, pairs: BfloatPairs | None,
    rule: UpdateRule, step: int, steps: int, loss_bits: Doubles, hits: Longs,
) -> None:  # fmt: skip
    """Take a member's share of the first so many batches; every member is called with the same arguments.

    Args:
        member: 0, 1, …
        counts: (members, a cache line) of the barrier; all rows equal, before and after.
        inputs: the rows.
        losses: what the heads are to learn.
        buffers: the weights, and memory to work in.
        pairs: the operands as bfloat16s; None where they are float32s: numba then compiles no other branch.
        rule: how a step changes the weights.
        step: the place of the first batch in its epoch.
        steps: how many batches.
        loss_bits: (blocks of a batch, heads) bits of loss, added to.
        hits: (members, heads, classes) rows that were right, added to.
    """
    members, dim, size = len(counts), inputs.x.shape[1], inputs.batch_size
    x, z, d = buffers.batch, buffers.z, buffers.gradient
    lines, scale = x.shape[1] // LINE, np.ones(losses.heads, np.float32)
    low, high = member * lines // members * LINE, (member + 1) * lines // members * LINE  # of the weights
    count = load_acquire(counts, member)
    for number in range(steps):
        batch = number * size
        y = inputs.y[batch : batch + size]
        first, last = share_of_rows(len(y), member, members)
        if pairs is None:
            gather(inputs.x, inputs.rows[batch + first : batch + last], x[first:last])
            if inputs.inverse_std.size:
                standardize(x[first:last], inputs.mean_parts, inputs.inverse_std)
        else:
            gather_rounded(inputs, batch, first, last, x, pairs)
        if number:
            count += 1
            barrier(counts, member, count)
        if pairs is None:
            multiply_logits(buffers.w, x, first, last, LOG2_E, z)
        else:
            multiply_logits(pairs.w, pairs.rows, first, last, LOG2_E, z)
        softmax_grad(z, first, last, y, losses, True, loss_bits, hits[member])
        if pairs is not None:
            round_gradient(z, first, last, pairs.gradient)
        count += 1
        barrier(counts, member, count)
        if pairs is None:
            multiply_gradient(z, x, len(y), ONE / f32(len(y)), low, high, d)
        else:
            multiply_gradient(pairs.gradient, pairs.row_pairs, (len(y) + 1) // 2, ONE / f32(len(y)), low, high, d)
        if rule.clip_norm.size:
            square_gradient(d, low, high, buffers.squares)
        count += 1
        barrier(counts, member, count)
        if rule.clip_norm.size:
            clip_scales(buffers.squares, rule.clip_norm, scale)
        update_weights(step + number, buffers, rule, scale, dim, low, high)
        if pairs is not None:
            round_weights(buffers.w, low, high, pairs.w)


@compiled
def score_rows(
    member: int, members: int, x: Floats, y: Longs, batch_size: int, losses: LossTerms, buffers: StackBuffers,
    loss_bits: Doubles, hits: Longs,
) -> None:  # fmt: skip
    """Score a member's share of rows; every member is called with the same arguments, and none waits for another.

    So a member has the same rows of every batch, also of a shorter one at the end: another may still be at the batch
    before, in the memory of its own rows.

    Args:
        member: 0, 1, …
        members: how many there are.
        x: (rows, dim) embeddings as they are, never standardized.
        y: (rows,) their classes.
        batch_size: how many rows are scored at a time, as a batch is.
        losses: what the heads are to learn; `heads` of it alone counts here.
        buffers: the weights, and memory to work in.
        loss_bits: (blocks of a batch, heads) bits of cross-entropy, added to.
        hits: (members, heads, classes) rows that were right, added to.
    """
    own_first, own_last = share_of_rows(batch_size, member, members)
    for begin in range(0, len(y), batch_size):
        labels = y[begin : begin + batch_size]
        first, last = min(own_first, len(labels)), min(own_last, len(labels))
        for r in range(first, last):
            row, copy = x[begin + r], buffers.batch[r]
            for k in range(len(row)):
                copy[k] = row[k]
        multiply_logits(buffers.w, buffers.batch, first, last, LOG2_E, buffers.z)
        softmax_grad(buffers.z, first, last, labels, losses, False, loss_bits, hits[member])
