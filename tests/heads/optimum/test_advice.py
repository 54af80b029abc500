"""Advice without val: what is said to come near the optimum was trained, and comes near it."""

import re
from dataclasses import replace

import pytest

from featcache.heads.optimum.advice import check_and_advise
from featcache.heads.optimum.check import check_head
from featcache.heads.optimum.sentence import NEAR_OPTIMUM
from featcache.heads.training.train import train_heads
from tests.heads.optimum.problems import BASE, TRAIN


@pytest.mark.parametrize("lr", [1e-4, 0.003, 0.03])
def test_advice_is_true(lr):
    """A head that the advice says is within 1 % of its optimum is so once trained; one that is farther, just as far."""
    (head,) = trained = train_heads(TRAIN, None, [replace(BASE, lr=lr)])
    check = check_and_advise(head, trained, TRAIN, None, 60.0, 0.1, "cpu")
    assert check.gap_share > NEAR_OPTIMUM
    found = re.search(
        r"Raise --(lr|epochs) to ([\d.e+-]+): .*, with that by (less than 1 %|only ([\d.]+) %)\.",
        check.sentence(),
    )
    if found is None:
        assert "gets half of the way" in check.sentence()
        return
    setting, value = found[1], float(found[2]) if found[1] == "lr" else int(float(found[2]))
    (better,) = train_heads(TRAIN, None, [replace(head.config, **{setting: value})])
    left = check_head(better, TRAIN, None).gap_share
    if found[3] == "less than 1 %":
        assert left < NEAR_OPTIMUM
    else:
        assert NEAR_OPTIMUM <= left < check.gap_share / 2
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
    assert check.gap_share < NEAR_OPTIMUM or check.tried
    assert check.gap_share >= 0
