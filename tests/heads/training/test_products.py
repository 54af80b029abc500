"""The products of a step are NumPy's, and each number of them the same whatever is computed beside it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.heads.training.kernels.products import multiply_gradient, multiply_logits
from featcache.heads.training.kernels.tiles import LINE, ROW_TILE
from featcache.heads.training.numba_stack import aligned_zeros

ALPHA = np.float32(0.5)


def drawn(rows, columns, seed):
    values = aligned_zeros(rows, columns)
    values[:] = np.random.default_rng(seed).standard_normal(values.shape)
    return values


def logits(w, x, first, last):
    """Logits of rows first to last, (columns, last - first), in memory that held nan."""
    z = np.full((len(w), -(-len(x) // ROW_TILE) * ROW_TILE), np.nan, np.float32)
    multiply_logits(w, x, first, last, ALPHA, z)
    return z[:, first:last]


def gradient(g, x, rows, low, high):
    """Columns low to high of a gradient, in memory that held nan."""
    d = np.full((len(g), x.shape[1]), np.nan, np.float32)
    multiply_gradient(g, x, rows, ALPHA, low, high, d)
    return d[:, low:high]


SHAPES = [(1, 1, 16), (34, 7, 784), (5, 784, 16), (272, 64, 80), (3, 33, 1_056), (2, 130, 2_096), (13, 65, 48)]


@pytest.mark.parametrize(("columns", "rows", "width"), SHAPES)
def test_products(columns, rows, width):
    """Alpha W X' and alpha G X are those of float64 to float32's rounding."""
    x = drawn(-(-rows // ROW_TILE) * ROW_TILE, width, 0)
    w, g = drawn(columns, width, 1), drawn(columns, rows, 2)
    exact = 0.5 * w.astype(np.float64) @ x[:rows].T.astype(np.float64)
    np.testing.assert_allclose(logits(w, x, 0, rows), exact, atol=1e-6 * width)
    exact = 0.5 * g.astype(np.float64) @ x[:rows].astype(np.float64)
    np.testing.assert_allclose(gradient(g, x, rows, 0, width), exact, atol=1e-6 * rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 150), st.integers(1, 5), st.data())
def test_a_part_has_the_bits_of_the_whole(columns, rows, lines, data):
    """Some columns, of some rows or some of a row's width, are what they are among all others."""
    width = lines * LINE
    x, w = drawn(-(-rows // ROW_TILE) * ROW_TILE, width, 0), drawn(columns, width, 1)
    g = drawn(columns, rows, 2)
    left = data.draw(st.integers(0, columns - 1))
    right = data.draw(st.integers(left + 1, columns))
    tiles = -(-rows // ROW_TILE)
    first = data.draw(st.integers(0, tiles - 1)) * ROW_TILE
    last = data.draw(st.integers(first + 1, rows))
    whole, part = logits(w, x, 0, rows), logits(w[left:right], x, first, last)
    np.testing.assert_array_equal(part, whole[left:right, first:last])
    low = data.draw(st.integers(0, lines - 1))
    high = data.draw(st.integers(low + 1, lines))
    whole = gradient(g, x, rows, 0, width)
    part = gradient(np.ascontiguousarray(g[left:right]), x, rows, low * LINE, high * LINE)
    np.testing.assert_array_equal(part, whole[left:right, low * LINE : high * LINE])


OTHER_PROCESSOR = """
import sys
import llvmlite.binding as binding
features = binding.get_host_cpu_features()
features.update({name: False for name in features if name.startswith(tuple(sys.argv[1:]))})
binding.get_host_cpu_features = lambda: features
from featcache.heads.training.kernels import vectors
from tests.heads.training.test_products import SHAPES, test_products
for shape in SHAPES:
    test_products(*shape)
print(vectors.LANES)
"""


@pytest.mark.parametrize(("without", "most"), [(["avx512"], 8), (["avx", "fma"], 4)])
def test_on_another_processor(tmp_path, without, most):
    """Vectors of eight lanes, and of four without a fused multiply-add, compute the same products."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", OTHER_PROCESSOR, *without]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= most
