"""One answer a clip: equal to a plain reference, whatever the rule."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import DataError
from featcache.evaluation.predictions import (
    CLIP_RULES,
    SplitPredictions,
    group_by_clip,
    label_predictions,
)
from featcache.heads.classifiers import ModelOutput
from featcache.heads.classifiers.classifier import ModelOutput as Said
from featcache.metrics import softmax

NAMES = ("ant", "bee", "cat")


def said(logits) -> ModelOutput:
    shares = softmax(np.asarray(logits, np.float32))
    return ModelOutput(shares.argmax(axis=1), shares)


def images(logits, clips, truth_of, subjects=None) -> SplitPredictions:
    truth = np.array([truth_of[clip] for clip in clips], dtype=np.int64)
    return label_predictions(
        said(logits), truth, NAMES, paths=tuple(f"{row}.png" for row in range(len(clips))),
        clips=tuple(clips), subjects=tuple(subjects or [""] * len(clips)),
    )  # fmt: skip


def reference(found: SplitPredictions, rule: str) -> dict[str, tuple[int, np.ndarray]]:
    """Clip by clip, in plain Python."""
    result = {}
    for clip in dict.fromkeys(name for name in found.clips if name):
        rows = [row for row, name in enumerate(found.clips) if name == clip]
        mean = np.mean([found.probabilities[row] for row in rows], axis=0)
        if rule == "mean-probability":
            result[clip] = int(np.argmax(mean)), mean
        elif rule == "mean-logit":
            z = np.exp(np.mean([np.log(found.probabilities[row].astype(float)) for row in rows], axis=0))
            result[clip] = int(np.argmax(z)), z / z.sum()
        else:
            votes = Counter(int(found.predicted[row]) for row in rows)
            most = max(votes.values())
            tied = [label for label in range(3) if votes[label] == most]
            result[clip] = max(tied, key=lambda label: mean[label]), np.array([votes[k] / len(rows) for k in range(3)])
    return result


rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", ""]), st.tuples(*[st.floats(-5, 5, width=16)] * 3)),
    min_size=1, max_size=40,
)  # fmt: skip


@pytest.mark.parametrize("rule", CLIP_RULES)
@given(rows)
@settings(deadline=None)
def test_a_clips_answer_is_that_of_a_plain_reference(rule, columns):
    """Interleaved clips of any size, images without a clip left out, in the order of their first image."""
    clips, logits = [clip for clip, _ in columns], [z for _, z in columns]
    found = images(logits, clips, {"a": 0, "b": 1, "c": 2, "d": 0, "": 1})
    if not any(clips):
        with pytest.raises(DataError, match="belongs to a clip"):
            group_by_clip(found, rule)
        return
    answers, expected = group_by_clip(found, rule), reference(found, rule)
    assert answers.names == tuple(expected)
    assert answers.left_out == clips.count("")
    assert answers.truth.tolist() == [{"a": 0, "b": 1, "c": 2, "d": 0}[clip] for clip in expected]
    for row, (label, shares) in enumerate(expected.values()):
        np.testing.assert_allclose(answers.probabilities[row], shares, atol=1e-7)
        if answers.predicted[row] != label:  # only where two are equal to the last bits
            assert shares[label] == pytest.approx(shares[answers.predicted[row]], abs=1e-6)
    assert (answers.by, answers.rule) == ("clip", rule)


def test_the_mean_of_logits_is_meant():
    """Computed from probabilities, mean-logit is the softmax of the mean of the logits themselves."""
    logits = np.random.default_rng(0).normal(0, 4, (30, 3))
    answers = group_by_clip(images(logits, ["a"] * 10 + ["b"] * 20, {"a": 0, "b": 1}), "mean-logit")
    np.testing.assert_allclose(answers.probabilities, softmax(np.stack([logits[:10].mean(0), logits[10:].mean(0)])),
                               atol=1e-6)  # fmt: skip


def test_a_classifier_without_probabilities_votes():
    """Each answer is a vote, and nothing is said of how sure it is."""
    votes = Said(np.array([1, 1, 2]), None)
    found = label_predictions(
        votes, np.array([1, 1, 1]), NAMES, paths=("1", "2", "3"), clips=("x",) * 3, subjects=("",) * 3
    )
    assert not found.has_probabilities
    assert group_by_clip(found).predicted.tolist() == [1]
    assert group_by_clip(found).probabilities.tolist() == [[0, 2 / 3, 1 / 3]]


def test_the_rules_differ():
    """One sure image against two unsure ones: the mean of probabilities follows it, the majority does not."""
    logits = [[6, 0, -6], [0, 0.3, 0], [0, 0.3, 0]]
    found = images(logits, ["a"] * 3, {"a": 0})
    assert [int(group_by_clip(found, rule).predicted[0]) for rule in CLIP_RULES] == [0, 0, 1]
    assert group_by_clip(found, "majority").confidence.tolist() == [2 / 3]


def test_a_clip_shows_its_middle_image():
    """The picture of a clip is the one in the middle of it."""
    found = images(np.zeros((5, 3)), list("aabaa"), {"a": 0, "b": 1})
    assert group_by_clip(found).paths == ("3.png", "2.png")


def test_a_clip_of_two_classes_or_two_people_is_refused():
    """One answer for both would be wrong for one of them; the message names the clip and what is in it."""
    mixed = label_predictions(
        said(np.zeros((2, 3))), np.array([0, 2]), NAMES, paths=("1", "2"), clips=("x", "x"), subjects=("", "")
    )
    with pytest.raises(DataError, match="clip 'x' has images of 'ant' and 'cat'"):
        group_by_clip(mixed)
    with pytest.raises(DataError, match="clip 'a' shows 'vp1' and 'vp2'"):
        group_by_clip(images(np.zeros((2, 3)), ["a", "a"], {"a": 0}, ["vp1", "vp2"]))
    with pytest.raises(ValueError, match="median"):
        group_by_clip(mixed, "median")
