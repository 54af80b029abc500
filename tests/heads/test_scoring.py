"""Scores over a split: the same numbers, however many rows are looked at together."""

from dataclasses import replace

import numpy as np
import pytest

from featcache.heads import HeadConfig, LinearHead, Scores
from featcache.heads.linear import BLOCK_ROWS
from featcache.heads.scoring import rows_together, score_blocks


def linear_head(classes, dim=8, **settings):
    """A head whose weights are noise."""
    rng = np.random.default_rng(0)
    weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((classes, dim), (classes,)))
    return LinearHead(HeadConfig(lr=0.1, **settings), weight, bias, 1, (), Scores(0, 0, 0), None)


@pytest.mark.parametrize("classes", [3, 70])
def test_a_linear_heads_scores_depend_on_no_number_of_rows(classes):
    """Asked for one block of rows or for several, in pieces or whole, it has the same scores to the last bit."""
    rng, rows = np.random.default_rng(0), 3 * BLOCK_ROWS + 1_000
    head = linear_head(classes)
    x, y = rng.standard_normal((rows, 8), dtype=np.float32), rng.integers(0, classes, rows)
    assert rows_together(head) > BLOCK_ROWS
    whole = score_blocks(head.logits, [(x, y)], classes, together=rows_together(head))
    cut = 2 * BLOCK_ROWS
    assert whole == score_blocks(head.logits, [(x, y)], classes)
    assert whole == score_blocks(head.logits, [(x[:cut], y[:cut]), (x[cut:], y[cut:])], classes, together=cut)


def test_any_other_function_is_asked_for_a_block_at_a_time():
    """It may round otherwise for more rows: it gets BLOCK_ROWS of them, and the rest."""
    asked = []

    def logits(rows):
        asked.append(len(rows))
        return np.zeros((len(rows), 4), np.float32)

    score_blocks(logits, [(np.zeros((BLOCK_ROWS + 3, 2), np.float32), np.zeros(BLOCK_ROWS + 3, np.int64))], 4)
    assert asked == [BLOCK_ROWS, 3]


def test_memory_bounds_the_rows_that_are_scored_together():
    """Many classes, or rows that are copied to be scaled, are scored a block at a time."""
    assert rows_together(linear_head(2_000)) == BLOCK_ROWS
    assert rows_together(linear_head(3, normalize="l2")) == BLOCK_ROWS
    head = linear_head(300)
    assert rows_together(replace(head, bias=np.zeros(300, np.float32))) == BLOCK_ROWS


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_is_no_class_is_refused(label):
    """As a ValueError that says so, on either side of the classes."""
    with pytest.raises(ValueError, match="outside"):
        score_blocks(
            lambda x: np.zeros((len(x), 3), np.float32), [(np.zeros((1, 2), np.float32), np.array([label]))], 3
        )
