"""What a check says is true, in every case, and speaks of val first."""

import math
import re
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
AT_OPTIMUM = "trained to the optimum, where its training objective is 41 % lower, it would have"
NOW = f"The head has {HEAD_ON_VAL} on val; {AT_OPTIMUM}"


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


OBJECTIVE = "its training objective (the loss with weight decay 1e-06)"
ON_TRAIN = "On train the head has macro recall 30.0 % and loss 1.700, the optimum macro recall 80.0 % and loss 1.000"


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (
            a_check(),
            f"Train longer, with more --epochs or a larger --lr: {OBJECTIVE} could still fall by 41 %. {ON_TRAIN}.",
        ),
        (
            a_check(tried=(TriedSetting("--lr", 0.1, 0.003, {"lr": 0.1}),)),
            f"Raise --lr to 0.1: {OBJECTIVE} could still fall by 41 %, with that by less than 1 %. {ON_TRAIN}.",
        ),
        (
            a_check(tried=(TriedSetting("--lr", 0.1, 0.1, {"lr": 0.1}),)),
            f"Raise --lr to 0.1: {OBJECTIVE} could still fall by 41 %, with that by only 10 %. {ON_TRAIN}.",
        ),
        (
            a_check(tried=(TriedSetting("--lr", 0.1, 0.4, {"lr": 0.1}),)),
            f"Train longer: {OBJECTIVE} could still fall by 41 %, and none of the settings that were tried (--lr 0.1) "
            f"gets half of the way. {ON_TRAIN}.",
        ),
        (
            a_check(no_time=True),
            f"Train longer: {OBJECTIVE} could still fall by 41 %. There was no time to try another --lr "
            f"(--check-seconds gives more). {ON_TRAIN}.",
        ),
        (
            a_check(converged=False),
            f"Train longer, with more --epochs or a larger --lr: {OBJECTIVE} could still fall by at least 41 %. On "
            f"train the head has macro recall 30.0 % and loss 1.700, the check, which came no further in 30 s, macro "
            f"recall 80.0 % and loss 1.000.",
        ),
        (
            a_check(gap_share=-1e-9, separable=True),
            f"Nothing to do: {OBJECTIVE} could fall by less than 0.1 %. {ON_TRAIN}; a linear head can classify "
            f"every training row right.",
        ),
        (
            a_check(gap_share=0.0, converged=False, iterations=1),
            f"Nothing to do: {OBJECTIVE} could fall by less than 0.1 %, as far as the check came in 30 s. On train the "
            f"head has macro recall 30.0 % and loss 1.700, the check, which came no further in 30 s, macro recall "
            f"80.0 % and loss 1.000.",
        ),
        (
            a_check(gap_share=0.0, converged=False, iterations=0),
            "Nothing is known of the optimum: the check had no time for a single iteration (--check-seconds gives "
            "more).",
        ),
        (
            a_check(gap_share=0.2, converged=False, iterations=0),
            "Nothing is known of the optimum, for which the check had no time (--check-seconds gives more); but "
            "weights of zero have a training objective that is 20 % lower than the head's.",
        ),
        (
            a_check(val=OPTIMUM, head_objective=math.nan, gap=math.nan, gap_share=math.nan, converged=False),
            "Take a smaller --lr: the head diverged. The optimum of its training objective has, as far as the check "
            "came in 30 s, macro recall 67.0 % and loss 3.375 on val.",
        ),
    ],
)
def test_without_val(check, sentence):
    """Without val the first sentence says what to do by the training objective, word for word."""
    assert check.sentence() == sentence


WORSE = f"{NOW} {OPTIMUM_ON_VAL} (-5.2 points, 95 % interval -7.2 to -3.2 over 100 images)."


