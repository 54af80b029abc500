"""Advice: what is said to get there was trained, and gets there."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.optimum.advice import check_and_advise
from featcache.heads.optimum.check import THERE, check_head
from featcache.heads.training.train import train_heads
from tests.builders import features


def clusters(rows=2_000, dim=16, classes=6, seed=0) -> Features:
    """Overlapping clusters whose dimensions differ in scale, as those of embeddings do."""
    rng = np.random.default_rng(seed)
    y = np.minimum(rng.geometric(0.4, rows) - 1, classes - 1)
    centres = np.random.default_rng(9).standard_normal((classes, dim))
    x = (0.7 * centres[y] + rng.standard_normal((rows, dim))) * np.linspace(1, 0.3, dim) + 0.5
    return features(x, y, "abcdef"[:classes])


TRAIN = clusters()
BASE = HeadConfig(epochs=20, batch_size=256)


@pytest.mark.parametrize("lr", [1e-4, 0.003, 0.03])
def test_advice_is_true(lr):
    """The learning rate that "gets there" leaves under 1 % when it is trained; one that "leaves" leaves just that."""
    (head,) = trained = train_heads(TRAIN, None, [replace(BASE, lr=lr)])
    check = check_and_advise(head, trained, TRAIN, None, 60.0, 0.1, "cpu")
    assert check.gap_share > THERE
    found = re.search(r"raise --(lr|epochs) \(([\d.e+-]+) (gets there|leaves ([\d.]+) %)\)", check.sentence())
    if found is None:
        assert "none gets half way" in check.sentence()
        return
    setting, value = found[1], float(found[2]) if found[1] == "lr" else int(float(found[2]))
    (better,) = train_heads(TRAIN, None, [replace(head.config, **{setting: value})])
    left = check_head(better, TRAIN, None).gap_share
    if found[3] == "gets there":
        assert left < THERE
    else:
        assert THERE <= left < check.gap_share / 2
        assert 100 * left == pytest.approx(float(found[4]), abs=1)


def test_heads_of_the_same_sweep_are_advice_enough():
    """A learning rate that was trained beside is not trained again; smaller ones are no advice."""
    trained = train_heads(TRAIN, None, [replace(BASE, lr=lr) for lr in (1e-5, 1e-4, 0.5)])
    check = check_and_advise(trained[1], trained, TRAIN, None, 60.0, 1e9, "cpu")
    assert [(trial.flag, trial.value) for trial in check.tried] == [("--lr", 0.5)]


def test_no_advice_without_time():
    """Where nothing could be tried the sentence says so, and names no setting."""
    (head,) = trained = train_heads(TRAIN, None, [replace(BASE, lr=1e-4)])
    check = check_and_advise(head, trained, TRAIN, None, 20.0, 1e9, "cpu")
    assert check.tried == ()
    assert "no time to try another --lr" in check.sentence()


def test_a_head_that_is_there_needs_none():
    """A converged head gets no advice."""
    (head,) = trained = train_heads(TRAIN, None, [replace(BASE, optimizer="adam", lr=0.1, weight_decay=0.01)])
    check = check_and_advise(head, trained, TRAIN, None, 20.0, 0.1, "cpu")
    assert check.gap_share < THERE or check.tried
    assert check.gap_share >= 0


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
