"""The temperature is that of Guo et al.: the one number that makes held-out rows most likely; no prediction changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from featcache.metrics import apply_temperature, fit_temperature, mean_loss, softmax
from featcache.metrics.temperature import HIGHEST, LOWEST


def rows_of(seed: int, rows: int, classes: int, sharpness: float, dtype=np.float64):
    """Logits, their probabilities, and labels drawn from the softmax of other logits: over- or underconfident ones."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((rows, classes)) * 2
    cumulated = softmax(z).cumsum(axis=1)
    truth = np.minimum((rng.random(rows)[:, None] > cumulated).sum(axis=1), classes - 1)
    logits = z * sharpness
    return logits, softmax(logits).astype(dtype), truth


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 6), st.floats(0.05, 20), st.booleans())
def test_the_likelihood_of_the_rows_never_falls(seed, rows, classes, sharpness, is_single):
    """Whatever the rows, they are at least as likely under the temperature as without one."""
    _, p, truth = rows_of(seed, rows, classes, sharpness, np.float32 if is_single else np.float64)
    temperature = fit_temperature(p, truth)
    if temperature is not None:
        assert LOWEST <= temperature <= HIGHEST
        assert mean_loss(apply_temperature(p, temperature), truth) <= mean_loss(p, truth)


@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_it_is_the_one_that_a_general_optimizer_finds(seed, sharpness):
    """SciPy's minimum of the mean cross-entropy of z / T, to 0.1 %; and the sharpness of the logits, roughly."""
    logits, p, truth = rows_of(seed, 400, 4, sharpness)

    def loss(log_t: float) -> float:
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(400), truth].mean()

    expected = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-7}).x)
    found = fit_temperature(p, truth)
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(sharpness, rel=0.6)


@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=20),
    st.floats(LOWEST, HIGHEST), st.booleans(),
)  # fmt: skip
def test_no_prediction_changes(rows, temperature, is_single):
    """The first of the most probable classes stays it, close ones and zeros included; rows still have a sum of 1."""
    weights = np.array(rows) + 1e-30 * (np.arange(3) == 0)
    p = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32 if is_single else np.float64)
    scaled = apply_temperature(p, temperature)
    assert (scaled.argmax(axis=1) == p.argmax(axis=1)).all()
    assert scaled.dtype == p.dtype
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-5)


def test_it_is_the_softmax_of_the_divided_logits():
    """From the probabilities alone, as from the logits."""
    logits, p, _ = rows_of(1, 50, 5, 3.0)
    np.testing.assert_allclose(apply_temperature(p, 2.5), softmax(logits / 2.5), rtol=1e-9)
    assert apply_temperature(p, 1.0) is p


def test_where_no_number_is_the_best_one_there_is_none():
    """Every row right and none in doubt; a true class with a probability of 0; a diverged head; no rows at all."""
    right = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(right, np.array([0, 1])) is None
    assert fit_temperature(np.array([[1.0, 0.0]]), np.array([1])) is None
    assert fit_temperature(np.full((2, 2), np.nan), np.array([0, 1])) is None
    assert fit_temperature(np.empty((0, 2)), np.empty(0, np.int64)) is None


def test_a_model_that_is_worse_than_chance_gets_the_highest():
    """Each row's true class is the least probable one: all classes become alike."""
    assert fit_temperature(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([1, 0])) == HIGHEST
