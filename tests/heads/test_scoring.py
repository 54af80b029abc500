"""Scores over a split: the same numbers, however many rows are looked at together."""

import numpy as np
import pytest

from featcache.heads import scoring
from featcache.heads.scoring import score_blocks


@pytest.mark.parametrize("classes", [3, 700])
def test_scores_depend_on_no_window(monkeypatch, classes):
    """A split in windows of one block or of several, and in pieces, has the same scores to the last bit."""
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 1_024)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5_000, 8), dtype=np.float32), rng.integers(0, classes, 5_000)
    w = rng.standard_normal((8, classes), dtype=np.float32)

    def score(blocks, most):
        monkeypatch.setattr(scoring, "MOST_BLOCKS", most)
        return score_blocks(lambda rows: np.einsum("rk,kc->rc", rows, w), blocks, classes)

    whole = score([(x, y)], 8)
    assert whole == score([(x, y)], 1)
    assert whole == score([(x[:2_048], y[:2_048]), (x[2_048:], y[2_048:])], 3)


def test_many_classes_are_scored_a_block_at_a_time(monkeypatch):
    """No more than MOST_LOGITS logits are asked for at a time, nor fewer rows than a block has."""
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 16)
    asked = []

    def logits(rows):
        asked.append(len(rows))
        return np.zeros((len(rows), 4), np.float32)

    for most in (16 * 4 * 3, 1):
        monkeypatch.setattr(scoring, "MOST_LOGITS", most)
        score_blocks(logits, [(np.zeros((100, 2), np.float32), np.zeros(100, np.int64))], 4)
    assert asked == [48, 48, 4, 16, 16, 16, 16, 16, 16, 4]
