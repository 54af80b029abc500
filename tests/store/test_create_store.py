"""A store is made once for each trunk, below the cache."""

import pytest

from featcache.files.stat_log import StatLog
from featcache.store.catalog import create_store, find_stores
from tests.builders import new_store, trunk_spec
from tests.store.rows import again


def test_the_same_spec_is_the_same_store(tmp_path):
    """However its weights were called; and each keyed field makes another."""
    first = new_store(tmp_path)
    assert (
        create_store(tmp_path, trunk_spec(), weights_name="renamed.pth", stat_log=StatLog(tmp_path)).root == first.root
    )
    others = [
        new_store(tmp_path, weights_sha256="cd" * 32),
        new_store(tmp_path, stored="float16"),
        new_store(tmp_path, compute="bfloat16"),
    ]
    assert len({store.root for store in [first, *others]}) == 4
    assert [store.trunk.spec for store in find_stores(tmp_path, StatLog(tmp_path))].count(trunk_spec()) == 1


@pytest.mark.parametrize("asked", ["../../etc", "IMAGENET1K_V1", "a b/c?.pth", "ü" * 300, ".", ""])
def test_a_store_stands_in_the_cache_whatever_its_weights_are_called(tmp_path, asked):
    """The name of the weights can neither leave the cache nor be too long for a folder."""
    store = create_store(tmp_path, trunk_spec(), weights_name=asked, stat_log=StatLog(tmp_path))
    assert store.root.parent == tmp_path / "stores"
    assert again(store).trunk.weights_name == asked


def test_a_folder_that_was_never_finished_is_no_store(tmp_path):
    """A kill while a store is made leaves nothing that counts, and the next create finishes it."""
    store = new_store(tmp_path)
    (store.root / "trunk.json").unlink()
    assert find_stores(tmp_path, StatLog(tmp_path)) == []
    assert new_store(tmp_path).root == store.root
    assert len(find_stores(tmp_path, StatLog(tmp_path))) == 1
