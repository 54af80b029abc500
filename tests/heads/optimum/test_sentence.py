"""What a check says is true, in every case, and speaks of val first."""

import math
from dataclasses import replace

import numpy as np
import pytest

from featcache.heads.linear import Scores
from featcache.heads.optimum.check import Check, TriedSetting
from featcache.heads.optimum.difference import ValDifference
from featcache.heads.optimum.lbfgs import Point
from featcache.heads.optimum.path import RegularisationPath, RegularisedOptimum
from featcache.metrics import Interval

HEAD, OPTIMUM = Scores(0.4, 0.722, 0.768), Scores(0.6, 0.67, 3.375)
HEAD_ON_VAL, OPTIMUM_ON_VAL = "macro recall 72.2 % and loss 0.768", "macro recall 67.0 % and loss 3.375"
LOSS = "training loss, including weight decay 1e-06,"


def a_check(**changes) -> Check:
    """A check of training rows alone, of which nothing was tried."""
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
        val=None,
        head_train=Scores(0.5, 0.3, 1.7),
        head_val=None,
        weight=np.zeros((2, 2)),
        bias=np.zeros(2),
    )
    return replace(usual, **changes)


def above(points: float, reach: float | None = 2.0, unit: str = "image", groups: int = 100) -> ValDifference:
    """A difference of so many points on val, whose interval reaches so far to both sides; None: too few groups."""
    interval = None if reach is None else Interval((points - reach) / 100, (points + reach) / 100)
    return ValDifference("macro_recall", points / 100, interval, unit, groups)


def an_optimum(weight_decay: float, val: Scores, *, converged: bool = True) -> RegularisedOptimum:
    nothing = np.zeros((2, 2)), np.zeros(2)
    point = Point(*nothing, 0.5, *nothing, all_right=False, spread=np.zeros(2))
    return RegularisedOptimum(weight_decay, point, converged, val, np.zeros(100, np.int64))


def on_val(difference: ValDifference, better: ValDifference | None = None, **changes) -> Check:
    """A check with a val split; `better` is the difference of the optimum with weight decay 0.01, where it is best."""
    best_loss = 0.7 if better else 3.3
    optima = (an_optimum(1.0, Scores(0.5, 0.6, 3.5)), an_optimum(0.01, Scores(0.7, 0.753, best_loss)))
    path = RegularisationPath(optima, is_complete=True)
    regularised = an_optimum(1e-6, OPTIMUM) if better is None else optima[1]
    values = {
        "val": OPTIMUM, "head_val": HEAD, "difference": difference, "path": path, "regularised": regularised,
        "regularised_difference": difference if better is None else better, "logreg_c": 0.25,
    }  # fmt: skip
    return a_check(**(values | changes))


def a_trial(points: float, reach: float = 1.0, **settings: float) -> TriedSetting:
    name = next(iter(settings))
    flag = f"--{name.replace('_', '-')}"
    return TriedSetting(flag, settings[name], 0.1, settings, Scores(0.7, 0.749, 0.71), above(points, reach))


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (
            a_check(),
            f"The head's {LOSS} could still fall by 41 %: the head has macro recall 30.0 % and loss 1.700 on train, "
            f"the optimum macro recall 80.0 % and loss 1.000.",
        ),
        (
            a_check(converged=False),
            f"The head's {LOSS} could still fall by at least 41 % (the check stopped early, after 64 iterations in "
            f"30 s): the head has macro recall 30.0 % and loss 1.700 on train, the check macro recall 80.0 % and loss "
            f"1.000.",
        ),
        (
            a_check(gap_share=-1e-9, separable=True),
            f"The head is at the optimum: its {LOSS} could fall by less than 0.1 %: the head has macro recall 30.0 % "
            f"and loss 1.700 on train, the optimum macro recall 80.0 % and loss 1.000; a linear head can classify "
            f"every training row right.",
        ),
        (
            a_check(gap_share=0.0, converged=False, iterations=1),
            f"The check stopped early, after 1 iteration in 30 s, having lowered the head's {LOSS} by less than 0.1 %: "
            f"the head has macro recall 30.0 % and loss 1.700 on train, the check macro recall 80.0 % and loss 1.000.",
        ),
        (
            a_check(gap_share=0.0, converged=False, iterations=0),
            "The check had no time for a single iteration and cannot say how far the head is from the optimum "
            "(--check-seconds gives more).",
        ),
        (
            a_check(val=OPTIMUM, head_objective=math.nan, gap=math.nan, gap_share=math.nan, converged=False),
            "The head diverged and has no distance to the optimum; the check, which stopped early, after 64 "
            "iterations in 30 s, has macro recall 67.0 % and loss 3.375 on val.",
        ),
    ],
)
def test_without_val(check, sentence):
    """Without val the sentence is about the training objective, word for word."""
    assert check.sentence() == sentence