@pytest.mark.parametrize(
    ("check", "sentences"),
    [
        (
            on_val(above(-5.2), above(3.1), tried=(a_trial(2.7, weight_decay=0.01),), separable=True),
            f"Try --weight-decay 0.01: a head trained with it has macro recall 74.9 % and loss 0.710 on val (+2.7 "
            f"points, 95 % interval +1.7 to +3.7 over 100 images). {WORSE}",
        ),
        (
            on_val(above(-5.2)),
            f"Nothing to do: on val, neither longer training nor another weight decay is clearly better. {WORSE}",
        ),
        (
            on_val(above(-1.2), above(0.7)),
            f"Nothing to do: on val, neither longer training nor another weight decay is clearly better. {NOW} "
            f"{OPTIMUM_ON_VAL} (-1.2 points, 95 % interval -3.2 to +0.8 over 100 images). The best of 3 weight decays "
            f"is 0.01: its optimum has macro recall 75.3 % and loss 0.700 (+0.7 points, 95 % interval -1.3 to +2.7 "
            f"over 100 images).",
        ),
        (
            on_val(above(4.0, None), path=RegularisationPath()),
            f"Nothing to advise: val has 100 images, too few to tell which head is better. {NOW} {OPTIMUM_ON_VAL}.",
        ),
        (
            on_val(above(-1.0), path=RegularisationPath()),
            f"Nothing to do, as far as there was time to look (--check-seconds gives more): longer training is not "
            f"clearly better on val. {NOW} {OPTIMUM_ON_VAL} (-1.0 points, 95 % interval -3.0 to +1.0 over 100 images).",
        ),
        (
            on_val(above(4.0), tried=(a_trial(3.0, lr=0.1),)),
            f"Try --lr 0.1: a head trained with it has macro recall 74.9 % and loss 0.710 on val (+3.0 points, 95 % "
            f"interval +2.0 to +4.0 over 100 images). {NOW} {OPTIMUM_ON_VAL} (+4.0 points, 95 % interval +2.0 to +6.0 "
            f"over 100 images).",
        ),
        (
            on_val(above(4.0), tried=(a_trial(0.3, lr=0.1), a_trial(0.2, epochs=270))),
            f"Train longer, with more --epochs or a larger --lr, for a better macro recall; the loss on val would "
            f"rise. {NOW} {OPTIMUM_ON_VAL} (+4.0 points, 95 % interval +2.0 to +6.0 over 100 images). None of the "
            f"heads that were trained for it (--lr 0.1, --epochs 270) gets there.",
        ),
        (
            on_val(above(-5.2), above(3.1), no_time=True),
            f"Run `featcache fit logreg C=0.25`: it finds the optimum with weight decay 0.01, which has macro recall "
            f"75.3 % and loss 0.700 on val (+3.1 points, 95 % interval +1.1 to +5.1 over 100 images). {WORSE} There "
            f"was no time to train a head for it (--check-seconds gives more).",
        ),
        (
            on_val(above(-5.2), above(3.1), no_time=True, logreg_c=None),
            f"Try weight decay 0.01: at its optimum it has macro recall 75.3 % and loss 0.700 on val (+3.1 points, "
            f"95 % interval +1.1 to +5.1 over 100 images). {WORSE} There was no time to train a head for it "
            f"(--check-seconds gives more).",
        ),
        (
            on_val(above(-5.2), path=RegularisationPath((an_optimum(3.0, OPTIMUM), an_optimum(0.3, OPTIMUM)))),
            f"Nothing to do, as far as there was time to look (--check-seconds gives more): on val, neither longer "
            f"training nor a weight decay of 3 to 0.3 is clearly better. {WORSE}",
        ),
        (
            on_val(above(0.0), gap_share=0.0059),
            f"Nothing to do: on val, neither longer training nor another weight decay is clearly better. The head's "
            f"training objective could fall by only 0.5 %; it has {HEAD_ON_VAL} on val, the optimum {OPTIMUM_ON_VAL}.",
        ),
        (
            on_val(above(-5.2, unit="subject", groups=3), converged=False, iterations=7, seconds=4.2),
            f"Nothing to do: on val, neither longer training nor another weight decay is clearly better. The head has "
            f"{HEAD_ON_VAL} on val; trained as far as the check came in 4 s, with its training objective at least 41 % "
            f"lower, it would have {OPTIMUM_ON_VAL} (-5.2 points, 95 % interval -7.2 to -3.2 over 3 subjects).",
        ),
    ],
)
def test_with_val(check, sentences):
    """With val the first sentence says what to do, the others why, at most three in all, word for word."""
    assert check.sentence() == sentences
    assert len(re.findall(r"[.](?: [A-Z]|$)", check.sentence())) <= 3


def test_accuracy_where_that_chooses():
    """Where accuracy chooses the head, accuracy is what the sentence compares."""
    check = on_val(replace(above(-5.2), metric="accuracy"), select="accuracy")
    assert "The head has accuracy 40.0 % and loss 0.768 on val; " in check.sentence()
    assert "it would have accuracy 60.0 % and loss 3.375 (" in check.sentence()


def test_the_loss_is_spoken_of_where_it_moves_and_recall_does_not():
    """Val shows no difference in macro recall, and another loss: the sentence says both, of weight decays too."""
    optima = (an_optimum(0.1, Scores(0.65, 0.654, 0.646)), an_optimum(0.01, Scores(0.66, 0.66, 0.9)))
    own = Scores(0.67, 0.671, 1.3)
    check = on_val(
        above(-1.0), val=own, head_val=Scores(0.68, 0.682, 0.65), regularised=an_optimum(1e-6, own),
        path=RegularisationPath(optima, is_complete=True),
    )  # fmt: skip
    assert check.sentence() == (
        "Nothing to do: on val, neither longer training nor another weight decay is clearly better. The head has macro "
        "recall 68.2 % and loss 0.650 on val; trained to the optimum, where its training objective is 41 % lower, it "
        "would have macro recall 67.1 % and loss 1.300 (-1.0 points, 95 % interval -3.0 to +1.0 over 100 images). The "
        "lowest loss on val has weight decay 0.1: macro recall 65.4 % and loss 0.646."
    )
    worse = replace(check, difference=above(-5.0), head_val=Scores(0.72, 0.722, 1.5))
    assert worse.sentence().startswith(
        "Nothing to do for macro recall: longer training makes it worse on val, and lowers the loss there. "
    )


def test_losses_that_are_about_the_same_are_not_spoken_of():
    """Within five in a hundred neither is said to be lower."""
    near = Scores(0.7, 0.71, 0.79)
    check = on_val(above(-1.0), val=near, regularised=an_optimum(1e-6, near), path=RegularisationPath())
    assert check.sentence().startswith("Nothing to do, as far as there was time to look (")
