"""The single instructions that our loops are made of."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featcache.heads.training.kernels.intrinsics import compiled, exp2


@compiled
def powers(x, out):
    for i in range(len(x)):
        out[i] = exp2(x[i])


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
