"""Compiled loops from the members' parts of a gradient to every head's new weights: sums, clipping, SGD and Adam."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featcache.heads.training.kernels.intrinsics import ONE, compiled, f32, fma

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

COMPILED_WITH = {"intrinsics": "d2928d6f9cf45ab6"}  # see `softmax`
CLIP_EPS = 1e-6  # torch's clip_grad_norm_ adds it to the norm


class StackBuffers(NamedTuple):
    """What a step changes, and the memory that the members work in."""

    w: Floats  # (width, columns)
    first_moment: Floats  # (width, columns) SGD's V, Adam's M
    second_moment: Floats  # (width, adam_columns) Adam's S
    batch: Floats  # (members, rows of a slice, width), a column of ones at dim
    z: Floats  # (members, rows of a slice, columns)
    parts: Floats  # (members, width, columns) of the gradient
    squares: Doubles  # (members, columns)


class UpdateRule(NamedTuple):
    """How a step changes the weights; a vector is (columns,), the columns of Adam's heads first."""

    adam_columns: int  # columns of heads that Adam or AdamW moves
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
def reduce_gradient(parts: Floats, first: int, last: int, square: Doubles) -> None:
    """Add up the members' parts in rows first to last of parts[0]; square (columns,) becomes the squares' sum there."""
    columns, d = len(square), parts[0]
    for j in range(columns):
        square[j] = 0.0
    for k in range(first, last):
        for m in range(1, len(parts)):
            for j in range(columns):
                d[k, j] += parts[m, k, j]
        for j in range(columns):
            square[j] += np.float64(d[k, j]) * d[k, j]


@compiled
def clip_scales(squares: Doubles, clip_norm: Floats, scale: Floats) -> None:
    """Find what clips each column's gradient, (columns,): the same for all of a head; squares (members, columns)."""
    classes = len(scale) // len(clip_norm)
    for h in range(len(clip_norm)):
        square = 0.0
        for m in range(len(squares)):
            for j in range(h * classes, (h + 1) * classes):
                square += squares[m, j]
        clipped = f32(clip_norm[h] / (np.sqrt(square) + CLIP_EPS))
        for j in range(h * classes, (h + 1) * classes):
            scale[j] = ONE if clipped > ONE else clipped  # nan where it is nan


@compiled
def _sgd(
    v: Floats, w: Floats, d: Floats, scale: Floats, momentum: Floats, decay: Floats, rate: Floats, dim: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Take a step of SGD for rows first to last of (width, columns).

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
    """Take a step of Adam and AdamW for rows first to last and as many columns as s has; d is overwritten."""
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
def update_weights(
    step: int,
    buffers: StackBuffers,
    rule: UpdateRule,
    scale: Floats,
    rate: Floats,
    of_m: Floats,
    dim: int,
    first: int,
    last: int,
) -> None:
    """Take one step of every head's optimizer for rows first to last of the weights; row dim, the bias, knows no decay.

    rate and of_m are (columns,) to work in.
    """
    d, w, v, s = buffers.parts[0], buffers.w, buffers.first_moment, buffers.second_moment
    classes = len(rate) // rule.minus_lr.shape[1]
    for j in range(len(rate)):
        rate[j], of_m[j] = rule.minus_lr[step, j // classes], rule.minus_lr_of_m[step, j // classes]
    if rule.adam_columns:
        _adam(
            v, s, w, d, scale, rule.decay, rule.decoupled, rate, of_m, rule.share_of_s[step],
            rule.beta_1, rule.beta_2, rule.eps, dim, first, last,
        )  # fmt: skip
    if not rule.adam_columns:
        _sgd(v, w, d, scale, rule.momentum, rule.decay, rate, dim, first, last)
    elif rule.adam_columns < len(scale):  # columns that lie apart: slower
        a = rule.adam_columns
        _sgd(
            v[:, a:], w[:, a:], d[:, a:], scale[a:], rule.momentum[a:], rule.decay[a:], rate[a:], dim, first, last
        )  # fmt: skip
