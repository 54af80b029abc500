"""Listing: one split, column-wise, and the parts of it that a first look takes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import UsageError
from featcache.listing.listing import Listing, take_subset


def listing_of(labels: list[int]) -> Listing:
    rows = len(labels)
    return Listing(
        data_set="set",
        variant="all",
        split="train",
        root="/data",
        classes=tuple("abcdefgh"),
        paths=tuple(f"train/{label}/{row:03d}.png" for row, label in enumerate(labels)),
        labels=np.array(labels, dtype=np.int64),
        clips=tuple(f"clip{row}" for row in range(rows)),
        subjects=("",) * rows,
        ignored=("train/notes.txt",),
    )


labels = st.lists(st.integers(0, 7), min_size=1, max_size=60)
seeds = st.integers(0, 2**63 - 1)


def test_columns_of_different_lengths_are_refused():
    """A listing whose columns disagree cannot be made."""
    with pytest.raises(ValueError, match=r"\(2, 2, 1, 2\)"):
        dataclasses.replace(listing_of([0, 1]), clips=("one",))


def test_a_row_names_its_file_and_the_repr_is_short():
    """`file` is the root and the row's path; the repr says what it is in a line."""
    listing = listing_of([0, 1])
    assert listing.file(1) == "/data/train/1/001.png"
    assert repr(listing) == "<Listing set/all/train: 2 rows, 8 classes>"


@given(labels, st.data())
def test_take_keeps_every_column_aligned(labels, data):
    """Rows taken in any order keep their path, label and clip together, and the whole class list."""
    listing = listing_of(labels)
    rows = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=20))
    found = listing.take(np.array(rows, dtype=np.int64), part="some")
    assert found.paths == tuple(listing.paths[row] for row in rows)
    assert found.labels.tolist() == [labels[row] for row in rows]
    assert found.clips == tuple(f"clip{row}" for row in rows)
    assert (found.classes, found.part, found.ignored) == (listing.classes, "some", listing.ignored)
    assert found.support().tolist() == [[labels[row] for row in rows].count(label) for label in range(8)]


@given(labels, st.integers(1, 70), st.integers(1, 70), seeds)
def test_a_larger_part_contains_a_smaller_one(labels, one, other, seed):
    """Of two limits with one seed the smaller part's rows all stand in the larger, both in listing order."""
    listing = listing_of(labels)
    few, many = (take_subset(listing, limit=limit, seed=seed) for limit in sorted((one, other)))
    assert set(few.paths) <= set(many.paths)
    for part, limit in ((few, min(one, other)), (many, max(one, other))):
        assert len(part) == min(limit, len(listing))
        assert list(part.paths) == [path for path in listing.paths if path in set(part.paths)]


@given(labels, st.integers(1, 60), seeds)
def test_a_part_is_stratified(labels, limit, seed):
    """Every class has its share of a part to within a row, and none goes empty while another gives a second share."""
    listing = listing_of(labels)
    found = take_subset(listing, limit=limit, seed=seed)
    whole, part = listing.support(), found.support()
    occurring = np.count_nonzero(whole)
    assert np.count_nonzero(part) == min(len(found), occurring)
    if len(found) >= occurring:
        shares = len(found) / len(listing) * whole
        assert np.all(np.abs(part - shares)[whole > 0] <= occurring)
        taken = (part - 1)[whole > 0] / whole[whole > 0]  # the share that each class has gone up to
        left = (part / np.maximum(whole, 1))[(whole > 0) & (part < whole)]
        assert not len(left) or taken.max() <= left.min() + 1e-12


@given(labels, st.floats(0.0, 1.0, exclude_min=True), seeds)
def test_a_fraction_is_a_limit(labels, fraction, seed):
    """A fraction of the rows is as many rows as it rounds to, at least one, the same as that limit gives."""
    listing = listing_of(labels)
    found = take_subset(listing, fraction=fraction, seed=seed)
    assert len(found) == max(1, round(len(listing) * fraction))
    assert found.paths == take_subset(listing, limit=len(found), seed=seed).paths


def test_a_rows_turn_depends_on_its_own_path():
    """Images added to another class move no row of a class into or out of its part but for the share that they take."""
    before = listing_of([0] * 20 + [1] * 20)
    after = listing_of([0] * 20 + [1] * 20 + [2] * 20)
    few = {path for path in take_subset(before, limit=10).paths if path.startswith("train/0/")}
    more = {path for path in take_subset(after, limit=15).paths if path.startswith("train/0/")}
    assert len(few) == 5
    assert few == more


def test_a_seed_chooses_other_rows():
    """Two seeds draw differently; the same seed draws the same."""
    listing = listing_of([0] * 200)
    drawn = [take_subset(listing, limit=20, seed=seed).paths for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_asking_for_all_is_the_whole_split():
    """No limit, a limit above the rows, and the fraction 1 are the listing itself, not a part of it."""
    listing = listing_of([0, 1, 2])
    for part in (
        take_subset(listing),
        take_subset(listing, limit=3),
        take_subset(listing, limit=99),
        take_subset(listing, fraction=1.0),
    ):
        assert part is listing
        assert part.part == ""
    assert take_subset(listing, limit=2).part == "limit 2"


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": -1},
        {"fraction": 0.0},
        {"fraction": 1.5},
        {"fraction": -0.1},
        {"fraction": float("nan")},
        {"limit": 1, "fraction": 0.5},
        {"limit": 1, "seed": -1},
        {"limit": 1, "seed": 2**64},
    ],
)
def test_a_part_that_cannot_be_is_refused(asked):
    """A size out of range, two sizes, or a seed out of range is the user's mistake, and said so."""
    with pytest.raises(UsageError, match=r"--limit|--fraction|--seed"):
        take_subset(listing_of([0, 1]), **asked)
