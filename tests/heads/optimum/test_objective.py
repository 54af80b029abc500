"""The objective is that of the head's own loss, and its optimum the one that others find."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from featcache.heads.optimum.check import check_head
from featcache.heads.optimum.objective import Objective
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from tests.heads.optimum.problems import BASE, TRAIN, noisy
from tests.heads.training import reference
from tests.heads.training.ways import by, clusters, make_config


@pytest.mark.parametrize("decay", [1e-6, 1e-3])
def test_our_lbfgs_is_scikit_learns(decay):
    """Objective to 1e-6 relative, predictions to 99.9 %."""
    (head,) = train_heads(TRAIN, None, [replace(BASE, weight_decay=decay)])
    check = check_head(head, TRAIN, None)
    theirs = LogisticRegression(C=1 / (decay * len(TRAIN.y)), tol=1e-9, max_iter=5_000)
    theirs.fit(TRAIN.x.astype(np.float64), TRAIN.y)
    z = torch.from_numpy(theirs.decision_function(TRAIN.x.astype(np.float64)))
    value = torch.nn.functional.cross_entropy(z, torch.from_numpy(TRAIN.y)).item()
    value += decay / 2 * float((theirs.coef_**2).sum())
    assert check.objective == pytest.approx(value, rel=1e-6)
    mine = (TRAIN.x @ check.weight.T + check.bias).argmax(axis=1)
    assert (mine == theirs.predict(TRAIN.x.astype(np.float64))).mean() >= 0.999


OTHERS = {
    "weights": {"class_weights": "balanced"},
    "draws": {"sampler": "balanced"},
    "smoothing": {"label_smoothing": 0.1},
    "adjustment": {"logit_adjustment": 1.0},
    "standardised": {"standardize": True},
    "all": {"class_weights": "balanced", "label_smoothing": 0.1, "logit_adjustment": 0.5, "standardize": True},
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_head_is_held_against_its_own_loss(other):
    """Long training by its own loss comes to the optimum of the check, from above; the sentence names the loss."""
    config = replace(
        BASE, optimizer="adam", lr=0.1, epochs=500, batch_size=2_000, clip_norm=None, weight_decay=1e-3, **OTHERS[other]
    )
    (head,) = train_heads(TRAIN, None, [config])
    check = check_head(head, TRAIN, None)
    assert check.converged
    assert -1e-9 <= check.gap_share < (0.02 if other == "draws" else 0.001)  # draws are no full batch
    for name in ("class weights", "label smoothing", "logit adjustment", "balanced draws"):
        asked = {"class weights": "weights", "balanced draws": "draws"}.get(name, name.split()[-1])
        assert (name in check.sentence()) == (other == asked or (other == "all" and name != "balanced draws"))


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from([1e-4, 1e-2]),
    st.sampled_from(["none", "balanced"]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
def test_the_check_reaches_scipys_optimum(decay, weights, adjustment, smoothing, standardize):
    """The optimum of every loss is the lowest value that scipy finds of the formula in float64."""
    train = clusters(absent=())
    of = make_config(
        weight_decay=decay, class_weights=weights, logit_adjustment=adjustment, label_smoothing=smoothing,
        standardize=standardize,
    )  # fmt: skip
    with by((TorchStack, 1)):
        (head,) = train_heads(train, None, [of])
    x, y = train.x.astype(np.float64), train.y
    x = StandardScaler().fit_transform(x) if standardize else x
    counts = np.bincount(y)
    weight = len(y) / (len(counts) * counts) if weights == "balanced" else np.ones(len(counts))
    offset = adjustment * np.log(counts / len(y))

    def objective(flat):
        w, b = flat[:-4].reshape(4, -1), flat[-4:]
        logs = np.log(reference.softmax(x @ w.T + b + offset))
        own = weight[y] * -logs[np.arange(len(y)), y]
        even = -(logs * weight).sum(axis=1) / 4
        return ((1 - smoothing) * own + smoothing * even).sum() / weight[y].sum() + decay / 2 * np.square(w).sum()

    lowest = minimize(objective, np.zeros(4 * x.shape[1] + 4), method="L-BFGS-B", options={"maxfun": 10**6}).fun
    assert check_head(head, train, None).objective == pytest.approx(lowest, abs=2e-5)


@pytest.mark.parametrize("other", ["weights", "smoothing", "adjustment", "all"])
@pytest.mark.parametrize("rows", [40, 300])
def test_zero_weights_need_no_pass_over_the_rows(rows, other):
    """The objective and its gradient at zero weights, from the classes' means, are those of all rows."""
    train = noisy(rows=rows, dim=60)
    objective = Objective(replace(BASE, **OTHERS[other]), train)
    fast = objective.start_at_zero()
    assert (objective.basis is None) == (rows > 60)
    whole = objective.move(objective._in_basis.evaluate(fast.weight, fast.bias), 1e-6, 1e-6)
    assert fast.value == pytest.approx(whole.value, rel=1e-12)
    np.testing.assert_allclose(fast.d_weight, whole.d_weight, atol=1e-12)
    np.testing.assert_allclose(fast.spread, whole.spread, rtol=1e-9)


def test_the_span_of_few_rows_holds_the_optimum():
    """Fewer rows than dimensions: the optimum in their span is the one that is found among all weights."""
    train = noisy(rows=50, dim=80)
    (head,) = train_heads(train, None, [replace(BASE, weight_decay=1e-2)])
    inside = check_head(head, train, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featcache.heads.optimum.objective.MAX_BASIS_WORK", 0)
        among_all = check_head(head, train, None)
    assert inside.converged
    assert among_all.converged
    assert inside.objective == pytest.approx(among_all.objective, rel=1e-8)
    np.testing.assert_allclose(inside.weight, among_all.weight, atol=1e-3 * np.abs(among_all.weight).max())
