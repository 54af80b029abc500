"""Intervals: that they cover, what is drawn again, and what is said where nothing can be."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.metrics.bootstrap import bootstrap_differences, bootstrap_intervals
from featcache.metrics.confusion import accuracy, confusion_matrix, macro_recall, per_class_recall
from featcache.metrics.groups import GroupCounts, choose_unit, count_groups
from tests.builders import dense_groups

CLASSES = 8
CENTRES = np.linspace(-2, 2, CLASSES)  # of each class's recall, on the logit scale
ROWS = np.geomspace(300, 10, CLASSES)  # of each class, a subject
BETWEEN = (0.8, 0.5)  # the spread of subjects, and of a class within a subject


def population() -> tuple[float, float, np.ndarray]:
    """The accuracy, macro recall and recalls that an endless number of subjects would show."""
    effect = np.random.default_rng(9).normal(0, np.hypot(*BETWEEN), (200_000, 1))
    recall = (1 / (1 + np.exp(-(CENTRES + effect)))).mean(axis=0)
    return float(recall @ ROWS / ROWS.sum()), float(recall.mean()), recall


def people(random: np.random.Generator, subjects: int, missing: float) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and rows of each class of each subject; some subjects lack some classes."""
    effect = random.normal(0, BETWEEN[0], (subjects, 1)) + random.normal(0, BETWEEN[1], (subjects, CLASSES))
    rows = random.poisson(ROWS, (subjects, CLASSES)) * (random.random((subjects, CLASSES)) >= missing)
    return random.binomial(rows, 1 / (1 + np.exp(-(CENTRES + effect)))), rows


def as_images(hits: np.ndarray, rows: np.ndarray) -> GroupCounts:
    one = np.eye(CLASSES)
    count = np.concatenate([hits.sum(axis=0), (rows - hits).sum(axis=0)])
    return dense_groups("image", np.concatenate([one, 0 * one])[:, None], np.concatenate([one, one])[:, None], count)


@pytest.mark.parametrize(("subjects", "missing"), [(3, 0.0), (5, 0.2), (10, 0.3), (15, 0.0)])
def test_intervals_over_subjects_cover_and_over_images_do_not(subjects, missing):
    """Of 95 % intervals 92 to 97 in 100 hold the truth, with 3 subjects too; drawing images again, under 60 do."""
    truth = population()
    covered: dict[str, list[list[bool]]] = {"subject": [[], [], []], "image": [[], [], []]}
    random = np.random.default_rng(1)
    for _ in range(300):
        hits, rows = people(random, subjects, missing)
        by_subject = dense_groups("subject", hits[:, None] * 1.0, rows[:, None] * 1.0, np.ones(subjects, np.int64))
        for groups in (by_subject, as_images(hits, rows)):
            found = bootstrap_intervals(groups, resamples=1000)
            kept = covered[groups.unit]
            kept[0].append(found.accuracy.low <= truth[0] <= found.accuracy.high)
            kept[1].append(found.macro_recall.low <= truth[1] <= found.macro_recall.high)
            kept[2] += [
                one.low <= recall <= one.high
                for one, recall in zip(found.recall, truth[2], strict=True) if one is not None
            ]  # fmt: skip
    assert all(92 <= 100 * np.mean(kept) <= 97 for kept in covered["subject"]), covered_of(covered["subject"])
    assert all(100 * np.mean(kept) < 60 for kept in covered["image"]), covered_of(covered["image"])


def covered_of(kept):
    return [round(100 * float(np.mean(one)), 1) for one in kept]


@pytest.mark.parametrize("subjects", [4, 12])
def test_the_interval_of_a_difference_covers(subjects):
    """Two heads on the same people: 92 to 97 of 100 intervals hold the true difference, and none is wider for it."""
    random = np.random.default_rng(2)
    shift = 0.3
    effect = random.normal(0, 0.8, 200_000)
    truth = float((1 / (1 + np.exp(-(effect + shift))) - 1 / (1 + np.exp(-effect))).mean())
    covered = []
    for _ in range(300):
        person = random.normal(0, 0.8, (subjects, 1, 1))
        rows = np.full((subjects, 2, 1), 200.0)
        chance = 1 / (1 + np.exp(-(person + np.array([shift, 0.0])[None, :, None])))
        hits = random.binomial(200, chance).astype(float)
        found = bootstrap_differences(
            dense_groups("subject", hits, rows, np.ones(subjects, np.int64)), resamples=1000
        ).accuracy
        covered.append(found.low <= truth <= found.high)
    assert 92 <= 100 * np.mean(covered) <= 97.5


