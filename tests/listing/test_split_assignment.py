"""Splits that the recipe asks for: dealt by group, stratified, seeded, and kept when images are added."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import DataError, UsageError
from featcache.listing.leakage import find_leaks
from featcache.listing.listing import Listing
from featcache.listing.sources import name_variant, resolve_source
from featcache.listing.split_assignment import AssignedSplits, assign_groups
from featcache.recipe import Recipe, SplitSection, check_recipe
from tests.builders import find_recipe_splits, list_split, write_table
from tests.listing.conftest import recipe_of

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def section(by: str = "subject", seed: int = 0, **shares: float) -> SplitSection:
    return SplitSection(by=by, seed=seed, **(shares or {"val": 0.1, "test": 0.2}))


def assigned(groups: list[str], labels: list[int], split: SplitSection, before: Mapping[str, str] | None = None):
    return assign_groups(groups, np.array(labels, dtype=np.int64), split, before or {}, "/data")


def table(root: Path, people: int, rows: int = 12, first: int = 0) -> Path:
    """People with `rows` images each, of three classes in shares that differ from one to the next."""
    lines = [
        (f"p{person}/{row}.png", "abc"[(row * (person % 3 + 1) // 5) % 3], f"p{person}/{row // 4}", f"p{person}")
        for person in range(first, first + people)
        for row in range(rows)
    ]
    return write_table(root, ("path", "label", "clip", "subject"), *lines)


def parts(recipe: Recipe, before: Mapping[str, str] | None = None) -> dict[str, Listing]:
    source = resolve_source(recipe, before or {})
    return {split: source.listing(split) for split in source.splits()}


def off(groups: list[str], labels: list[int], found: Mapping[str, str], split: SplitSection) -> float:
    """The sum over splits and classes of (rows of the class in the split / rows of the class - share)²."""
    total = 0.0
    where = np.array([found[group] for group in groups])
    for label in set(labels):
        own = np.array(labels) == label
        total += sum(((where[own] == name).mean() - share) ** 2 for name, share in split.shares.items())
    return total


row = st.tuples(st.integers(0, 14).map("g{}".format), st.integers(0, 3))
many = st.lists(row, min_size=3, max_size=60).filter(lambda rows: len({group for group, _ in rows}) >= 3)
seeds = st.integers(0, 10**9 - 1)


@settings(deadline=None)
@given(many, seeds)
def test_every_group_goes_to_one_split_and_every_split_gets_one(rows, seed):
    """No subject is cut, and no split that was asked for is empty."""
    groups, labels = map(list, zip(*rows, strict=True))
    found = assigned(groups, labels, section(seed=seed))
    assert found.keys() == set(groups)
    assert set(found.values()) == set(SHARES)


@settings(deadline=None)
@given(many, seeds)
def test_no_group_would_lie_better_elsewhere(rows, seed):
    """Stratified as far as the groups allow: moving any one of them brings the classes no nearer to their shares."""
    groups, labels = map(list, zip(*rows, strict=True))
    split = section(seed=seed)
    found = assigned(groups, labels, split)
    best = off(groups, labels, found, split)
    for group, here in found.items():
        if list(found.values()).count(here) > 1:
            for there in set(SHARES) - {here}:
                assert off(groups, labels, {**found, group: there}, split) > best - 1e-4


@settings(deadline=None)
@given(st.lists(st.integers(20, 200), min_size=1, max_size=5), seeds, st.integers(5, 45), st.integers(5, 45))
def test_single_images_are_stratified_to_the_row(counts, seed, val, test):
    """By image, every class has its share of every split to within a row."""
    labels = np.repeat(np.arange(len(counts)), counts)
    groups = [str(number) for number in range(len(labels))]
    split = section("image", seed, val=val / 100, test=test / 100)
    where = np.array(list(assigned(groups, labels.tolist(), split).values()))
    for label, count in enumerate(counts):
        for name, share in split.shares.items():
            have = np.count_nonzero(where[labels == label] == name)
            assert abs(have - share * count) <= 1


@settings(deadline=None)
@given(many, many, seeds)
def test_what_was_dealt_stays_when_groups_are_added(first, more, seed):
    """Rows and groups that are added move none that was dealt before."""
    groups, labels = map(list, zip(*first, strict=True))
    before = assigned(groups, labels, section(seed=seed))
    new = [(f"new {group}", label) for group, label in more] + more
    groups, labels = map(list, zip(*(new + first), strict=True))
    after = assigned(groups, labels, section(seed=seed), before)
    assert {group: after[group] for group in before} == before
    assert assigned(groups, labels, section(seed=seed), after) == after


@given(many, seeds, st.randoms())
def test_the_order_of_the_rows_decides_nothing(rows, seed, random):
    """The same images and seed give the same splits, whatever order they are listed in."""
    shuffled = random.sample(rows, len(rows))
    one, other = (assigned(*map(list, zip(*found, strict=True)), section(seed=seed)) for found in (rows, shuffled))
    assert one == other


def test_a_seed_deals_otherwise():
    """Two seeds deal like groups differently; the same seed deals the same."""
    groups = [f"p{number}" for number in range(40)]
    found = [assigned(groups, [0] * 40, section(seed=seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_new_groups_go_where_rows_are_missing():
    """With ten subjects dealt and as many added, the whole is nearer to its shares than the first ten alone allow."""
    groups = [f"p{number}" for number in range(10)]
    before = dict.fromkeys(groups[:9], "train") | {groups[9]: "val"}
    found = assigned([f"p{number}" for number in range(20)], [0] * 20, section(), before)
    assert sorted(found.values()).count("test") == 4
    assert sorted(found.values()).count("val") == 2


def test_a_grouped_split_never_cuts_a_subject(tmp_path):
    """By subject no person stands in two splits; every row is in exactly one; the classes are one list."""
    recipe = recipe_of(table(tmp_path, 10), split={"val": 0.1, "test": 0.2, "by": "subject"})
    found = parts(recipe)
    assert list(found) == find_recipe_splits(recipe) == ["train", "val", "test"]
    assert [len(set(part.subjects)) for part in found.values()] == [7, 1, 2]
    assert find_leaks(list(found.values())) == []
    assert sum(map(len, found.values())) == 120
    assert {part.classes for part in found.values()} == {("a", "b", "c")}
    assert {part.split for part in found.values()} == set(found)


def test_a_split_that_cuts_says_what_it_cuts(tmp_path):
    """By clip the people, by image the clips too are counted and named, for every two splits."""
    root = table(tmp_path, 2)
    train, val = parts(recipe_of(root, split={"val": 0.4, "by": "clip"})).values()
    people = sorted(set(train.subjects) & set(val.subjects))
    (by_clip,) = find_leaks([train, val])
    assert (list(by_clip.subjects), by_clip.clips, by_clip.paths) == (people, (), ())
    said = f"splits 'train' and 'val' share {len(people)} subject{'s' * (len(people) > 1)} ({', '.join(people)}): "
    assert str(by_clip).startswith(said)
    (by_image,) = find_leaks(list(parts(recipe_of(root, split={"val": 0.4, "by": "image"})).values()))
    assert by_image.clips
    assert not by_image.paths


def test_an_image_in_two_rows_goes_to_one_split(tmp_path):
    """By image it is the file that is kept together: under two labels it stands in one split."""
    rows = [(f"{number}.png", label) for number in range(30) for label in "xy"]
    recipe = recipe_of(write_table(tmp_path, ("path", "label"), *rows), split={"val": 0.3, "by": "image"})
    assert find_leaks(list(parts(recipe).values())) == []


def test_the_same_image_in_two_splits_is_a_cut():
    """A path that two splits name is counted even where nobody is named and no clip."""
    part = Listing("set", "all", "train", "/", ("a",), ("1", "2"), np.zeros(2, np.int64), ("", ""), ("", ""))
    other = dataclasses.replace(part.take(np.array([1])), split="val")
    (cut,) = find_leaks([part, other])
    assert str(cut).startswith("splits 'train' and 'val' share 1 image: ")


@pytest.mark.parametrize("by", ["subject", "clip", "image"])
def test_the_same_seed_gives_the_same_split_after_images_were_added(tmp_path, by):
    """What was written down holds: images added elsewhere join splits, and none that was dealt moves."""
    recipe = recipe_of(table(tmp_path, 6), split={"val": 0.2, "by": by, "seed": 3})
    source = resolve_source(recipe)
    assert isinstance(source, AssignedSplits)
    before = {split: set(source.listing(split).paths) for split in source.splits()}
    table(tmp_path, 9)  # three people more, and the six as they were
    after = parts(recipe, source.groups)
    for split, paths in before.items():
        assert paths <= set(after[split].paths)
    assert sum(map(len, after.values())) == 108


def test_groups_that_are_away_keep_their_place(tmp_path):
    """A person who is taken out and put back stands in the split that they stood in."""
    recipe = recipe_of(table(tmp_path, 8), split={"val": 0.25, "by": "subject"})
    first = resolve_source(recipe)
    groups = dict(first.groups)
    table(tmp_path, 4, first=2)
    second = resolve_source(recipe, groups)
    second.listing("train")
    assert second.groups == groups
    table(tmp_path, 8)
    assert parts(recipe, second.groups)["val"].paths == first.listing("val").paths


def test_a_split_that_the_data_set_has_stays_what_it_is(tmp_path):
    """Only train is dealt; a test split that is there keeps its rows, and asking for it again is refused."""
    rows = [
        ("path", "label", "split"),
        *((f"{at}.png", "ab"[at % 2], "test" if at < 6 else "train") for at in range(40)),
    ]
    root = write_table(tmp_path, *rows)
    found = parts(recipe_of(root, split={"val": 0.25, "by": "image"}))
    assert {split: len(part) for split, part in found.items()} == {"train": 26, "val": 8, "test": 6}
    with pytest.raises(UsageError, match=r"data\.split\.test: the data set has a split 'test'"):
        find_recipe_splits(recipe_of(root, split={"test": 0.25, "by": "image"}))


def test_an_image_folder_is_dealt_too(tmp_path):
    """A folder with train alone gets its val from the recipe; files that are no images are named once."""
    for number in range(20):
        path = tmp_path / f"train/{'ab'[number % 2]}/run{number // 4}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "train/a/notes.txt").touch()
    recipe = check_recipe(
        {"name": "x", "data": {"root": str(tmp_path), "split": {"val": 0.2, "by": "clip"}}}, where="test"
    )
    found = parts(recipe)
    assert find_leaks(list(found.values())) == []
    assert [part.ignored for part in found.values()] == [("train/a/notes.txt",), ()]
    assert list_split(recipe, "val").paths == found["val"].paths


def test_an_image_of_no_clip_is_a_group_of_its_own(tmp_path):
    """By clip, images without one are dealt one by one, where others have a clip."""
    rows = [(f"{at}.png", "x", "run" if at < 4 else "") for at in range(20)]
    recipe = recipe_of(write_table(tmp_path, ("path", "label", "clip"), *rows), split={"val": 0.3, "by": "clip"})
    assert len(parts(recipe)["val"]) == 6


@pytest.mark.parametrize(
    ("by", "said"),
    [("subject", "120 of 120 rows name no subject"), ("clip", "120 of 120 rows name no clip")],
)
def test_what_nobody_named_cannot_be_kept_together(tmp_path, by, said):
    """Splitting by subject or clip where the data set names none is refused, not done by image."""
    rows = [(f"{at}.png", "x") for at in range(120)]
    recipe = recipe_of(write_table(tmp_path, ("path", "label"), *rows), split={"val": 0.1, "by": by})
    with pytest.raises(DataError, match=said):
        list_split(recipe, "val")


def test_too_few_groups_for_the_splits_are_refused(tmp_path):
    """Two people cannot be dealt to three splits; a split whose rows have all gone is an error, not an empty one."""
    recipe = recipe_of(table(tmp_path, 2), split={"val": 0.1, "test": 0.2, "by": "subject"})
    with pytest.raises(DataError, match="2 different by 'subject': too few for train, val, test"):
        list_split(recipe, "val")
    recipe = recipe_of(tmp_path, split={"val": 0.5, "by": "subject"})
    with pytest.raises(DataError, match="none of the images that were assigned to split 'val' is left"):
        list_split(recipe, "val", {"p0": "train", "p1": "train", "p9": "val"})


def test_every_way_to_ask_is_a_cut_of_its_own(tmp_path):
    """Shares, what is kept together and the seed stand in the variant, so that none overwrites another's listings."""
    splits = [{"val": 0.1}, {"val": 0.2}, {"test": 0.1}, {"val": 0.1, "test": 0.1}, {"val": 0.1, "seed": 1}]
    names = [name_variant(recipe_of(tmp_path, split={**one, "by": by})) for one in splits for by in ("clip", "image")]
    assert len(set(names)) == len(names)
    assert names[0] == "all-val0.1-clip-seed0"
