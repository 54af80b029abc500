"""Draws of a few labels: k of each class, spread over groups, nested, and the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache import DataError, UsageError
from featcache.heads.shots import parse_shots, rank_labels, refuse_scarce, refuse_tries
from tests.builders import features

CLASSES = 3


def split(seed, rows, by, groups=6):
    """Rows of three classes, each class at least once, in groups of the unit."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, rows - CLASSES)])
    names = tuple(f"g{number}" for number in rng.integers(0, groups, rows))
    none = ("",) * rows
    return features(
        np.zeros((rows, 2), np.float32), y, CLASSES, paths=tuple(map(str, range(rows))),
        clips=names if by == "clip" else none, subjects=names if by == "subject" else none,
    )  # fmt: skip


@given(st.integers(0, 999), st.integers(6, 60), st.sampled_from(["subject", "clip", "image"]), st.integers(1, 9))
def test_a_draw_has_k_labels_of_each_class_from_as_many_groups_as_there_are(seed, rows, by, k):
    """Of a class, k rows or all that it has; from k groups of it, or all that it has; those of k - 1 are among them."""
    of = split(seed, rows, by)
    names = np.array({"subject": of.subjects, "clip": of.clips, "image": of.paths}[by])
    rank = rank_labels(of, by, seed, 0)
    for label in range(CLASSES):
        own = of.y == label
        assert sorted(rank[own]) == list(range(own.sum()))
        drawn = own & (rank < k)
        assert drawn.sum() == min(k, own.sum())
        assert len(set(names[drawn])) == min(k, len(set(names[own])))


def test_the_seed_and_the_number_decide_a_draw_and_nothing_else_does():
    """The same rows, seed and number: the same draw, whatever the embeddings; another seed or number, another draw."""
    of = split(0, 60, "subject")
    first = rank_labels(of, "subject", 0, 0)
    other = features(np.ones((60, 5), np.float32), of.y, CLASSES, paths=of.paths, subjects=of.subjects, clips=of.clips)
    np.testing.assert_array_equal(first, rank_labels(other, "subject", 0, 0))
    assert (first != rank_labels(of, "subject", 1, 0)).any()
    assert (first != rank_labels(of, "subject", 0, 1)).any()


def test_numbers_are_read_rising_once_and_all_last():
    """As typed or as a list; what is no number, and 0, is refused in one sentence."""
    assert parse_shots("16,1,all,4,4") == parse_shots([1, 4, "16", "all"]) == (1, 4, 16, None)
    for wrong in ("0", "1,x", "-1", "", [0], ["1.5"], []):
        with pytest.raises(UsageError, match="--shots: found"):
            parse_shots(wrong)
    for wrong in (0, 41):
        with pytest.raises(UsageError, match=f"--tries: found {wrong}, expected 1 to 40"):
            refuse_tries(wrong)


def test_more_shots_than_a_class_has_are_refused_with_what_there_are():
    """The smallest class is named, and the command to type has the numbers that it can give."""
    of = features(np.zeros((7, 2), np.float32), [0, 0, 0, 0, 1, 1, 1], 3)
    refuse_scarce(of, (1, 3, None))
    with pytest.raises(DataError, match="class 'c1' has only 3 labels in train; name at most 3") as refused:
        refuse_scarce(of, (1, 2, 4, None))
    assert refused.value.corrections[0].right == "1,2,all"
