"""What a cache holds, and every problem in it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import featcache
from featcache import CacheError, Settings, UsageError
from featcache.store import commits
from tests.conftest import ARCH, Nano, write_images

FULL = {"arch": "vit_b_16", "weights": "IMAGENET1K_V1"}


@pytest.fixture(scope="module")
def made(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 17 digits in three splits, and a cache of them: shards of 4 rows, one head."""
    here, threads = tmp_path_factory.mktemp("made"), torch.get_num_threads()
    write_images(here / "digits", {"train": {"0": 5, "1": 4}, "val": {"0": 2, "1": 2}, "test": {"0": 2, "1": 2}})
    options = {"data": str(here / "digits"), "cache": here / "cache"}
    settings = Settings(device="cpu", workers=1, batch_size=4, shard_rows=4)
    torch.set_num_threads(1)
    featcache.extract(**options, arch=ARCH, weights=str(nano.weights), precision="fp32", settings=settings)
    featcache.fit_head(0.1, **options, epochs=2, check_seconds=None, device="cpu")
    torch.set_num_threads(threads)
    return here


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "cache", tmp_path / "cache")


def test_info_describes_trunk_and_stores(cache, made, nano):
    """One document: parameters, classes of this data set, rows, shards, listings and heads of every store."""
    found = featcache.info(data=str(made / "digits"), cache=cache, arch=ARCH, weights=str(nano.weights))
    assert json.loads(json.dumps(found)) == found
    trunk, (store,) = found["trunk"], found["stores"]
    assert (trunk["arch"], trunk["dim"], trunk["classes"], trunk["head_parameters"]) == (ARCH, 64, 2, 65 * 2)
    assert {key: store[key] for key in ("rows", "dim", "shards", "heads", "weights", "compute", "stored")} == {
        "rows": 17, "dim": 64, "shards": 5, "heads": 1, "weights": "nano.pth", "compute": "float32",
        "stored": "float32",
    }  # fmt: skip
    assert store["listings"] == ["digits/all/test", "digits/all/train", "digits/all/val"]
    assert store["bytes"] == sum(path.stat().st_size for path in cache.rglob("shards/*.h5"))
    assert store["made"][0]["batch_size"] == 4


def test_info_counts_the_parameters_of_vit_b_16(tmp_path):
    """85,798,656 frozen ones; how many a head has is null while nothing says how many classes there are."""
    found = featcache.info(data="/data/none", cache=tmp_path / "none", **FULL)
    assert found["trunk"]["frozen_parameters"] == 85_798_656
    assert found["trunk"]["head_parameters"] is None
    assert found["stores"] == []


def test_info_refuses_what_it_does_not_know(tmp_path):
    """An unknown architecture is exit class 2."""
    with pytest.raises(UsageError, match="vit_z"):
        featcache.info(data="/data/none", cache=tmp_path, arch="vit_z")


def test_a_sound_cache_has_no_problem(cache):
    """An empty list, and progress that ends at all of the bytes."""
    said: list[tuple[int, int]] = []
    assert featcache.verify(cache=cache, progress=lambda done, total: said.append((done, total))) == []
    assert said[-1][0] == said[-1][1] == sum(path.stat().st_size for path in cache.rglob("shards/*.h5"))


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(path, bytes(data))


def test_every_problem_is_found_and_not_the_first_one(cache):
    """A flipped bit, a missing and a cut shard, a damaged listing and head: five problems, each with its place."""
    shards = sorted(cache.rglob("shards/*.h5"))
    flip(shards[0])
    shards[1].unlink()
    overwrite(shards[2], shards[2].read_bytes()[:-64])
    flip(next(cache.rglob("listings/**/val-*.h5")))
    flip(next(cache.rglob("head.safetensors")))
    found = featcache.verify(cache=cache)
    assert [problem.kind for problem in found] == ["damaged", "missing", "size", "listing", "head"]
    assert [Path(problem.where) for problem in found[:3]] == shards[:3]
    assert found[3].where == "digits/all/val"
    assert all(problem.message for problem in found)


@pytest.mark.parametrize(("name", "kind"), [(commits.LOG_NAME, "log"), ("trunk.json", "trunk")])
def test_a_store_that_cannot_be_opened_hides_no_other(cache, name, kind):
    """A damaged log, or trunk.json, is one problem; the stores beside it are still checked."""
    (store,) = (cache / "stores").iterdir()
    shutil.copytree(store, store.with_name(f"zzz{store.name[-9:]}"))
    flip(store / name)
    flip(sorted(cache.rglob("zzz-*/shards/*.h5"))[0])
    found = featcache.verify(cache=cache)
    assert [(problem.kind, Path(problem.where).parts[-1][:3]) for problem in found] == [
        (kind, name[:3]),
        ("damaged", "000"),
    ]


def test_a_store_that_was_never_finished_is_no_problem_and_one_without_its_trunk_is(cache):
    """A kill while a store is made leaves an empty folder, and nothing was lost; rows without a trunk.json are lost."""
    (cache / "stores" / "half" / "shards").mkdir(parents=True)
    (cache / "stores" / "half" / commits.LOG_NAME).write_bytes(b"")
    assert featcache.verify(cache=cache) == []
    next(cache.rglob("trunk.json")).unlink()
    assert [problem.kind for problem in featcache.verify(cache=cache)] == ["trunk"]


def test_no_cache_is_an_error(tmp_path):
    """Exit class 3 where there is no folder; an empty folder has no problem."""
    with pytest.raises(CacheError, match="no cache here"):
        featcache.verify(cache=tmp_path / "none")
    assert featcache.verify(cache=tmp_path) == []
