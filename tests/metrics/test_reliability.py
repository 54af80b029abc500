"""The reliability diagram: its bins are Guo et al.'s, its intervals are Wilson's, by group where groups exist."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from featcache.metrics import calibration
from featcache.metrics.reliability import wilson_interval


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_calibration_is_that_of_a_plain_loop(pairs):
    """Bin by bin as Guo et al. define it, (m - 1) / 15 < confidence <= m / 15; the bins hold every answer once."""
    sure, right = np.array([one for one, _ in pairs]), np.array([hit for _, hit in pairs], dtype=bool)
    found = calibration(sure, right)
    assert found.count.sum() == len(pairs)
    gap = 0.0
    for m in range(15):
        inside = [(one, hit) for one, hit in pairs if (m / 15 < one <= (m + 1) / 15) or (m == 0 and one == 0)]
        assert found.count[m] == len(inside)
        if inside:
            mean, share = (float(np.mean([one[k] for one in inside])) for k in (0, 1))
            gap += len(inside) / len(pairs) * abs(mean - share)
    assert np.isnan(found.ece) if not pairs else found.ece == pytest.approx(gap)


def test_a_diverged_heads_answers_are_no_calibration():
    """Nan is left out, not put into a bin."""
    found = calibration(np.array([np.nan, 0.5]), np.array([True, True]))
    assert (found.count.sum(), found.ece) == (1, 0.5)


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (1, 1, 0.2065, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_rows_of_their_own_have_wilsons_interval(right, rows, low, high):
    """The figures of the published examples (81 of 263: Newcombe, Statistics in Medicine 17, 1998, table I)."""
    interval = wilson_interval(np.arange(rows) < right)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_copies_of_a_row_in_its_group_say_nothing_new():
    """Every row five times, in the group of the first: the interval stays as wide; without groups it narrows."""
    hits = np.array([1, 1, 0, 1, 1, 0, 1, 1], dtype=np.float64)
    group = np.arange(8)
    alone = wilson_interval(hits, group)
    copies = wilson_interval(np.repeat(hits, 5), np.repeat(group, 5))
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))
    assert wilson_interval(np.repeat(hits, 5)).low > copies.low + 0.1


def test_groups_that_show_the_same_count_as_one_row_each():
    """Five people, all right on every row, say as much as five rows; of two people nothing is stated."""
    everywhere = np.ones(50)
    people = np.arange(50) % 5
    assert wilson_interval(everywhere, people) == wilson_interval(np.ones(5))
    assert wilson_interval(everywhere, people % 2) is None
    assert wilson_interval(everywhere, people * 0) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=40))
def test_an_interval_holds_its_share_and_stays_in_range(rows):
    """Whatever the groups: 0 <= low <= share <= high <= 1, and no narrower than that of rows of their own."""
    hits = np.array([hit for hit, _ in rows], dtype=np.float64)
    interval, alone = wilson_interval(hits, np.array([group for _, group in rows])), wilson_interval(hits)
    assert alone is not None
    if interval is not None:
        assert 0 <= interval.low <= hits.mean() <= interval.high <= 1
        assert interval.low <= alone.low + 1e-12
        assert interval.high >= alone.high - 1e-12


def test_empty_bins_have_no_interval_and_the_unit_is_named():
    """Two predictions in two bins, each of a person of its own: two counts, and too few people for an interval."""
    bins = calibration(np.array([0.2, 0.9]), np.array([True, False]), unit="subject", groups=("a", "b"))
    assert bins.unit == "subject"
    assert bins.intervals == (None,) * 15
    single = calibration(np.array([0.2, 0.9]), np.array([True, False]))
    assert [i for i, interval in enumerate(single.intervals) if interval is not None] == [2, 13]


def test_the_errors_interval_is_that_of_a_mean_over_groups():
    """Where all rows lie in one bin: Student's t of the rows' |right - confidence|, as scipy.stats has it; by group."""
    rng = np.random.default_rng(0)
    right = rng.random(60) < 0.5
    sure = np.full(60, 0.95)
    found = calibration(sure, right)
    deviations = sure - right
    low, high = stats.t.interval(0.95, 59, loc=deviations.mean(), scale=stats.sem(deviations))
    assert (found.ece_interval.low, found.ece_interval.high) == pytest.approx((low, high))
    people = [str(row // 10) for row in range(60)]
    of_people = calibration(sure, right, unit="subject", groups=people)
    means = deviations.reshape(6, 10).mean(axis=1)
    low, high = stats.t.interval(0.95, 5, loc=means.mean(), scale=stats.sem(means))
    assert (of_people.ece_interval.low, of_people.ece_interval.high) == pytest.approx((max(low, 0), min(high, 1)))
    assert calibration(sure, right, unit="subject", groups=["a"] * 60).ece_interval is None
