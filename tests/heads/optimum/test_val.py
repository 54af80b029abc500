"""The check on val: an optimum that is worse there is no aim, and what is better there was tried."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from featcache.heads.linear import merit
from featcache.heads.optimum.advice import check_and_advise
from featcache.heads.optimum.difference import measure_difference
from featcache.heads.optimum.sentence import name_settings
from featcache.heads.training.train import train_heads
from featcache.text import percent
from tests.heads.optimum.problems import BASE, CLEAN_VAL, NOISY, TRAIN, clusters, noisy

GENTLE = replace(BASE, batch_size=30, lr=0.01, epochs=5)
LONG = replace(BASE, batch_size=30, lr=0.3, epochs=60, clip_norm=None)


@pytest.fixture(autouse=True)
def one_thread():
    """A second thread only waits where other work shares the machine, and the clock runs on."""
    with threadpool_limits(1):
        yield


def checked(config, *beside, train=NOISY, val=CLEAN_VAL, seconds=20.0, training_seconds=0.1):
    """The head of this config and its check, in a fit with the configs beside it."""
    trained = train_heads(train, val, [config, *beside])
    return trained[0], check_and_advise(trained[0], trained, train, val, seconds, training_seconds, "cpu")


def test_an_optimum_that_is_worse_on_val_is_no_aim():
    """Where the objective's own optimum is worse on val, the first sentence says so, and nothing leads there."""
    _, check = checked(GENTLE)
    assert check.difference.is_worse
    assert check.gap_share > 0.5
    assert check.val.loss < check.head_val.loss
    assert check.sentence().startswith("Nothing to do for macro recall: longer training makes it worse on val, ")
    assert not any(trial.settings.keys() <= {"lr", "epochs"} for trial in check.tried)


def test_a_weight_decay_that_is_advised_was_trained():
    """What the sentence says of a weight decay is what a head that is trained with it has on val."""
    head, check = checked(LONG)
    best = check.best_trial
    assert "weight_decay" in best.settings
    assert "Try --weight-decay " in check.sentence()
    (better,) = train_heads(NOISY, CLEAN_VAL, [replace(LONG, **best.settings)])
    assert better.val.macro_recall == best.val.macro_recall
    assert better.val.loss == pytest.approx(best.val.loss, rel=1e-5)  # it was trained beside others
    assert better.val.macro_recall > head.val.macro_recall
    assert best.difference.interval.low > 0


def test_a_larger_rate_is_advised_where_val_gains_by_it():
    """A head that was stopped too early is told what was trained and is better on val."""
    head, check = checked(replace(GENTLE, lr=1e-5), train=TRAIN, val=clusters(seed=1))
    assert check.difference.is_better
    assert check.sentence().startswith(f"Try {name_settings(check.best_trial)}: a head trained with it has ")
    assert f"it would have macro recall {percent(check.val.macro_recall)} " in check.sentence()
    (better,) = train_heads(TRAIN, None, [replace(head.config, **check.best_trial.settings)])
    assert check.best_trial.val.macro_recall > head.val.macro_recall
    assert np.array_equal(better.weight, train_heads(TRAIN, None, [better.config])[0].weight)


def test_the_regularised_optimum_is_the_best_of_the_path_on_val():
    """From strong to weak, and no optimum of the path is better on val than the one that is held against the head."""
    _, check = checked(LONG)
    decays = [optimum.weight_decay for optimum in check.path.optima]
    assert decays == sorted(decays, reverse=True)
    rounded = [merit(optimum.val, "macro_recall")[0] for optimum in check.path.optima]
    assert check.regularised.val.macro_recall >= max(rounded) - 0.01  # it is solved more closely than the path


def test_the_path_ends_where_val_is_clearly_worse():
    """Weak weight decays are left out once val shows that they are worse than a stronger one."""
    _, check = checked(GENTLE)
    recalls = [optimum.val.macro_recall for optimum in check.path.optima]
    assert check.path.optima[-1].weight_decay > 0.01
    assert recalls[-1] == min(recalls[recalls.index(max(recalls)) :])


def test_the_regularised_optimum_is_scikit_learns():
    """`fit logreg C=...` with the C that is named finds the same optimum: the objective to 1e-5 relative."""
    _, check = checked(LONG)
    decay, train = check.regularised.weight_decay, NOISY
    assert check.logreg_c == pytest.approx(1 / (decay * len(train.y)))
    theirs = LogisticRegression(C=check.logreg_c, tol=1e-9, max_iter=5_000).fit(train.x.astype(np.float64), train.y)
    z = torch.from_numpy(theirs.decision_function(train.x.astype(np.float64)))
    value = torch.nn.functional.cross_entropy(z, torch.from_numpy(train.y)).item()
    assert check.regularised.point.value == pytest.approx(value + decay / 2 * (theirs.coef_**2).sum(), rel=1e-5)


