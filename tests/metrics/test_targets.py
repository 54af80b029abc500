"""Metrics of several labels and of numbers, held against scikit-learn and SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from featcache.metrics.conformal import conformal_spread, residual_limits, rows_needed
from featcache.metrics.label_temperature import calibrate_labels, fit_label_temperature, label_loss
from featcache.metrics.multilabel import (
    average_precision,
    choose_thresholds,
    f1_scores,
    label_metrics,
    label_outcomes,
    weighted_precision,
)
from featcache.metrics.ordering import order_rows
from featcache.metrics.regression import value_figures, weighted_figures
from featcache.metrics.target_intervals import (
    difference_intervals,
    figures_of_values,
    label_figures,
    label_intervals,
    value_intervals,
)

SEEDS = st.integers(0, 2**32 - 1)


def labels_and_scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Up to 40 rows and 2 to 5 labels; many scores are equal, and some labels are in no row or in all."""
    rng = np.random.default_rng(seed)
    rows, labels = rng.integers(1, 41), rng.integers(2, 6)  # one column is to scikit-learn a class and its opposite
    share = rng.choice([0, 0.1, 0.5, 1], labels)
    return (rng.random((rows, labels)) < share).astype(float), rng.integers(
        0, rng.choice([3, 100]), (rows, labels)
    ) / 100


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_average_precision_and_f1_are_those_of_scikit_learn(seed):
    """Each label's and their means; a label in no row is undefined, and no part of the mean over labels."""
    truth, scores = labels_and_scores(seed)
    thresholds = np.full(truth.shape[1], 0.02)
    found, precision = label_metrics(truth, scores, thresholds), average_precision(truth, scores)
    occurs = truth.any(axis=0)
    assert np.isnan(precision[~occurs]).all()
    expected = [average_precision_score(*pair) for pair in zip(truth.T[occurs], scores.T[occurs], strict=True)]
    assert precision[occurs] == pytest.approx(expected)
    assert found["mean_average_precision"] == pytest.approx(np.mean(expected) if expected else math.nan, nan_ok=True)
    predicted = scores >= thresholds
    for name, average in (("macro_f1", "macro"), ("micro_f1", "micro")):
        ours = f1_score(truth, predicted, average=average, zero_division=np.nan)
        assert found[name] == pytest.approx(ours, nan_ok=True)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_figures_of_numbers_are_those_of_scikit_learn_and_scipy(seed):
    """R2, MAE, RMSE and Spearman's correlation of every column, equal values included."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, rng.choice([4, 1000]), (rng.integers(3, 40), 3)) * 10.0 ** rng.integers(-3, 4)
    predicted = truth + rng.integers(-2, 3, truth.shape) * truth.std()
    figures = value_figures(truth, predicted)
    for column, (t, p) in enumerate(zip(truth.T, predicted.T, strict=True)):
        r2, mae, rmse, spearman = figures[:, column]
        assert mae == pytest.approx(mean_absolute_error(t, p))
        assert rmse == pytest.approx(root_mean_squared_error(t, p))
        if (t == t[0]).all():
            assert math.isnan(r2)
            assert math.isnan(spearman)
            continue
        assert r2 == pytest.approx(r2_score(t, p))
        if (p != p[0]).any():
            assert spearman == pytest.approx(spearmanr(t, p).statistic)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_weight_of_two_is_a_row_twice(seed):
    """What a bootstrap computes under weights is the figure of the rows repeated as often."""
    truth, scores = labels_and_scores(seed)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (1, len(truth))).astype(float)
    repeated = np.repeat(np.arange(len(truth)), weights[0].astype(int))
    order = order_rows(scores[:, 0], descending=True)
    expected = average_precision(truth[repeated, :1], scores[repeated, :1])[0] if len(repeated) else math.nan
    assert weighted_precision(weights, truth[:, 0], order)[0] == pytest.approx(expected, nan_ok=True)
    t, p = rng.normal(size=len(truth)), rng.integers(0, 4, len(truth)).astype(float)
    if len(np.unique(t[repeated])) > 1:
        found = weighted_figures(weights, t, p, order_rows(t), order_rows(p))[:, 0]
        assert found == pytest.approx(value_figures(t[repeated, None], p[repeated, None])[:, 0], nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(seed):
    """On the rows that it is chosen on, over all numbers between two probabilities; half where no row has the label."""
    truth, scores = labels_and_scores(seed)
    chosen = choose_thresholds(truth, scores)

    def f1(thresholds):
        return f1_scores(label_outcomes(truth, scores >= thresholds).sum(axis=1))

    best = f1(chosen)
    for level in np.linspace(0, 1.01, 102):
        assert (f1(np.full(truth.shape[1], level)) <= best + 1e-12).all()
    assert (chosen[~truth.any(axis=0)] == 0.5).all()


def test_intervals_hold_the_figure_and_say_what_they_cannot():
    """By subject; a label in no row has no interval, and two subjects are too few for any."""
    rng = np.random.default_rng(0)
    truth = (rng.random((300, 3)) < [0.3, 0.6, 0]).astype(float)
    scores = np.clip(0.5 * truth + rng.random((300, 3)) * 0.6, 0, 1)
    subjects = [f"s{row % 15}" for row in range(300)]
    found = label_intervals(truth, scores, np.full(3, 0.5), subjects, [""] * 300)
    assert (found.unit, found.groups) == ("subject", 15)
    figures = label_metrics(truth, scores, np.full(3, 0.5)).values()
    assert all(part.low < figure < part.high for part, figure in zip(found.overall, figures, strict=True))
    assert found.outputs[2][0] is None
    two = value_intervals(truth[:, :1], scores[:, :1], [f"s{row % 2}" for row in range(300)], [""] * 300)
    assert two.overall == (None,) * 4


def test_intervals_of_numbers_cover_the_truth():
    """Of 100 samples of 60 rows, about 95 of the intervals of the error hold that of a million rows."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        t = rng.normal(size=(60, 1))
        interval = value_intervals(t, t + rng.normal(size=(60, 1)), [""] * 60, [""] * 60).overall[1]
        inside += interval.low <= math.sqrt(2 / math.pi) <= interval.high
    assert 88 <= inside <= 100


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_temperature_of_labels_is_the_best_and_changes_no_prediction(seed):
    """Val is never less likely than without it; no other temperature of SciPy's does better; thresholds move along."""
    rng = np.random.default_rng(seed)
    rows, labels = rng.integers(2, 60), rng.integers(1, 5)
    z = rng.standard_normal((rows, labels)) * 10 ** rng.uniform(-1, 1.5)
    truth = (rng.random((rows, labels)) < 1 / (1 + np.exp(-z / rng.uniform(0.2, 5)))).astype(float)
    temperature = fit_label_temperature(z, truth)
    if temperature is None:
        assert label_loss(z / 0.01, truth) <= label_loss(z / 0.011, truth)
        return
    assert label_loss(z / temperature, truth) <= label_loss(z, truth)
    best = minimize_scalar(lambda log: label_loss(z / np.exp(log), truth), bounds=(np.log(0.01), np.log(100)))
    assert label_loss(z / temperature, truth) <= best.fun + 1e-9
    probabilities = np.exp(-np.logaddexp(0, -z))
    thresholds = rng.choice(probabilities.ravel(), labels)
    scaled, at = calibrate_labels(z, thresholds, temperature)
    assert ((scaled >= at) == (np.exp(-np.logaddexp(0, -z)) >= thresholds)).all()
    inside = (probabilities > 1e-9) & (probabilities < 1 - 1e-9)
    assert np.allclose(scaled[inside], 1 / (1 + np.exp(-z / temperature))[inside], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_difference_is_that_of_the_figures_and_its_interval_turns_with_it(seed):
    """A less B is B less A with its ends exchanged; a head less itself has no spread, and so no interval."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((40, 2))
    heads = [figures_of_values(truth, truth + rng.standard_normal((40, 2))) for _ in range(2)]
    groups = tuple(f"p{row % 8}" for row in range(40)), ("",) * 40
    ours, turned = (difference_intervals(*pair, truth, *groups) for pair in (heads, heads[::-1]))
    for one, other in zip(ours.overall, turned.overall, strict=True):
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert difference_intervals(heads[0], heads[0], truth, *groups).overall == (None,) * 4


def test_paired_rows_tell_more_than_two_separate_intervals():
    """Two heads that err on the same rows: the interval of their difference is narrower than either head's own."""
    rng = np.random.default_rng(0)
    truth = (rng.random((300, 2)) < 0.4).astype(float)
    noise = rng.standard_normal((300, 2))
    scores = [truth + 1.2 * noise + 0.2 * rng.standard_normal((300, 2)) for _ in range(2)]
    half, no = np.full(2, 0.5), ("",) * 300
    pair = difference_intervals(*(label_figures(truth, score, half) for score in scores), truth, no, no)
    alone = label_intervals(truth, scores[0], half, no, no)
    assert pair.overall[0].high - pair.overall[0].low < 0.5 * (alone.overall[0].high - alone.overall[0].low)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([0.5, 0.8, 0.9]), st.integers(3, 60))
def test_a_limit_holds_the_share_of_residuals_that_it_is_to_hold(seed, level, rows):
    """The k-th smallest residual, k = ceil((n + 1) level): k are within it; without so many rows it is infinite."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.standard_normal((2, rows, 2))
    limits = residual_limits(truth, predicted, level)
    within = (np.abs(truth - predicted) <= limits).sum(axis=0)
    if rows_needed(rows, level) > rows:
        assert np.isinf(limits).all()
    else:
        assert (within == rows_needed(rows, level)).all()


def test_intervals_of_numbers_cover_what_they_promise_on_exchangeable_rows():
    """At 90 %, 88 to 92 % of new rows over 400 calibrations, which spread as far as is said."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        residual = rng.standard_t(3, (300, 1))
        limits = residual_limits(residual[:100], np.zeros((100, 1)), 0.9)
        covered.append((np.abs(residual[100:]) <= limits).mean())
    assert 0.88 <= np.mean(covered) <= 0.92
    of_rows = 0.9 * 0.1 / 200  # of a share of 200 rows
    assert np.std(covered) == pytest.approx(math.sqrt(conformal_spread(100, 0.9) ** 2 + of_rows), rel=0.15)