@pytest.mark.parametrize(
    ("check", "sentences"),
    [
        (
            on_val(above(-5.2), above(3.1), tried=(a_trial(2.7, weight_decay=0.01),), separable=True),
            f"Nothing to gain by training longer: the optimum of this objective is worse on val ({OPTIMUM_ON_VAL}; the "
            f"head has {HEAD_ON_VAL}). Try --weight-decay 0.01: a head trained with it has macro recall 74.9 % and "
            f"loss 0.710 on val (+2.7 points against the head, 95 % interval +1.7 to +3.7 over 100 images). The "
            f"head's {LOSS} could "
            f"still fall by 41 %; a linear head can classify every training row right.",
        ),
        (
            on_val(above(-5.2)),
            f"Nothing to gain by training longer: the optimum of this objective is worse on val ({OPTIMUM_ON_VAL}; the "
            f"head has {HEAD_ON_VAL}). No other weight decay does better on val. The head's {LOSS} could still fall by "
            f"41 %.",
        ),
        (
            on_val(above(-1.2), above(0.7)),
            f"Training longer makes no difference to macro recall that val can show, but raises the loss there: the "
            f"optimum of this objective has {OPTIMUM_ON_VAL}; the head has {HEAD_ON_VAL} (-1.2 points against "
            f"the head, 95 % interval "
            f"-3.2 to +0.8 over 100 images). "
            f"Another weight decay makes no difference that val can show: the best of 3 optima, at 0.01, has macro "
            f"recall 75.3 % and loss 0.700 (+0.7 points against the head, 95 % interval -1.3 to +2.7 over 100 "
            f"images). The head's "
            f"{LOSS} could still fall by 41 %.",
        ),
        (
            on_val(above(4.0, None), path=RegularisationPath()),
            f"Training longer makes no difference to macro recall that val can show, but raises the loss there: the "
            f"optimum of this objective has {OPTIMUM_ON_VAL}; the head has {HEAD_ON_VAL} (100 images are too few to "
            f"tell). There was no time to look "
            f"for a better weight decay (--check-seconds gives more). The head's {LOSS} could still fall by 41 %.",
        ),
        (
            on_val(above(4.0), tried=(a_trial(3.0, lr=0.1),)),
            f"Training longer pays in macro recall, but raises the loss on val: the optimum of this objective has "
            f"{OPTIMUM_ON_VAL}; the head has {HEAD_ON_VAL}. Try --lr 0.1: a head trained with it has macro recall "
            f"74.9 % and loss 0.710 on val (+3.0 "
            f"points against the head, 95 % interval +2.0 to +4.0 over 100 images). The head's {LOSS} could "
            f"still fall by 41 %.",
        ),
        (
            on_val(above(4.0), tried=(a_trial(0.3, lr=0.1), a_trial(0.2, epochs=270))),
            f"Training longer pays in macro recall, but raises the loss on val: the optimum of this objective has "
            f"{OPTIMUM_ON_VAL}; the head has {HEAD_ON_VAL}; none of the settings that were tried (--lr 0.1, --epochs "
            f"270) gets there. No other "
            f"weight decay does better on val. The head's {LOSS} could still fall by 41 %.",
        ),
        (
            on_val(above(-5.2), above(3.1), no_time=True),
            f"Nothing to gain by training longer: the optimum of this objective is worse on val ({OPTIMUM_ON_VAL}; the "
            f"head has {HEAD_ON_VAL}). The optimum with weight decay 0.01 is better: macro recall 75.3 % and loss "
            f"0.700 on val (+3.1 points against the head, 95 % interval +1.1 to +5.1 over 100 images); "
            f"`featcache fit logreg C=0.25` "
            f"finds it; there was no time to train a head with it (--check-seconds gives more). The head's {LOSS} "
            f"could still fall by 41 %.",
        ),
        (
            on_val(above(-5.2), path=RegularisationPath((an_optimum(3.0, OPTIMUM), an_optimum(0.3, OPTIMUM)))),
            f"Nothing to gain by training longer: the optimum of this objective is worse on val ({OPTIMUM_ON_VAL}; the "
            f"head has {HEAD_ON_VAL}). None of the weight decays that there was time for, 3 to 0.3, does better, as "
            f"far as val can tell (--check-seconds gives more). The head's {LOSS} could still fall by 41 %.",
        ),
        (
            on_val(above(0.0), gap_share=0.0059),
            f"The head's {LOSS} could still fall by 0.5 %: {HEAD_ON_VAL} on val, the optimum {OPTIMUM_ON_VAL}. No "
            f"other weight decay does better on val.",
        ),
        (
            on_val(above(-5.2, unit="subject", groups=3), converged=False, iterations=7, seconds=4.2),
            f"Lowering this objective further makes val worse: what the check reached of the optimum has "
            f"{OPTIMUM_ON_VAL}; the head has {HEAD_ON_VAL}. No other weight decay does better on val. The head's "
            f"{LOSS} could still fall by at least 41 % (the check stopped early, after 7 iterations in 4 s).",
        ),
    ],
)
def test_with_val(check, sentences):
    """With val the first sentence is about val, the last about the training objective, word for word."""
    assert check.sentence() == sentences


