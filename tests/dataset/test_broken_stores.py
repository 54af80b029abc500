"""A store that cannot be opened is named where what it may hold is missed."""

import pytest

import featcache
from featcache import CacheError
from tests.dataset.conftest import STAGE_TWO, photos, recipe_of, record


@pytest.mark.parametrize("function", ["compare", "evaluate", "predict"])
def test_a_damaged_store_is_named_where_its_heads_are_missed(tmp_path, cache, function):
    """Where no head is there because its store cannot be opened, the message names that store and what is wrong."""
    root = photos(tmp_path / "photos")
    store = record(cache, recipe_of(root))
    featcache.fit_head(0.1, epochs=1, check_seconds=None, data=str(root), cache=cache)
    (store.root / "trunk.json").write_bytes((store.root / "trunk.json").read_bytes()[:-20])
    with pytest.raises(CacheError, match=r"no head of photos") as told:
        STAGE_TWO[function](data=str(root), cache=cache)
    assert f"A store that cannot be opened: {store.root}/trunk.json: damaged" in str(told.value)


def test_a_damaged_store_is_named_where_a_head_of_another_name_is_there(tmp_path, cache):
    """A head that is named and not there may be one of a store that cannot be opened: the message names it."""
    root = photos(tmp_path / "photos")
    record(cache, recipe_of(root))
    other = record(cache, recipe_of(root), sha256="cd" * 32)
    featcache.fit_head(0.1, epochs=1, check_seconds=None, data=str(root), cache=cache, store=other.name)
    damaged = record(cache, recipe_of(root), sha256="ef" * 32)
    (damaged.root / "trunk.json").write_bytes(b"{")
    with pytest.raises(CacheError, match="no head is called 'mine'") as told:
        featcache.evaluate("mine", data=str(root), cache=cache)
    assert f"A store that cannot be opened: {damaged.root}/trunk.json" in str(told.value)
