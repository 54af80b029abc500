"""The sentence that says how far a head is from its optimum is true, in every case."""

import math
from dataclasses import replace

import numpy as np
import pytest

from featcache.heads.linear import Scores
from featcache.heads.optimum.check import Check


def a_check(**changes) -> Check:
    usual = Check(
        weight_decay=1e-6,
        objective=1.0,
        head_objective=1.7,
        gap=0.7,
        gap_share=0.7 / 1.7,
        gradient_norm=0.1,
        separable=False,
        converged=True,
        iterations=64,
        seconds=29.6,
        train=Scores(0.9, 0.8, 1.0),
        val=Scores(0.6, 0.361, 1.25),
        head_train=Scores(0.5, 0.3, 1.7),
        head_val=Scores(0.4, 0.201, 1.875),
        weight=np.zeros((2, 2)),
        bias=np.zeros(2),
    )
    return replace(usual, **changes)


LOSS = "training loss, including weight decay 1e-06,"


ON_VAL = "the head has macro recall 20.1 % and loss 1.875 on val, the {} macro recall 36.1 % and loss 1.250"


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (a_check(), f"The head's {LOSS} could still fall by 41 %: {ON_VAL.format('optimum')}."),
        (
            a_check(converged=False),
            f"The head's {LOSS} could still fall by at least 41 % "
            f"(the check stopped early, after 64 iterations in 30 s): {ON_VAL.format('check')}.",
        ),
        (
            a_check(gap_share=0.0059, separable=True),
            f"The head's {LOSS} could still fall by 0.5 %: {ON_VAL.format('optimum')}; "
            f"a linear head can classify every training row right.",
        ),
        (
            a_check(gap_share=-1e-9),
            f"The head is at the optimum: its {LOSS} could fall by less than 0.1 %: {ON_VAL.format('optimum')}.",
        ),
        (
            a_check(gap_share=0.0, converged=False, iterations=1),
            f"The check stopped early, after 1 iteration in 30 s, having lowered the head's {LOSS} "
            f"by less than 0.1 %: {ON_VAL.format('check')}.",
        ),
        (
            a_check(gap_share=0.0, converged=False, iterations=0),
            "The check had no time for a single iteration and cannot say how far the head is from the optimum: "
            f"{ON_VAL.format('check')}.",
        ),
        (
            a_check(val=None, head_val=None),
            f"The head's {LOSS} could still fall by 41 %: the head has macro recall 30.0 % and loss 1.700 on train, "
            f"the optimum macro recall 80.0 % and loss 1.000.",
        ),
        (
            a_check(head_objective=math.nan, gap=math.nan, gap_share=math.nan, converged=False),
            "The head diverged and has no distance to the optimum; the check, which stopped early, after 64 "
            "iterations in 30 s, has macro recall 36.1 % and loss 1.250 on val.",
        ),
    ],
)
def test_sentence(check, sentence):
    """The sentence in each case, word for word."""
    assert check.sentence() == sentence
