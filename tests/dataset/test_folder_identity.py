"""Which folder a data set is: held against what was extracted, never taken from a name or a sample."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import featcache
from featcache import CacheError
from featcache.extraction.moved_root import refuse_another_root
from featcache.files.stat_log import StatLog
from featcache.recipe.recipe import check_recipe
from featcache.store.store import FeatureStore
from tests.dataset.conftest import STAGE_TWO, photos, recipe_of, record


def other_root(cache: Path, root: Path) -> str:
    """What extract says of this folder: where the data set stood before it moved; an error where it is another."""
    known = StatLog(cache)
    stores = [FeatureStore.open(path.parent, known) for path in (cache / "stores").glob("*/trunk.json")]
    return refuse_another_root(stores, cache=cache, data_set="photos", root=str(root), stat_log=known)


@pytest.mark.parametrize("same", [False, True])
def test_two_folders_of_one_name_are_two_data_sets(tmp_path, cache, same):
    """While the first folder is there, the second is none of its: extract refuses with both, so does all of stage
    two, even where the second holds the very same files.
    """
    first = photos(tmp_path / "v1" / "photos")
    second = photos(tmp_path / "v2" / "photos", "" if same else "another")
    record(cache, recipe_of(first))
    featcache.fit_head(0.1, epochs=1, check_seconds=None, data=str(first), cache=cache)
    with pytest.raises(CacheError, match="--name") as told:
        other_root(cache, second)
    assert str(first) in str(told.value)
    assert str(second) in str(told.value)
    for ask in STAGE_TWO.values():
        with pytest.raises(CacheError, match=str(second)):
            ask(data=str(second), cache=cache)


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "one more image": lambda root: (root / "train" / "a" / "9.png").write_bytes(b"new"),
    "one image edited": lambda root: (root / "train" / "a" / "1.png").write_bytes(b"edited"),
    "one image gone": lambda root: (root / "test" / "b" / "2.png").unlink(),
    "one image under another label": lambda root: (root / "val/a/0.png").rename(root / "val/b/7.png"),
    "two images swapped": lambda root: [
        (root / "train/a/0.png").write_bytes((root / "train/a/1.png").read_bytes()),
    ],
}


@pytest.mark.parametrize("how", ["renamed", "copied"])
@pytest.mark.parametrize("change", CHANGES)
def test_moved_is_what_agrees_in_every_row(tmp_path, cache, how, change):
    """A folder that is gone has moved where every row of every split has its file and its content."""
    first, second = photos(tmp_path / "v1" / "photos"), tmp_path / "v2" / "photos"
    record(cache, recipe_of(first))
    if how == "renamed":
        second.parent.mkdir()
        first.rename(second)
    else:
        shutil.copytree(first, second)
        shutil.rmtree(first)
    CHANGES[change](second)
    moved = change in ("nothing", "one more image")
    if moved:
        assert other_root(cache, second) == str(first)
    else:
        with pytest.raises(CacheError, match="does not hold all of its images as they were"):
            other_root(cache, second)
    touched = change in ("one image gone", "one image under another label") or moved  # none of the train split
    if touched:
        with pytest.warns(UserWarning, match="has moved to"):
            assert len(featcache.load("train", data=str(second), cache=cache).y) == 6
    else:
        with pytest.raises(CacheError, match="does not hold all of its images as they were") as told:
            featcache.load("train", data=str(second), cache=cache)
        assert f"{first} is gone: put its images there again, or give the other data set a name" in str(told.value)
        assert [(one.wrong, one.right) for one in told.value.corrections] == [("--name", "v2-photos")]
        first.mkdir(parents=True)
        with pytest.raises(CacheError, match=f"Name {first} with --data, or give the other.*--name v2-photos"):
            featcache.load("train", data=str(second), cache=cache)


def test_one_folder_by_several_paths(tmp_path, cache, monkeypatch):
    """A link, a relative path and a trailing dot lead to the same data set."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "photos").symlink_to(root)
    monkeypatch.chdir(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (tmp_path / "links" / "photos", ".", "../photos", f"{root}/train/.."):
            assert other_root(cache, Path(os.path.abspath(path))) == ""
            assert len(featcache.load("train", data=str(path), name="photos", cache=cache).y) == 6


def test_another_cut_of_the_name_is_held_too(tmp_path, cache):
    """Another variant of a data set, from another folder, is refused like the same one."""
    first, second = photos(tmp_path / "v1" / "photos"), photos(tmp_path / "v2" / "photos", "another")
    record(cache, check_recipe({"name": "photos", "data": {"root": str(first)}}, where="a test"))
    for split in ("val", "test"):
        shutil.rmtree(second / split)
    with pytest.raises(CacheError, match="--name"):
        other_root(cache, second)


def test_where_neither_folder_is_here_the_name_decides_and_that_is_said(tmp_path, cache):
    """A cache that was taken to another machine without its images is answered from, with a warning."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    shutil.rmtree(root)
    with pytest.warns(UserWarning, match="assumed to be the same data set"):
        featcache.load("train", data=str(tmp_path / "elsewhere" / "photos"), cache=cache)


def test_digests_of_another_folder_are_not_its_own(tmp_path, cache):
    """`featcache data` finds no duplicates of a folder in what another folder of its name was extracted with."""
    first, second = photos(tmp_path / "v1" / "photos"), photos(tmp_path / "v2" / "photos", "another")
    record(cache, recipe_of(first))
    assert featcache.describe(data=str(first), cache=cache).duplicates is not None
    assert featcache.describe(data=str(second), cache=cache).duplicates is None