def test_ten_thousand_resamples_take_under_a_second():
    """34 classes, 80,000 rows, 15 subjects, 10,000 resamples: the grouping included."""
    random = np.random.default_rng(0)
    truth, right = random.integers(0, 34, 80_000), random.random((80_000, 1)) < 0.5
    names = [f"vp{number}" for number in random.integers(0, 15, 80_000)]
    begun = time.perf_counter()
    found = bootstrap_intervals(count_groups("subject", names, truth, right, 34))
    assert time.perf_counter() - begun < 1
    assert (found.resamples, found.groups) == (10_000, 15)


rows = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.sampled_from("abcd"), min_size=n, max_size=n),
    )
)


@given(rows, st.booleans())
@settings(deadline=None)
def test_groups_hold_what_the_confusion_matrix_holds(columns, each_alone):
    """However rows are grouped, the groups' sums are the matrix's diagonal and support; intervals hold the figures."""
    truth, predicted = np.array(columns[0]), np.array(columns[1])
    names = () if each_alone else columns[2]
    right = (truth == predicted)[:, None]
    groups = count_groups("image" if each_alone else "clip", names, truth, right, 5)
    confusion = confusion_matrix(truth, predicted, 5)
    assert (groups.count @ groups.hits).tolist() == confusion.diagonal().tolist()
    assert (groups.count @ groups.support).tolist() == confusion.sum(axis=1).tolist()
    assert groups.number == (len(truth) if each_alone else len(set(names)))
    found = bootstrap_intervals(groups, resamples=200)
    figures = [accuracy(confusion), macro_recall(confusion), *per_class_recall(confusion)]
    for figure, interval in zip(figures, [found.accuracy, found.macro_recall, *found.recall], strict=True):
        assert interval is None or interval.low - 1e-12 <= figure <= interval.high + 1e-12
        assert interval is None or (interval.low >= 0 and interval.high <= 1)
    absent = confusion.sum(axis=1) == 0
    assert all(found.recall[label] is None for label in np.flatnonzero(absent))


def test_images_are_binomial_trials():
    """Where each row is its own group, the spread is that of a share: sqrt(p (1 - p) / n)."""
    truth, right = np.zeros(400, int), (np.arange(400) < 100)[:, None]
    found = bootstrap_intervals(count_groups("image", (), truth, right, 1)).accuracy
    reach = 1.966 / np.sqrt(400 * 0.25 * 0.75)  # on the logit scale
    expected = 1 / (1 + np.exp(-(np.log(1 / 3) + np.array([-reach, reach]))))
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.003)


def test_all_right_is_no_certainty():
    """A class that every subject has all right has the exact binomial interval of so many trials, not [1, 1]."""
    truth, right = np.zeros(60, int), np.ones((60, 1), bool)
    found = bootstrap_intervals(count_groups("subject", ["a", "b", "c"] * 20, truth, right, 1)).recall[0]
    np.testing.assert_allclose([found.low, found.high], [0.025 ** (1 / 3), 1])
    missed = bootstrap_intervals(count_groups("subject", ["a", "b", "c"] * 20, truth, ~right, 1)).recall[0]
    np.testing.assert_allclose([missed.low, missed.high], [0, 1 - 0.025 ** (1 / 3)])


def test_one_group_says_nothing():
    """A class that one subject alone shows, some of it right, has no interval."""
    truth = np.array([0, 0, 1, 1, 1, 1])
    right = np.array([1, 0, 1, 0, 1, 0], bool)[:, None]
    found = bootstrap_intervals(count_groups("subject", ["a", "a", "a", "b", "b", "b"], truth, right, 3))
    assert found.recall[0] is None
    assert found.recall[1] is not None
    assert found.recall[2] is None


def test_folds_are_averaged_and_people_are_drawn_once():
    """Rows count for their own fold alone; the interval lies around the mean of the folds' figures."""
    random = np.random.default_rng(3)
    truth, fold = random.integers(0, 3, 900), np.repeat([0, 1, 2], 300)
    right = random.random((900, 3)) < np.array([0.2, 0.5, 0.8])
    counts = fold[:, None] == np.arange(3)
    groups = count_groups("subject", [f"vp{n}" for n in random.integers(0, 9, 900)], truth, right, 3, counts)
    each = [right[fold == k, k].mean() for k in range(3)]
    found = bootstrap_intervals(groups).accuracy
    assert found.low < np.mean(each) < found.high
    assert groups.support.sum() == 900


def test_what_is_drawn_again():
    """Subjects where every row names one, else clips, else images."""
    assert choose_unit(("a", "b"), ("c", "d")) == ("subject", ("a", "b"))
    assert choose_unit(("a", ""), ("c", "d")) == ("clip", ("c", "d"))
    assert choose_unit(("", ""), ("c", "")) == ("image", ())
    assert choose_unit((), ()) == ("image", ())
