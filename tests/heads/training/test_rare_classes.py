"""Rare classes, where the best rules are known: Gaussian classes of one shape, whose posteriors are linear."""

from dataclasses import replace

import numpy as np
import pytest

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import best_of
from featcache.heads.training.train import train_heads
from featcache.metrics.confusion import confusion_matrix, macro_recall
from tests.builders import features

PRIOR = np.array([0.9, 0.08, 0.02])
CENTRES = 1.2 * np.eye(3, 6)


def draw(rows: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    y = rng.choice(3, rows, p=PRIOR)
    return features(CENTRES[y] + rng.standard_normal((rows, 6)), y, "abc")


TRAIN, VAL = draw(12_000, 0), draw(12_000, 1)


def bayes(x: np.ndarray, *, tau: float) -> np.ndarray:
    """Argmax log p(x | class) + (1 - tau) log prior: tau 0 is best for accuracy, 1 for macro recall."""
    log_p = -0.5 * np.square(x[:, None, :] - CENTRES).sum(axis=2)
    return (log_p + (1 - tau) * np.log(PRIOR)).argmax(axis=1)


def recall_of(predicted: np.ndarray) -> float:
    return macro_recall(confusion_matrix(VAL.y, predicted, 3))


BASE = HeadConfig(optimizer="adam", lr=0.02, epochs=15, batch_size=256)
HEADS = {
    "plain": BASE,
    "adjusted": replace(BASE, logit_adjustment=1.0),
    "weighted": replace(BASE, class_weights="balanced"),
    "drawn": replace(BASE, sampler="balanced"),
    "half": replace(BASE, logit_adjustment=0.5),
}


@pytest.fixture(scope="module")
def trained(one_thread):
    return dict(zip(HEADS, train_heads(TRAIN, VAL, list(HEADS.values())), strict=True))


def test_a_plain_head_is_the_rule_of_accuracy(trained):
    """Without help a head becomes the Bayes rule of accuracy, whose macro recall is poor."""
    predicted = trained["plain"].logits(VAL.x).argmax(axis=1)
    assert (predicted == bayes(VAL.x, tau=0)).mean() > 0.985
    assert trained["plain"].val.macro_recall == pytest.approx(recall_of(bayes(VAL.x, tau=0)), abs=0.03)


@pytest.mark.parametrize("means", ["adjusted", "weighted", "drawn"])
def test_each_means_gives_the_rule_of_macro_recall(trained, means):
    """Adjustment by tau = 1, class weights and balanced draws all become the Bayes rule of macro recall."""
    predicted = trained[means].logits(VAL.x).argmax(axis=1)
    assert (predicted == bayes(VAL.x, tau=1)).mean() > 0.93
    assert trained[means].val.macro_recall == pytest.approx(recall_of(bayes(VAL.x, tau=1)), abs=0.02)
    assert trained[means].val.macro_recall > trained["plain"].val.macro_recall + 0.15
    assert trained[means].val.accuracy < trained["plain"].val.accuracy


def test_half_an_adjustment_is_the_rule_between(trained):
    """Tau = 1/2 gives the Bayes rule for classes of the square root of their share."""
    predicted = trained["half"].logits(VAL.x).argmax(axis=1)
    assert (predicted == bayes(VAL.x, tau=0.5)).mean() > 0.97
    recalls = [trained[name].val.macro_recall for name in ("plain", "half", "adjusted")]
    assert recalls == sorted(recalls)


def test_the_metric_that_selects_picks_its_own_head(trained):
    """Macro recall picks a head that was helped, accuracy the plain one."""
    heads = [trained["plain"], trained["adjusted"]]
    assert best_of(heads) == 1
    assert best_of(heads, "accuracy") == 0
    assert best_of(heads, "loss") == 0
