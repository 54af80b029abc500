"""Conformal sets hold the true class as often as was asked for, whatever the model is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.metrics import conformal_sets, conformal_threshold, softmax

LEVEL = 0.9


def exchangeable(seed: int, rows: int, classes: int = 6, sharpness: float = 2.0):
    """Probabilities of a model that is wrong about how sure it is, and labels that it only partly explains."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((rows, classes)) * 1.5
    truth = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return softmax(z * sharpness), truth


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sharpness", [0.3, 2.0])
def test_nine_of_ten_sets_hold_the_true_class(seed, sharpness):
    """Of 5,000 rows like the 5,000 of the calibration 88 to 92 % are covered, by sets that are not all classes."""
    p, truth = exchangeable(seed, 10_000, sharpness=sharpness)
    threshold = conformal_threshold(p[:5000], truth[:5000], LEVEL)
    sets = conformal_sets(p[5000:], threshold)
    assert 0.88 <= sets[np.arange(5000), truth[5000:]].mean() <= 0.92
    assert 1 < sets.sum(axis=1).mean() < 5


def test_few_rows_keep_the_promise_on_average():
    """Twenty rows of calibration, 500 times: the mean coverage is between 90 % and 90 % + 1 / 21."""
    covered = []
    for seed in range(500):
        p, truth = exchangeable(seed, 220)
        sets = conformal_sets(p[20:], conformal_threshold(p[:20], truth[:20], LEVEL))
        covered.append(sets[np.arange(200), truth[20:]].mean())
    assert 0.9 - 0.008 <= np.mean(covered) <= 0.9 + 1 / 21 + 0.008


@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_the_threshold_is_numpys_quantile_of_the_scores(seed, rows, level):
    """The k-th of the sorted scores 1 - p_y, k = ceil((n + 1) level); every class where k exceeds n."""
    p, truth = exchangeable(seed, rows)
    scores = 1 - p[np.arange(rows), truth]
    rank = np.ceil(np.round((rows + 1) * level, 9))
    found = conformal_threshold(p, truth, level)
    expected = 1 - np.quantile(scores, (rank - 0.5) / rows, method="inverted_cdf") if rank <= rows else 0.0
    assert found == pytest.approx(expected, abs=1e-12)
    if rank > rows:
        assert conformal_sets(p, found).all()


def test_nine_rows_are_enough_for_nine_tenths_and_eight_are_not():
    """10 x 0.9 is 9, whatever floating point says."""
    p, truth = exchangeable(0, 9)
    assert conformal_threshold(p, truth, LEVEL) == p[np.arange(9), truth].min()
    assert conformal_threshold(p[:8], truth[:8], LEVEL) == 0


def test_a_row_of_a_diverged_head_has_an_empty_set():
    """Nan is no probability that is high enough."""
    assert not conformal_sets(np.full((1, 3), np.nan), 0.1).any()
