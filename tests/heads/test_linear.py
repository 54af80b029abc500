"""A trained linear head: its logits, its scores, and which of several is best."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from featcache.heads.config import HeadConfig
from featcache.heads.linear import EpochRow, LinearHead, Scores, best_of
from featcache.heads.scoring import score_split
from featcache.heads.training.train import train_heads
from tests.builders import uneven_clusters
from tests.heads.training.problems import (
    CONFIGS,
    plain_macro_recall,
)

pytestmark = pytest.mark.usefixtures("either")


def test_logits_of_another_trunk():
    """Embeddings of another width are refused with both shapes."""
    with pytest.raises(ValueError, match=r"\(2, 5\).*\(rows, 4\)"):
        head_with().logits(np.zeros((2, 5), dtype=np.float32))


def test_scores_match_scikit_learn(monkeypatch):
    """Scores are accuracy, balanced accuracy and mean cross-entropy, in one block or in many."""
    val = uneven_clusters(present=[0, 1, 3])
    (head,) = train_heads(uneven_clusters(), None, [CONFIGS[1]])
    logits = torch.from_numpy(head.logits(val.x))
    for block in (16_384, 7):
        monkeypatch.setattr("featcache.heads.linear.BLOCK_ROWS", block)
        found = score_split(head.logits, val)
        assert found.macro_recall == pytest.approx(plain_macro_recall(val.y, logits.argmax(1).numpy()))
        assert found.accuracy == pytest.approx((logits.argmax(1).numpy() == val.y).mean())
        expected = torch.nn.functional.cross_entropy(logits.double(), torch.from_numpy(val.y)).item()
        assert found.loss == pytest.approx(expected, rel=1e-9)


def head_with(val=None, train=None) -> LinearHead:
    train = train or Scores(0.5, 0.5, 1.0)
    zero = np.zeros((3, 4), dtype=np.float32)
    return LinearHead(HeadConfig(), zero, zero[:, 0], 1, (EpochRow(1, train, val),), train, val)


def test_best_is_highest_macro_recall():
    """Macro recall on val decides, then the lower loss, then the first; accuracy does not."""
    a, b, c = Scores(0.9, 0.3, 0.1), Scores(0.2, 0.4, 2.0), Scores(0.1, 0.4, 1.0)
    assert best_of([head_with(a), head_with(b)]) == 1
    assert best_of([head_with(b), head_with(c), head_with(a)]) == 1
    assert best_of([head_with(c), head_with(c)]) == 0


def test_nan_never_wins():
    """A diverged head never wins, whatever its recall; where all diverged, none is best."""
    wild, calm = Scores(0.9, 0.9, math.nan), Scores(0.1, 0.1, 3.0)
    assert best_of([head_with(wild), head_with(calm)]) == 1
    assert best_of([head_with(wild), head_with(wild)]) is None


def test_a_loss_without_bounds_is_diverged():
    """Clipped steps of an absurd size leave finite weights; the head is called diverged all the same."""
    (head,) = train_heads(uneven_clusters(), None, [replace(CONFIGS[0], lr=1e30)])
    assert np.isfinite(head.weight).all()
    assert head.diverged
    assert not train_heads(uneven_clusters(), None, CONFIGS[:1])[0].diverged


def test_nothing_chooses_without_val():
    """One head needs no val split; several without one cannot be chosen among."""
    assert best_of([head_with()]) == 0
    with pytest.raises(ValueError, match="without a val split"):
        best_of([head_with(), head_with()])
    with pytest.raises(ValueError, match="no heads"):
        best_of([])
