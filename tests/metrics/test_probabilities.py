"""Softmax: no overflow, and no certainty of a head that diverged."""

import numpy as np

from featcache.metrics.probabilities import softmax


def test_softmax_of_a_diverged_head_is_nan_and_of_large_logits_is_not():
    """No overflow; nan stays nan, row by row; no rows, no answer."""
    shares = softmax(np.array([[1e4, 0, 0], [np.nan, 0, 0]]))
    assert shares[0].tolist() == [1, 0, 0]
    assert np.isnan(shares[1]).all()
    assert softmax(np.zeros((0, 3))).shape == (0, 3)
