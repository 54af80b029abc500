"""The check: the optimum of the stated objective, reached or honestly not."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from featcache.errors import UsageError
from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import LinearHead, Scores
from featcache.heads.optimum.check import check_head
from featcache.heads.optimum.objective import TOLERANCE
from featcache.heads.scoring import score_split
from tests.builders import uneven_clusters


@pytest.fixture(autouse=True)
def one_thread():
    """A second thread only waits where other work shares the machine, and the clock runs on."""
    with threadpool_limits(1):
        yield


def features(rows=400, dim=6, classes=4, seed=0, present=None, spread=1.5, offset=0.0) -> Features:
    """Gaussian clusters of unequal size around centres that depend on the class alone."""
    return uneven_clusters(rows, dim, classes, seed, present=present, spread=spread, offset=offset)


def a_head(train: Features, val: Features | None = None, weight=None, bias=None, decay=0.0) -> LinearHead:
    """A head of these weights, zero where none are given, as training would have left it."""
    shape = (len(train.classes), train.x.shape[1])
    weight = np.zeros(shape, np.float32) if weight is None else weight.astype(np.float32)
    bias = np.zeros(shape[0], np.float32) if bias is None else bias.astype(np.float32)
    blank = LinearHead(HeadConfig(weight_decay=decay), weight, bias, 1, (), Scores(0, 0, 0), None)
    on_val = None if val is None else score_split(blank.logits, val)
    return replace(blank, train=score_split(blank.logits, train), val=on_val)


def stated(flat: np.ndarray, train: Features, weight_decay: float) -> tuple[float, np.ndarray]:
    """The design's objective and its gradient, plain and in float64; flat is (classes, dim + 1)."""
    wb = flat.reshape(len(train.classes), -1)
    x, rows = train.x.astype(np.float64), np.arange(len(train.y))
    z = x @ wb[:, :-1].T + wb[:, -1]
    z -= z.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    value = -logp[rows, train.y].mean() + weight_decay / 2 * (wb[:, :-1] ** 2).sum()
    g = np.exp(logp)
    g[rows, train.y] -= 1
    g /= len(rows)
    return value, np.column_stack([g.T @ x + weight_decay * wb[:, :-1], g.sum(axis=0)]).ravel()


def reference(train: Features, weight_decay: float) -> float:
    """The least value of the stated objective, by scipy."""
    options = {"maxiter": 50_000, "maxfun": 100_000, "gtol": 1e-10, "ftol": 1e-15}
    start = np.zeros(len(train.classes) * (train.x.shape[1] + 1))
    found = minimize(stated, start, (train, weight_decay), "L-BFGS-B", jac=True, options=options)
    return float(found.fun)


PROBLEMS = {
    "four classes": features(),
    "far from the origin": features(offset=30.0),
    "two classes": features(classes=2),
    "a class without rows": features(present=[0, 1, 3]),
    "two of four classes": features(present=[1, 3]),
    "fewer rows than dimensions": features(rows=40, dim=60, offset=5.0),
    "small numbers": replace(features(), x=features().x / 1000),
}


@pytest.mark.parametrize("decay", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("name", PROBLEMS)
def test_reaches_the_reference_optimum(name, decay):
    """The check's objective is the least value of the stated one, to 1e-6 relative."""
    train = PROBLEMS[name]
    check = check_head(a_head(train, decay=decay), train, None)
    weight_decay = max(decay, 1e-6)
    value, _ = stated(np.column_stack([check.weight, check.bias]).ravel(), train, weight_decay)
    assert check.converged
    assert check.weight_decay == weight_decay
    assert check.objective == pytest.approx(value, rel=1e-12)
    assert check.objective == pytest.approx(reference(train, weight_decay), rel=1e-6)


@pytest.mark.parametrize("name", PROBLEMS)
def test_head_on_the_same_objective(name):
    """The head's objective and gradient norm are those of the stated objective at the head's own weights."""
    train = PROBLEMS[name]
    rng = np.random.default_rng(5)
    classes, dim = len(train.classes), train.x.shape[1]
    head = a_head(train, weight=rng.standard_normal((classes, dim)), bias=rng.standard_normal(classes), decay=0.01)
    check = check_head(head, train, None)
    value, gradient = stated(np.column_stack([head.weight, head.bias]).astype(np.float64).ravel(), train, 0.01)
    assert check.head_objective == pytest.approx(value, rel=1e-10)
    assert check.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-9)
    assert check.gap == pytest.approx(value - check.objective, rel=1e-9)
    assert check.gap_share == pytest.approx(check.gap / value)


@pytest.mark.parametrize("name", ["a class without rows", "two of four classes"])
def test_absent_class_never_wins(name):
    """A class without training rows keeps its index and wins on no row, however far out the row lies."""
    train = PROBLEMS[name]
    check = check_head(a_head(train), train, None)
    absent = np.setdiff1d(np.arange(4), train.y)
    far = np.random.default_rng(1).standard_normal((2000, 6)) * 1e4
    won = np.unique((far @ check.weight.T + check.bias).argmax(axis=1))
    assert not set(won) & set(absent)
    assert check.weight.shape == (4, 6)


def test_single_class():
    """With one class in the training rows the optimum needs no solver: it always answers that class."""
    train = features(present=[2])
    check = check_head(a_head(train), train, None)
    assert check.converged
    assert check.iterations == 0
    assert check.objective == pytest.approx(0, abs=1e-12)
    assert check.train.accuracy == 1


def test_head_at_the_optimum():
    """A head with the optimum's own weights has no gap, a small gradient, and a sentence that says so."""
    train, val = features(), features(seed=1)
    first = check_head(a_head(train, decay=1e-3), train, val)
    head = a_head(train, val, first.weight, first.bias, decay=1e-3)
    check = check_head(head, train, val)
    assert check.converged
    assert check.gap == pytest.approx(0, abs=1e-9)
    assert check.gradient_norm < 1e-3
    assert "The head's training objective could fall by less than 0.1 %; it has " in check.sentence()


