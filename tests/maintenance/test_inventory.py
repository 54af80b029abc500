"""info: what a cache holds, store by store."""

import json

import pytest

import featcache
from featcache import UsageError
from tests.conftest import ARCH, Nano
from tests.maintenance.conftest import Made

FULL = {"arch": "vit_b_16", "weights": "IMAGENET1K_V1"}


def test_info_describes_trunk_and_stores(made: Made, nano: Nano):
    """One document: parameters, classes of this data set, rows, shards, listings and heads of every store."""
    found = featcache.info(data=str(made.images), cache=made.cache, arch=ARCH, weights=str(nano.weights))
    assert json.loads(json.dumps(found)) == found
    trunk, (store,) = found["trunk"], found["stores"]
    assert (trunk["arch"], trunk["dim"], trunk["classes"], trunk["head_parameters"]) == (ARCH, 64, 2, 65 * 2)
    assert {key: store[key] for key in ("rows", "dim", "shards", "heads", "weights", "compute", "stored")} == {
        "rows": 17, "dim": 64, "shards": 5, "heads": 1, "weights": "nano.pth", "compute": "float32",
        "stored": "float32",
    }  # fmt: skip
    assert store["listings"] == ["digits/all/test", "digits/all/train", "digits/all/val"]
    assert store["bytes"] == sum(path.stat().st_size for path in made.cache.rglob("shards/*.h5"))
    assert store["made"][0]["batch_size"] == 4


def test_info_counts_the_parameters_of_vit_b_16(tmp_path):
    """85,798,656 frozen ones; how many a head has is null while nothing says how many classes there are."""
    found = featcache.info(data="/data/none", cache=tmp_path / "none", **FULL)
    assert found["trunk"]["frozen_parameters"] == 85_798_656
    assert found["trunk"]["head_parameters"] is None
    assert found["stores"] == []


def test_info_says_whether_a_store_is_of_the_trunk(made: Made, nano: Nano):
    """Beside the trunk that is meant stands how many stores are of it, and whether the recipe or an option names it."""
    other = featcache.info(data=str(made.images), cache=made.cache)["trunk"]
    assert (other["arch"], other["is_stated"], other["stores"]) == ("vit_b_16", False, 0)
    typed = featcache.info(data=str(made.images), cache=made.cache, arch=ARCH, weights=str(nano.weights))["trunk"]
    assert (typed["is_stated"], typed["stores"]) == (True, 1)


def test_info_refuses_what_it_does_not_know(tmp_path):
    """An unknown architecture is exit class 2."""
    with pytest.raises(UsageError, match="vit_z"):
        featcache.info(data="/data/none", cache=tmp_path, arch="vit_z")
