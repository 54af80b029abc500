"""No spread in a sample is no certainty: in every figure, single, paired and averaged, and wherever it is shown."""

import csv
import functools
import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

import featcache
from featcache.metrics.bootstrap import bootstrap_differences, bootstrap_intervals
from featcache.metrics.groups import count_groups
from tests.builders import dense_groups, digests, extracted, listing, new_store
from tests.conftest import single_thread

one_thread = pytest.fixture(autouse=True)(single_thread)


def rows_alone(right, classes=1):
    """Intervals where each row is its own group; `right` is (rows, heads) of one class, or of a class a row."""
    truth = np.zeros(len(right), int) if classes == 1 else np.arange(len(right)) % classes
    return count_groups("image", (), truth, np.asarray(right, bool), classes)


def counted(won, lost, tied):
    """Rows of one class that only the first head has right, only the second, and either both or none."""
    return rows_alone([[1, 0]] * won + [[0, 1]] * lost + [[0, 0]] * tied)


samples = st.integers(1, 12).flatmap(
    lambda rows: st.tuples(
        st.lists(st.integers(0, 2), min_size=rows, max_size=rows),
        st.lists(st.sampled_from("abcde"), min_size=rows, max_size=rows),
        st.lists(st.tuples(st.booleans(), st.booleans()), min_size=rows, max_size=rows),
        st.booleans(),
    )
)


@given(samples)
@settings(deadline=None)
def test_no_interval_has_no_width(sample):
    """Whatever a small sample shows, alone or paired: an interval holds its figure and has a width."""
    truth, names, right, is_named = sample
    groups = count_groups("x", names if is_named else (), np.array(truth), np.array(right), 3)
    first = count_groups("x", names if is_named else (), np.array(truth), np.array(right)[:, :1], 3)
    for found in (
        bootstrap_intervals(first, resamples=100),
        bootstrap_differences(groups, resamples=100),
        bootstrap_intervals(groups, resamples=99),
    ):
        for interval in (found.accuracy, found.macro_recall, *found.recall):
            assert interval is None or interval.high - interval.low > 0.01
        if found.groups == 1:
            assert {found.accuracy, found.macro_recall, *found.recall} == {None}


@given(samples)
@settings(deadline=None)
def test_fewer_than_five_rows_in_which_heads_differ_are_no_evidence(sample):
    """Where one head never loses and wins fewer than five rows of a class, its interval holds 0."""
    truth, names, right, is_named = sample
    right = np.array([(one, one and other) for one, other in right])  # the first head never loses
    groups = count_groups("x", names if is_named else (), np.array(truth), right, 3)
    found = bootstrap_differences(groups, resamples=100)
    differ = (groups.hits[:, :3] - groups.hits[:, 3:]).toarray() != 0
    if not is_named:
        for label, interval in enumerate(found.recall):
            assert interval is None or groups.count @ differ[:, label] >= 5 or interval.low <= 0


def test_two_images_are_too_few_and_many_are_not():
    """Two of two say nothing, alone or paired; 200 of 200 have the exact bound, 98.2 %, and six of six a sign."""
    assert bootstrap_intervals(rows_alone([[1]] * 2)).recall == (None,)
    assert bootstrap_differences(counted(2, 0, 0)).recall == (None,)
    all_right = bootstrap_intervals(rows_alone([[1]] * 200)).recall[0]
    np.testing.assert_allclose([all_right.low, all_right.high], [0.025 ** (1 / 200), 1])
    never = bootstrap_differences(counted(0, 0, 200)).recall[0]
    np.testing.assert_allclose([never.low, never.high], [0.025 ** (1 / 200) - 1, 1 - 0.025 ** (1 / 200)])
    assert (
        bootstrap_differences(counted(5, 0, 0)).recall[0].low
        < 0
        < bootstrap_differences(counted(6, 0, 0)).recall[0].low
    )


def test_a_class_without_spread_counts_in_macro_recall():
    """Two images that are right do not make a class certain: macro recall's interval holds what they may hide."""
    truth = np.repeat([0, 1], [60, 2])
    right = (np.arange(62) >= 6)[:, None]
    found = bootstrap_intervals(count_groups("image", (), truth, right, 2))
    assert found.recall[1] is None
    assert found.macro_recall.low < (0.9 + 0.2) / 2
    pair = np.stack([np.arange(62) >= 60, np.zeros(62, bool)], axis=1)
    differ = bootstrap_differences(count_groups("image", (), truth, pair, 2)).macro_recall
    assert differ.low < 0 < differ.high


@functools.cache
def of_one(right, rows):
    return bootstrap_intervals(rows_alone([[1]] * right + [[0]] * (rows - right)), resamples=50).recall[0]


@functools.cache
def of_two(won, lost, rows):
    return bootstrap_differences(counted(won, lost, rows - won - lost), resamples=100).recall[0]