def test_accuracy_where_that_chooses():
    """Where accuracy chooses the head, accuracy is what the sentence compares."""
    check = on_val(replace(above(-5.2), metric="accuracy"), select="accuracy")
    assert "(accuracy 60.0 % and loss 3.375; the head has accuracy 40.0 % and loss 0.768)" in check.sentence()


def test_the_loss_is_spoken_of_where_it_moves_and_recall_does_not():
    """Val shows no difference in macro recall, and twice the loss: the sentence says both, of weight decays too."""
    optima = (an_optimum(0.1, Scores(0.65, 0.654, 0.646)), an_optimum(0.01, Scores(0.66, 0.66, 0.9)))
    own = Scores(0.67, 0.671, 1.3)
    check = on_val(
        above(-1.0), val=own, head_val=Scores(0.68, 0.682, 0.65), regularised=an_optimum(1e-6, own),
        path=RegularisationPath(optima, is_complete=True),
    )  # fmt: skip
    assert check.sentence().startswith(
        "Training longer makes no difference to macro recall that val can show, but raises the loss there: the optimum "
        "of this objective has macro recall 67.1 % and loss 1.300; the head has macro recall 68.2 % and loss 0.650 "
        "(-1.0 points against the head, 95 % interval -3.0 to +1.0 over 100 images). No other weight decay "
        "has a better macro recall on "
        "val; the lowest loss there has weight decay 0.1, with macro recall 65.4 % and loss 0.646. "
    )
    worse = replace(check, difference=above(-5.0), head_val=Scores(0.72, 0.722, 1.5))
    assert worse.sentence().startswith("Training longer makes macro recall on val worse, but lowers the loss there: ")


def test_losses_that_are_about_the_same_are_not_spoken_of():
    """Within five in a hundred neither is said to be lower."""
    near = Scores(0.7, 0.71, 0.79)
    check = on_val(above(-1.0), val=near, regularised=an_optimum(1e-6, near), path=RegularisationPath())
    assert check.sentence().startswith("Training longer makes no difference that val can show: ")
