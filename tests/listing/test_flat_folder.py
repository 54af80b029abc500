"""A folder of classes without splits: it is told apart, divided as asked, and otherwise refused with the way out."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from featcache.errors import DataError
from featcache.listing import find_splits, is_flat, resolve_source
from featcache.recipe import check_recipe

DIVISION = {"val": 0.25, "test": 0.25, "by": "image"}


def laid(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def flat(root: Path) -> Path:
    return laid(root, *(f"{name}/{number}.png" for name in ("ants", "bees") for number in range(8)))


def recipe_of(root: Path, **split: object):
    return check_recipe({"name": "pets", "data": {"root": str(root), "split": split}}, where="test")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["ants/1.png", "bees/1.png"], True),
        (["ants/1.png", "bees/run1/1.png"], True),
        (["ants/run1/1.png", "bees/run2/1.png"], True),  # clips: each has a name of its own
        (["fold1/ants/1.png", "fold2/ants/1.png"], False),  # the classes of both splits
        (["train/1.png"], False),
        (["Training/1.png", "ants/1.png"], False),
        (["train/ants/1.png", "val/bees/1.png"], False),
        (["ants/run1/1.png"], False),
        (["ants/notes.txt"], False),
    ],
)
def test_classes_are_told_from_splits(tmp_path, files, expected):
    """Folders with images, or with clips, are classes; one that is called like a split makes all of them splits."""
    root = str(laid(tmp_path, *files))
    assert is_flat(root, find_splits(root)) is expected


def test_a_flat_folder_is_divided_as_asked(tmp_path):
    """Every image goes to one of the three splits, which share the classes; a cache beside the classes is none."""
    flat(tmp_path)
    (tmp_path / "cache/stores").mkdir(parents=True)
    (tmp_path / "cache/stat.log").touch()
    laid(tmp_path, "loose.png", "notes.txt")
    source = resolve_source(recipe_of(tmp_path, **DIVISION))
    listings = {split: source.listing(split) for split in source.splits()}
    assert {split: len(listing) for split, listing in listings.items()} == {"train": 8, "val": 4, "test": 4}
    assert {listing.classes for listing in listings.values()} == {("ants", "bees")}
    paths = [path for listing in listings.values() for path in listing.paths]
    assert sorted(paths) == sorted(f"{name}/{number}.png" for name in ("ants", "bees") for number in range(8))
    assert listings["train"].ignored == ("loose.png",)


def test_clips_stay_together(tmp_path):
    """By clip, all images of a folder below its class go to one split."""
    laid(tmp_path, *(f"{c}/{c}{run}/{n}.png" for c in ("ants", "bees") for run in range(4) for n in range(3)))
    source = resolve_source(recipe_of(tmp_path, **{**DIVISION, "by": "clip"}))
    clips = [set(source.listing(split).clips) for split in source.splits()]
    assert sum(map(len, clips)) == len(set.union(*clips)) == 8


def test_without_a_division_both_ways_are_shown(tmp_path, monkeypatch):
    """The refusal has a command, and three lines of featcache.toml that are a recipe of this folder."""
    monkeypatch.chdir(tmp_path)
    root = flat(tmp_path / 'my "pets"')
    recipe = check_recipe({"name": "pets", "data": {"root": str(root)}}, where="test")
    with pytest.raises(DataError) as caught:
        resolve_source(recipe).splits()
    message = str(caught.value)
    assert "classes (ants, bees)" in message
    assert "featcache extract 'my \"pets\"' --val 0.15 --test 0.15" in message
    lines = re.findall(r"^  (\w.* = .*)$", message, re.MULTILINE)
    pasted = check_recipe(tomllib.loads("\n".join(lines)), where="test")
    assert len(lines) == 3
    assert os.path.samefile(pasted.data.root, root)
    assert pasted.data.split is not None


def test_a_misspelt_split_is_named_with_the_nearest(tmp_path):
    """The message says which split is meant, and which there are."""
    laid(tmp_path, "train/a/1.png", "val/a/1.png", "test/a/1.png")
    source = resolve_source(check_recipe({"name": "x", "data": {"root": str(tmp_path)}}, where="test"))
    for split, meant in (("tets", "test"), ("validation", "val"), ("trian", "train")):
        with pytest.raises(DataError, match=rf"no split '{split}' in it; did you mean {meant}\? found train, val"):
            source.listing(split)


def test_a_folder_of_videos_is_sent_to_init(tmp_path):
    """No image is there, and the message names the command that makes a recipe of videos."""
    laid(tmp_path, "ants/a.mp4", "bees/b.mp4")
    with pytest.raises(DataError, match=r"but 2 videos, such as ants/a\.mp4\. `featcache init .*` writes a recipe"):
        resolve_source(check_recipe({"name": "films", "data": {"root": str(tmp_path)}}, where="test")).listing("ants")