def test_no_logistic_regression_is_named_where_rows_are_scaled():
    """`fit logreg` takes the rows as they are: it does not have the optimum of a head that normalizes."""
    assert checked(LONG)[1].logreg_c is not None
    assert checked(replace(LONG, normalize="l2"))[1].logreg_c is None


def test_what_was_tried_can_be_typed():
    """A learning rate that is typed brings back batches of 1,024: where a head has others, both are named."""
    tried = checked(replace(LONG, batch_size=64))[1].tried
    assert tried
    for trial in tried:
        assert trial.settings["batch_size"] == 64
        assert "lr" in trial.settings


def test_advice_that_is_taken_is_not_given():
    """A weight decay that stands in the sweep already is not tried again."""
    _, first = checked(LONG)
    decay = first.best_trial.settings["weight_decay"]
    _, check = checked(LONG, *(replace(LONG, weight_decay=decay, lr=lr) for lr in (0.3, 0.9, 3.0)))
    assert check.tried == ()
    assert "no time" not in check.sentence()
    assert "Try " not in check.sentence()


def test_a_tiny_val_split_decides_nothing():
    """Of a few images no optimum is called better or worse, and nothing is tried."""
    few = noisy(rows=8, seed=2, share=0.0)
    _, check = checked(GENTLE, val=few)
    assert not check.difference.is_better
    assert not check.difference.is_worse
    assert check.tried == ()
    assert check.sentence().startswith("Nothing to do for macro recall, but longer training would lower the loss")


def test_the_interval_is_that_of_a_paired_difference():
    """Classifiers that answer alike differ by 0, with an interval around it; subjects are drawn whole."""
    head, _ = checked(GENTLE)
    answers = head.logits(CLEAN_VAL.x).argmax(axis=1)
    same = measure_difference(CLEAN_VAL, (head.val, answers), (head.val, answers), "macro_recall")
    assert same.value == 0
    assert same.interval.low < 0 < same.interval.high
    by_subject = replace(CLEAN_VAL, subjects=tuple(f"p{row % 5}" for row in range(len(CLEAN_VAL.y))))
    drawn = measure_difference(by_subject, (head.val, answers), (head.val, answers), "macro_recall")
    assert (drawn.unit, drawn.groups) == ("subject", 5)


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_the_budget_is_wall_time(seconds):
    """Optima, differences and trials together take no longer than they may, and the seconds are the clock's."""
    train, val = noisy(rows=6_000, dim=400, classes=6), noisy(rows=2_000, dim=400, classes=6, seed=1, share=0.0)
    trained = train_heads(train, val, [replace(BASE, lr=0.3, epochs=2)])
    began = time.perf_counter()
    check = check_and_advise(trained[0], trained, train, val, seconds, 1e-6, "cpu")
    took = time.perf_counter() - began
    assert took < 1.2 * seconds + 0.5  # the slack is for a machine that others use too
    assert check.seconds == pytest.approx(took, abs=0.05)


def test_a_trial_that_takes_too_long_is_cut():
    """A training that outlasts the budget is stopped, and no figure of it is shown."""
    long = replace(LONG, epochs=10_000, batch_size=3)
    (head,) = train_heads(NOISY, CLEAN_VAL, [LONG])
    head = replace(head, config=long)
    began = time.perf_counter()
    check = check_and_advise(head, [head], NOISY, CLEAN_VAL, 2.0, 1e-6, "cpu")
    assert time.perf_counter() - began < 1.2 * 2.0 + 0.5
    assert check.tried == ()
    assert "There was no time to train a head for it" in check.sentence()


def test_without_time_nothing_is_claimed():
    """Where no step could be taken, no difference is stated, and no setting is named."""
    (head,) = train_heads(TRAIN, clusters(seed=1), [replace(BASE, lr=0.1)])
    check = check_and_advise(head, [head], TRAIN, clusters(seed=1), 1e-6, 1e9, "cpu")
    assert (check.iterations, check.difference, check.regularised, check.tried) == (0, None, None, ())
    assert check.gap >= 0
    assert check.sentence() == (
        "Nothing is known of the optimum: the check had no time for a single iteration (--check-seconds gives more)."
    )


def test_threads_are_as_before():
    """A short check computes with one thread, and leaves the number of threads as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        checked(GENTLE)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