@pytest.mark.parametrize("rows", [3, 10, 40, 130])
@pytest.mark.parametrize("p", [0.5, 0.8, 0.95, 0.99, 0.999, 1.0])
def test_the_interval_of_a_recall_covers(rows, p):
    """Rows as groups: 92 in 100 hold the truth at least, by summing the probabilities of all samples."""
    kept = 0.0
    for right in range(rows + 1):
        found = of_one(right, rows)
        kept += binom.pmf(right, rows, p) * (found.low - 1e-9 <= p <= found.high + 1e-9)
    assert kept >= 0.92


@pytest.mark.parametrize(("won", "lost"), [(0.1, 0), (0.3, 0), (0.05, 0.05), (0.25, 0.25), (0.02, 0.01), (0.95, 0)])
@pytest.mark.parametrize("rows", [5, 12, 25])
def test_the_interval_of_a_paired_difference_covers(rows, won, lost):
    """Rows as groups, heads that seldom differ: 92 in 100 at least, by summing over all samples that may occur."""
    kept = 0.0
    for first, second in product(range(rows + 1), repeat=2):
        if first + second > rows:
            continue
        chance = multinomial.pmf([first, second, rows - first - second], rows, [won, lost, 1 - won - lost])
        if chance > 1e-5:
            found = of_two(first, second, rows)
            kept += chance * (found.low - 1e-9 <= won - lost <= found.high + 1e-9)
    assert kept >= 0.92


@pytest.mark.parametrize(
    ("sizes", "chances"),
    [((60, 2), (0.9, 0.5)), ((60, 2), (0.98, 0.7)), ((100, 3, 3), (0.95, 0.9, 0.7)), ((4,) * 50, (0.9,) * 50)],
)
def test_the_interval_of_macro_recall_covers(sizes, chances):
    """Classes of few images among large ones, and many small ones: 92 in 100 at least."""
    random, one = np.random.default_rng(0), np.eye(len(sizes))
    hits, rows = np.concatenate([one, 0 * one])[:, None], np.concatenate([one, one])[:, None]
    kept = []
    for _ in range(150):
        right = random.binomial(sizes, chances)
        count = np.concatenate([right, np.array(sizes) - right])
        seen = count > 0
        found = bootstrap_intervals(
            dense_groups("image", hits[seen], rows[seen], count[seen]), resamples=200
        ).macro_recall
        kept.append(found.low <= np.mean(chances) <= found.high)
    assert np.mean(kept) >= 0.92


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two heads, and a test split with a class of two images of which the one has both right, the other none."""
    cache = tmp_path_factory.mktemp("pairs") / "cache"
    random = np.random.default_rng(0)
    with new_store(cache).writer() as writer:
        for split, rare in (("train", 30), ("test", 2)):
            y = np.repeat([0, 1], [60, rare])
            x = random.standard_normal((len(y), 4)).astype(np.float32)
            x[:, 0] += 6 * y
            names = digests(f"{split}{row}" for row in range(len(y)))
            writer.append(names, x)
            writer.commit(extracted(listing(y, split=split, classes=("often", "rare")), names))
    where = {"data": "/data/toy", "cache": cache, "device": "cpu", "check_seconds": None}
    good = featcache.fit_head(0.5, epochs=30, **where).best.name
    bad = featcache.fit_head(1e-9, epochs=1, weight_decay=0.0, **where).best.name
    return cache, good, bad


def test_the_same_words_everywhere(pairs, tmp_path):
    """Terminal, page, CSV and JSON, alone and paired: "too few" where two images stand, and what it means."""
    cache, good, bad = pairs

    def told(*words):
        typed = [sys.executable, "-m", "featcache", "report", good, "--data", "/data/toy", "--cache", cache, *words]
        return subprocess.run(list(map(str, typed)), check=True, capture_output=True, text=True).stdout

    files = [tmp_path / name for name in ("r.csv", "r.html")]
    alone = told("--csv", files[0], "--html", files[1])
    paired = told("--against", bad)
    for text in (alone, paired):
        line = next(line for line in text.splitlines() if line.startswith("rare "))
        assert "too few" in line
        assert "*" not in line
        assert "too few: fewer than 3 images" in " ".join(text.split())
    (row,) = (row for row in csv.DictReader(files[0].read_text().splitlines()) if row["class"] == "rare")
    assert (row["recall_low"], row["recall_high"], row["recall_interval"]) == ("", "", "too few")
    page = files[1].read_text()
    assert '<td class="n">too few</td>' in page
    assert "Too few: fewer than 3 images." in page
    document = json.loads(told("--json", "--against", bad))
    assert document["intervals"]["too_few"] == {"accuracy": False, "macro_recall": False}
    for classes in (document["classes"], document["against"]["difference"]["classes"]):
        assert [(one["recall_interval"] is None, one["too_few"]) for one in classes] == [(False, False), (True, True)]
