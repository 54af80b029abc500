"""The single instructions that our loops are made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.heads.training.kernels.intrinsics import NO_TRANSPOSE, SGEMM, TRANSPOSE, compiled, exp2, sgemm


@compiled
def powers(x, out):
    for i in range(len(x)):
        out[i] = exp2(x[i])


@compiled
def product(sgemm_address, op_b, m, n, k, alpha, a, b, beta, c):
    sgemm(sgemm_address, op_b, m, n, k, alpha, a, b, beta, c)


def exp2_of(x):
    out = np.empty(len(x), np.float32)
    powers(np.asarray(x, np.float32), out)
    return out


@given(st.lists(st.floats(-126, 0, width=32), min_size=1, max_size=40))
def test_exp2(x):
    """2^x to 1e-7 of it, in a vector's lanes and in what is left over."""
    np.testing.assert_allclose(exp2_of(x), np.exp2(np.array(x)), rtol=1e-7)


def test_exp2_at_the_ends():
    """Whole numbers are exact; what is less than a float32 has digits for is 2^-126, and nan stays nan."""
    whole = np.arange(-126, 1)
    assert exp2_of(whole).tolist() == (2.0**whole).tolist()
    ends = exp2_of([-127, -1e30, -np.inf, np.nan])
    assert ends[:3].tolist() == [2.0**-126] * 3
    assert np.isnan(ends[3])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (34, 7, 784), (5, 784, 3), (272, 64, 65)])
def test_sgemm(m, n, k, turned):
    """C becomes alpha B A (or B' A) + beta C, row by row as NumPy has them."""
    rng = np.random.default_rng(0)
    a, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((k, m), (n, m)))
    b = rng.standard_normal((k, n) if turned else (n, k)).astype(np.float32)
    expected = 0.5 * (b.T if turned else b).astype(np.float64) @ a + 2.0 * c
    product(SGEMM, TRANSPOSE if turned else NO_TRANSPOSE, m, n, k, np.float32(0.5), a, b, np.float32(2), c)
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-4)
