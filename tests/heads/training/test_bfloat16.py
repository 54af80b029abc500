"""Products of bfloat16s are those of the rounded operands, and the heads that they train equal themselves."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.heads.config import HeadConfig
from featcache.heads.training.kernels import HAS_BFLOAT16, LINE
from featcache.heads.training.kernels.bfloat16 import round_batch, round_gradient, round_weights
from featcache.heads.training.kernels.products import multiply_gradient, multiply_logits
from featcache.heads.training.kernels.tiles import ROW_TILE
from featcache.heads.training.numba_stack import aligned_words, aligned_zeros
from featcache.heads.training.samplers import sampled
from featcache.heads.training.train import train_heads
from tests.builders import uneven_clusters
from tests.heads.training.problems import apart
from tests.heads.training.test_products import SHAPES, drawn

pytestmark = pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor multiplies no bfloat16s")

ALPHA = np.float32(0.5)
BLOCK = 32  # rows of a batch's memory come in such blocks


def rounded(values):
    """The nearest bfloat16s, by torch, as float32s."""
    return torch.from_numpy(np.ascontiguousarray(values)).bfloat16().float().numpy()


def row_words(width):
    return -(-width // (2 * LINE)) * LINE


def logits(w, x, first, last):
    """Logits of rows first to last, both operands rounded; memory that no row was written to holds nan."""
    words, rows, _ = batch_of(x)
    w_words = aligned_words(len(w), words)
    round_weights(w, 0, w.shape[1], w_words)
    z = np.full((len(w), len(rows)), np.nan, np.float32)
    multiply_logits(w_words, rows, first, last, ALPHA, z)
    return z[:, first:last]


def batch_of(x):
    """A batch rounded block by block, as it is gathered; its first and second copy."""
    blocks, words = -(-len(x) // BLOCK), row_words(x.shape[1])
    rows, pairs = aligned_words(blocks * BLOCK, words), aligned_words(blocks * BLOCK // 2, x.shape[1])
    rows[:, : x.shape[1] // 2], pairs[:] = 0xFFFFFFFF, 0xFFFFFFFF  # two nan
    for first in range(0, len(x), BLOCK):
        part = x[first : first + BLOCK]
        block = np.full((BLOCK, x.shape[1]), np.nan, np.float32)
        block[: len(part)] = part
        round_batch(block, len(part), x.shape[1], first, rows, pairs)
    return words, rows, pairs


def gradient(g, x, low, high):
    """Columns low to high of a gradient, both operands rounded; memory that no row was written to holds nan."""
    _, rows, pairs = batch_of(x)
    z = np.full((len(g), len(rows)), np.nan, np.float32)
    z[:, : len(x)] = g
    words = aligned_words(len(g), len(rows) // 2)
    round_gradient(z, 0, len(x), words)
    d = np.full((len(g), x.shape[1]), np.nan, np.float32)
    multiply_gradient(words, pairs, (len(x) + 1) // 2, ALPHA, low, high, d)
    return d[:, low:high]


@pytest.mark.parametrize(("columns", "rows", "width"), SHAPES)
def test_products(columns, rows, width):
    """Alpha W X' and alpha G X are those of the rounded operands in float64, to float32's rounding; odd rows too."""
    x, w, g = drawn(rows, width, 0), drawn(columns, width, 1), drawn(columns, rows, 2)
    exact = 0.5 * rounded(w).astype(np.float64) @ rounded(x).T.astype(np.float64)
    np.testing.assert_allclose(logits(w, x, 0, rows), exact, atol=1e-6 * width)
    exact = 0.5 * rounded(g).astype(np.float64) @ rounded(x).astype(np.float64)
    np.testing.assert_allclose(gradient(g, x, 0, width), exact, atol=1e-6 * rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 150), st.integers(1, 5), st.data())
def test_a_part_has_the_bits_of_the_whole(columns, rows, lines, data):
    """Some columns, of some rows or some of a row's width, are what they are among all others."""
    width = lines * LINE
    x, w, g = drawn(rows, width, 0), drawn(columns, width, 1), drawn(columns, rows, 2)
    left = data.draw(st.integers(0, columns - 1))
    right = data.draw(st.integers(left + 1, columns))
    first = data.draw(st.integers(0, -(-rows // ROW_TILE) - 1)) * ROW_TILE
    last = data.draw(st.integers(first + 1, rows))
    whole, part = logits(w, x, 0, rows), logits(w[left:right], x, first, last)
    np.testing.assert_array_equal(part, whole[left:right, first:last])
    low = data.draw(st.integers(0, lines - 1))
    high = data.draw(st.integers(low + 1, lines))
    whole, part = gradient(g, x, 0, width), gradient(g[left:right], x, low * LINE, high * LINE)
    np.testing.assert_array_equal(part, whole[left:right, low * LINE : high * LINE])


@pytest.mark.parametrize("value", [1.00390625, 1.01171875, -3e38, 3.4e38, np.inf, -np.inf, np.nan, 1e-30, 2.0**-133])
def test_rounding(value):
    """A number becomes the nearest bfloat16, the even one of two, or infinity; below 2^-126 it becomes 0."""
    w = aligned_zeros(1, LINE)
    w[:] = value
    words = aligned_words(1, LINE)
    round_weights(w, 0, LINE, words)
    both = words[0, : LINE // 2].view(np.uint16).astype(np.uint32) << 16
    expected = rounded(w)[0] if not abs(value) < 2.0**-126 else np.zeros(LINE, np.float32)
    np.testing.assert_array_equal(both.view(np.float32), expected)


def reference(train, config):
    """A head by torch, plain SGD, with operands that are rounded before each of the two products."""
    x = torch.from_numpy(train.x).double()
    mean, std = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
    if config.standardize:
        mean, std = x.mean(0), x.std(0, correction=0)
    x = torch.cat([((x - mean) / std).float(), torch.ones(len(x), 1)], dim=1)
    w, v = (torch.zeros(len(train.classes), x.shape[1]) for _ in range(2))
    step, steps = 0, config.steps(len(x))
    for order in sampled(torch.from_numpy(train.y), config):
        for start in range(0, len(x), config.batch_size):
            rows = order[start : start + config.batch_size]
            batch, truth = x[rows].bfloat16().float(), torch.from_numpy(train.y)[rows]
            g = torch.softmax(w.bfloat16().float() @ batch.T, dim=0)
            g[truth, torch.arange(len(rows))] -= 1
            d = g.bfloat16().float() @ batch / len(rows)
            d *= min(1.0, (config.clip_norm or math.inf) / (d.norm() + 1e-6))
            v = config.momentum * v + d
            w = w - config.lr_at(step, steps) * v
            step += 1
    weight = w[:, :-1].double() / std
    return weight, w[:, -1].double() - weight @ mean.double()


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(("rows", "batch_size", "dim"), [(203, 64, 37), (65, 64, 9), (301, 301, 48), (3, 1, 16)])
def test_a_training_is_that_of_rounded_operands(rows, batch_size, dim, standardize):
    """Gradients and steps are torch's on operands that were rounded, in odd batches too; all else is float32's."""
    train = uneven_clusters(rows, dim, 5)
    config = HeadConfig(epochs=5, batch_size=batch_size, lr=0.05, standardize=standardize, matmul_precision="bf16")
    for head in train_heads(train, None, [config, replace(config, clip_norm=None)]):
        assert apart(head, *reference(train, head.config)) < 1e-6
        (plain,) = train_heads(train, None, [replace(head.config, matmul_precision="fp32")])
        assert 1e-4 < apart(head, plain.weight, plain.bias) < 1e-2
