"""What a recipe says of the data is held against the settings that a listing was laid out by."""

from dataclasses import replace
from pathlib import Path

import pytest

import featcache
from featcache import CacheError
from featcache.files.stat_log import StatLog
from featcache.recipe.recipe import check_recipe
from featcache.store.store import FeatureStore
from featcache.store.writer import as_recorded
from tests.dataset.conftest import photos, recipe_of, record, write_recipe


def table_of(root: Path, name: str, header: str = "path,label,fine,split") -> None:
    rows = [f"{split}/{c}/0.png,{c},{c}{split},{split}" for split in ("train", "val") for c in "ab"]
    (root / name).write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('layout = "table"\ntable = "other.csv"', "table = 'other.csv' where it had 'one.csv'"),
        ('layout = "table"\ntable = "one.csv"\nlabel_column = "fine"', "label_column = 'fine' where it had 'label'"),
        ("", "layout = 'folder' where it had 'table'"),
        ('layout = "table"\ntable = "one.csv"\nsplit_column = "split"', ""),  # what is meant without it
    ],
)
def test_data_settings_are_held(tmp_path, cache, data, said):
    """A listing that was laid out by other settings of the data is refused, whatever its name and root."""
    root = photos(tmp_path / "photos")
    table_of(root, "one.csv")
    table_of(root, "other.csv")
    layout = {"layout": "table", "table": "one.csv", "root": str(root)}
    record(cache, check_recipe({"name": "photos", "data": layout}, where="a test"))
    pipeline = write_recipe(tmp_path / "r.toml", root, data=data)
    if not said:
        assert len(featcache.load("train", pipeline=pipeline, cache=cache).y) == 2
        return
    with pytest.raises(CacheError, match=said):
        featcache.load("train", pipeline=pipeline, cache=cache)


def test_a_listing_of_an_earlier_version_stays_as_it_is(tmp_path, cache):
    """A listing without settings is read, holds against its root alone, and is not written anew for theirs."""
    root = photos(tmp_path / "photos")
    recipe = recipe_of(root)
    store = record(cache, recipe)
    settled = store.listing(("photos", "all", "train"))
    assert settled.listing.settings == {"layout": "folder"}
    bare = replace(settled, listing=replace(settled.listing, settings={}))
    with store.writer() as writer:
        writer.commit(bare)
    again = FeatureStore.open(store.root, StatLog(cache))
    assert as_recorded(again, settled).listing.settings == {}
    assert as_recorded(store, settled).listing.settings == settled.listing.settings
    assert len(featcache.load("train", data=str(root), cache=cache).y) == 6
