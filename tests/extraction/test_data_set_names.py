"""Names: a data set's stands for one folder; those of files and splits may hold any bytes, or are refused."""

import os
from collections.abc import Callable

import pytest

from featcache import CacheError, DataError, Summary
from tests.conftest import single_thread, write_images
from tests.extraction.runs import counts, draw

Extract = Callable[..., Summary]


one_thread = pytest.fixture(autouse=True)(single_thread)


def test_a_name_that_stands_for_other_images_is_refused(small, extract, load, tmp_path):
    """Another folder of the same name is exit class 3, and nothing is written; --name decides, either way."""
    extract(small)
    other = tmp_path / "elsewhere" / "digits"
    draw(other / "train" / "0" / "0000.png", 1)
    draw(other / "train" / "1" / "0000.png", 2)
    with pytest.raises(CacheError, match="--name") as told:
        extract(other)
    assert str(small) in str(told.value)
    assert len(load(small).y) == 14
    assert counts(extract(other, name="others")) == (2, 0, 0)
    assert counts(extract(other, name="digits")) == (0, 2, 0)
    assert len(load(other).y) == 2
    with pytest.raises(CacheError, match=f"was extracted from {other}"):
        load(small)


def test_a_name_stands_for_one_folder_in_all_its_splits(small, extract, load, tmp_path):
    """Train of one folder and test of another cannot come together under one name."""
    extract(small)
    other = write_images(tmp_path / "elsewhere" / small.name, {"test": {"0": 2, "1": 2}})
    with pytest.raises(CacheError, match="--name"):
        extract(other, "test")


def test_a_moved_folder_is_the_same_data_set(small, extract, load, tmp_path):
    """The same images under another root embed nothing and need no --name; where one of them changed they do."""
    extract(small)
    moved = tmp_path / "disk2" / "digits"
    moved.parent.mkdir()
    small.rename(moved)
    assert counts(extract(moved)) == (0, 14, 0)
    assert load(moved).source["root"] == str(moved)
    again = tmp_path / "disk3" / "digits"
    again.parent.mkdir()
    moved.rename(again)
    draw(again / "train" / "0" / "0000.png", 1)
    with pytest.raises(CacheError, match="does not hold all of its images as they were"):
        extract(again)
    assert counts(extract(again, name="digits")) == (1, 13, 0)


def test_names_of_any_bytes_are_extracted(small, extract, load):
    """Not UTF-8, a newline, markup: each has its row, under its own name."""
    names = [os.fsdecode(b"caf\xe9.png"), "two\nlines.png", "=cmd.png", "<script>.png", "é.png", "e\u0301.png"]
    for number, name in enumerate(names):
        draw(small / "train" / "0" / name, number)
    assert counts(extract(small)) == (20, 0, 0)
    assert {f"train/0/{name}" for name in names} <= set(load(small).paths)
    assert counts(extract(small)) == (0, 20, 0)


def test_a_split_whose_name_cannot_be_kept_is_refused_before_any_work(small, extract, tmp_path):
    """A split's name becomes a file's name: what does not fit is said at once, not after hours of embedding."""
    draw(small / "hold out" / "0" / "1.png", 1)
    with pytest.raises(DataError, match="'hold out'"):
        extract(small, "hold out")
    with pytest.raises(DataError, match="'hold out'"):
        extract(small, None)
    assert not list((tmp_path / "cache").rglob("*.h5"))
