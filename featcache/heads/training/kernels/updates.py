"""Compiled loops from a gradient to every head's new weights: clipping, SGD and Adam."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featcache.heads.training.kernels.intrinsics import ONE, compiled, f32, fma
from featcache.heads.training.kernels.tiles import LINE, sum_of_squares

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

COMPILED_WITH = {"intrinsics": "d6c859f190f8d6f4", "tiles": "76f143566f54c0ab"}  # see `softmax`
CLIP_EPS = 1e-6  # torch's clip_grad_norm_ adds it to the norm


class StackBuffers(NamedTuple):
    """What a step changes, and the memory that the members work in; `columns` is heads x classes."""

    w: Floats  # (columns, width)
    first_moment: Floats  # (columns, width) SGD's V, Adam's M
    second_moment: Floats  # (columns of Adam's heads, width) Adam's S
    batch: Floats  # (rows, width), a column of ones at dim; some rows more than a batch has
    z: Floats  # (columns, rows)
    gradient: Floats  # (columns, width)
    squares: Doubles  # (columns, lines of a row)


class UpdateRule(NamedTuple):
    """How a step changes the weights; a vector is (heads,), Adam's and AdamW's heads first."""

    adam_heads: int  # that Adam or AdamW moves
    clip_norm: Floats  # inf for a head without clipping; (0,) where no head clips
    momentum: Floats  # of SGD's
    decay: Floats  # of SGD's and Adam's
    decoupled: Floats  # of AdamW's
    minus_lr: Floats  # (steps, heads)
    minus_lr_of_m: Floats  # (steps, heads)
    share_of_s: Floats  # (steps,)
    beta_1: float
    beta_2: float
    eps: float


@compiled
def square_gradient(d: Floats, low: int, high: int, squares: Doubles) -> None:
    """Set squares[j, line] to the sum of the squares of a line of d, for the lines from low to high of each row.

    Added up line by line the sum is the same, whichever member had which lines.
    """
    for j in range(len(d)):
        for k in range(low, high, LINE):
            squares[j, k // LINE] = sum_of_squares(d, j, k)


@compiled
def clip_scales(squares: Doubles, clip_norm: Floats, scale: Floats) -> None:
    """Find what clips each head's gradient, scale (heads,); squares (columns, lines)."""
    classes = len(squares) // len(clip_norm)
    for h in range(len(clip_norm)):
        scale[h] = ONE
        if clip_norm[h] == np.inf:
            continue
        square = 0.0
        for j in range(h * classes, (h + 1) * classes):
            for line in range(squares.shape[1]):
                square += squares[j, line]
        clipped = f32(clip_norm[h] / (np.sqrt(square) + CLIP_EPS))
        if not clipped > ONE:  # nan too
            scale[h] = clipped


@compiled
def _sgd(
    v: Floats, w: Floats, d: Floats, scale: np.float32, momentum: np.float32, decay: np.float32, rate: np.float32,
    weights: int,
) -> None:  # fmt: skip
    """Take a step of SGD for one row's part, (any number,), of which the first so many are no bias and may decay.

    In small loops: LLVM gives up on one whose arrays, for all it knows, overlap in more than eight ways.
    """
    for k in range(len(v)):
        v[k] = fma(momentum, v[k], scale * d[k])
    if decay:
        for k in range(weights):
            v[k] = fma(decay, w[k], v[k])
    for k in range(len(v)):
        w[k] = fma(rate, v[k], w[k])


@compiled
def _adam(
    m: Floats, s: Floats, w: Floats, d: Floats, scale: np.float32, coupled: np.float32, decoupled: np.float32,
    rate: np.float32, of_m: np.float32, share_of_s: np.float32, beta_1: float, beta_2: float, eps: float, weights: int,
) -> None:  # fmt: skip
    """Take a step of Adam or AdamW for one row's part, as `_sgd`; d is overwritten."""
    of_gradient, of_square, less_of_square, epsilon = f32(1 - beta_1), f32(beta_2), f32(1 - beta_2), f32(eps)
    for k in range(len(d)):
        d[k] *= scale
    if decoupled:
        for k in range(weights):
            w[k] = fma(w[k], decoupled * rate, w[k])
    if coupled:
        for k in range(weights):
            d[k] = fma(coupled, w[k], d[k])
    for k in range(len(d)):
        m[k] = fma(of_gradient, d[k] - m[k], m[k])
        s[k] = fma(of_square, s[k], less_of_square * d[k] * d[k])
        d[k] = m[k] / (np.sqrt(s[k]) / share_of_s + epsilon)
    for k in range(len(d)):
        w[k] = fma(of_m, d[k], w[k])


@compiled
def update_weights(
    step: int, buffers: StackBuffers, rule: UpdateRule, scale: Floats, dim: int, low: int, high: int
) -> None:
    """Take one step of every head's optimizer for weights low to high of each row; at dim, the bias knows no decay."""
    heads = rule.minus_lr.shape[1]
    classes, weights = len(buffers.w) // heads, max(0, min(high, dim) - low)
    for j in range(len(buffers.w)):
        h = j // classes
        w, v, d = buffers.w[j][low:high], buffers.first_moment[j][low:high], buffers.gradient[j][low:high]
        if h < rule.adam_heads:
            _adam(
                v, buffers.second_moment[j][low:high], w, d, scale[h], rule.decay[h], rule.decoupled[h],
                rule.minus_lr[step, h], rule.minus_lr_of_m[step, h], rule.share_of_s[step],
                rule.beta_1, rule.beta_2, rule.eps, weights,
            )  # fmt: skip
        else:
            _sgd(v, w, d, scale[h], rule.momentum[h], rule.decay[h], rule.minus_lr[step, h], weights)