def test_starting_near_the_optimum():
    """A head that is close to a low optimum is brought to it, not called converged or stuck where it is."""
    train = features(rows=200, dim=60, spread=0.5)
    first = check_head(a_head(train), train, None)
    near = a_head(train, weight=first.weight * 1.01, bias=first.bias)
    check = check_head(near, train, None)
    assert first.objective < 0.01
    assert check.converged
    assert check.objective == pytest.approx(first.objective, rel=1e-4)


def test_float32_rows_reach_the_same_optimum(monkeypatch):
    """Rows that are too many for float64 reach the same optimum in float32, to 1e-6 relative."""
    train = features(offset=10.0)
    monkeypatch.setattr("featcache.heads.optimum.objective.MAX_FLOAT64_BYTES", 0)
    check = check_head(a_head(train, decay=1e-3), train, None)
    assert check.converged
    assert check.objective == pytest.approx(reference(train, 1e-3), rel=1e-6)


def test_separable_rows():
    """Where every training row is classified right the check says so, and the optimum is finite."""
    train, noisy = features(rows=30, dim=60, spread=0.3), features()
    check = check_head(a_head(train), train, None)
    assert check.separable
    assert check.converged
    assert np.isfinite(check.weight).all()
    assert check.sentence().endswith("; a linear head can classify every training row right.")
    other = check_head(a_head(noisy), noisy, None)
    assert not other.separable
    assert "every training row" not in other.sentence()


def slow_problem() -> Features:
    """Rows whose dimensions differ ten thousandfold in scale: lbfgs needs thousands of iterations."""
    train = features(rows=6_000, dim=400, classes=20, spread=4.0)
    return replace(train, x=train.x * np.logspace(0, -4, 400, dtype=np.float32))


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_time_budget(seconds):
    """The check ends within its time, says that it stopped early, and is never worse than the head."""
    train = slow_problem()
    head = a_head(train)
    began = time.perf_counter()
    check = check_head(head, train, None, seconds=seconds)
    took = time.perf_counter() - began
    assert took < 1.2 * seconds + 0.5  # the slack is for a machine that others use too
    assert check.seconds == pytest.approx(took, abs=0.05)
    assert not check.converged
    assert check.iterations > 0
    assert 0 < check.objective < check.head_objective
    assert " could still fall by at least " in check.sentence()
    assert "the check, which came no further in " in check.sentence()


def test_at_least_is_true():
    """What an early stop calls the least gap is below the gap of a check that had all the time."""
    train = features(rows=2_000, dim=40, classes=8, spread=3.0)
    short = check_head(a_head(train), train, None, seconds=1e-3)
    long = check_head(a_head(train), train, None)
    assert not short.converged
    assert long.converged
    assert short.gap_share <= long.gap_share


def test_no_time_at_all():
    """Without time for one iteration the check says that it cannot tell."""
    train = slow_problem()
    weight = np.zeros((20, 400))
    check = check_head(
        a_head(train, weight=weight, bias=np.log(np.bincount(train.y, minlength=20) / 6_000 + 1e-9)),
        train,
        None,
        seconds=1e-6,
    )
    assert check.iterations == 0
    assert check.sentence().startswith("Nothing is known of the optimum: the check had no time for a single iteration")


def test_embeddings_that_hardly_differ():
    """Where every weight decay of the path would be too strong, none is tried, and nothing is wanting."""
    train, val = (replace(some, x=some.x * np.float32(1e-3)) for some in (features(), features(seed=1)))
    check = check_head(a_head(train, val), train, val)
    assert check.path.optima == ()
    assert check.path.is_complete


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_diverged_head(bad):
    """A head that diverged has no distance; the check still finds the optimum and the sentence says both."""
    train, val = features(), features(seed=1)
    check = check_head(a_head(train, val, weight=np.full((4, 6), bad)), train, val)
    assert not math.isfinite(check.gap)
    assert check.converged
    assert check.objective == pytest.approx(reference(train, 1e-6), rel=1e-6)
    assert check.sentence().startswith(
        "Take a smaller --lr: the head diverged. The optimum of its training objective has"
    )
    assert "nan" not in check.sentence()


def test_worse_than_zero():
    """A head that is worse than no head at all gets a gap that says so."""
    train = features()
    check = check_head(a_head(train, weight=-100 * np.ones((4, 6)) * np.arange(4)[:, None]), train, None)
    assert check.converged
    assert check.gap_share > 0.9


def test_converged_means_the_stated_tolerance():
    """A converged check has no gradient entry beyond the stated tolerance, on rows centred and scaled."""
    train = features(offset=5.0)
    check = check_head(a_head(train), train, None)
    mean = train.x.mean(axis=0)
    length = np.sqrt(((train.x - mean) ** 2).sum(axis=1).mean())
    scaled = replace(train, x=(train.x - mean) / length)
    flat = np.column_stack([check.weight * length, check.bias + check.weight @ mean]).ravel()
    _, gradient = stated(flat, scaled, 1e-6 / length**2)
    assert check.converged
    assert np.abs(gradient).max() <= 1.01 * TOLERANCE * check.objective


def test_refused():
    """No time and no rows are refused."""
    train = features()
    with pytest.raises(UsageError, match="above 0"):
        check_head(a_head(train), train, None, seconds=0)
    nothing = replace(train, x=train.x[:0], y=train.y[:0], paths=(), clips=(), subjects=())
    with pytest.raises(UsageError, match="0 rows"):
        check_head(a_head(train), nothing, None)
