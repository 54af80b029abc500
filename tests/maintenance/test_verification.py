"""verify: every problem in a cache, at each depth, and what is no problem."""

import os
import shutil
from pathlib import Path

import pytest

import featcache
from featcache import CacheError
from featcache.files.sealed import seal_line
from featcache.maintenance.verification import QUICK, run_verification
from featcache.store import commits
from tests.maintenance.conftest import Made, flip, overwrite


def kinds(cache: Path, **options) -> list[str]:
    return [problem.kind for problem in featcache.verify(cache=cache, **options)]


@pytest.fixture
def cache(made: Made) -> Path:
    return made.cache


def test_a_sound_cache_has_neither_problem_nor_note(made):
    """Every depth; and progress ends at all of the bytes."""
    said: list[tuple[int, int]] = []
    found = run_verification(cache=made.cache, progress=lambda done, total: said.append((done, total)))
    assert (found.problems, found.notes) == ([], [])
    assert said[-1] == (found.bytes, found.bytes) == (sum(path.stat().st_size for path in made.shards),) * 2
    assert kinds(made.cache, depth=QUICK) == []


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "a shard, one bit": (lambda made: flip(made.shards[0]), ["damaged"], []),
    "a shard, cut": (lambda made: overwrite(made.shards[0], made.shards[0].read_bytes()[:-1]), ["size"], ["size"]),
    "a shard, gone": (lambda made: made.shards[0].unlink(), ["missing"], ["missing"]),
    "a shard, a pipe": (
        lambda made: pipe(made.shards[0]),
        ["size"],
        ["size"],
    ),
    "the log": (lambda made: flip(made.store / commits.LOG_NAME, 3), ["log", "rows"], ["log"]),
    "trunk.json": (lambda made: flip(made.store / "trunk.json"), ["trunk"], ["trunk"]),
    "a listing": (lambda made: flip(next(made.cache.rglob("listings/**/val-*.h5"))), ["listing"], []),
    "a listing, gone": (lambda made: next(made.cache.rglob("val-*.h5")).unlink(), ["listing"], ["listing"]),
    "a head's tensors": (lambda made: flip(next(made.cache.rglob("head.safetensors"))), ["head"], []),
    "a head's history": (lambda made: flip(next(made.cache.rglob("history.csv"))), ["head"], []),
    "the log of runs": (lambda made: flip(next(made.cache.rglob("runs.jsonl"))), ["runs"], []),
    "the log of runs, its end": (lambda made: flip(next(made.cache.rglob("runs.jsonl")), -1), ["runs"], []),
    "dealt splits": (
        lambda made: (made.cache / "listings" / "digits" / "all" / "splits.json").write_bytes(b"{}"), ["splits"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_every_kind_of_damage_is_named(made, what):
    """In whatever file of the cache: verify has a problem for it; sizes and logs already without any hash."""
    damage, at_all_hashes, at_a_glance = DAMAGES[what]
    damage(made)
    found = kinds(made.cache)
    assert [kind for kind in found if kind != "rows"] == [kind for kind in at_all_hashes if kind != "rows"]
    assert kinds(made.cache, depth=QUICK) == at_a_glance


def test_what_is_no_problem_is_noted(made):
    """Damaged lines of stat.log, a torn line of the log, a shard that nobody committed: harmless, but said."""
    flip(made.cache / "stat.log")
    log = made.store / commits.LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    adds = [line for line in lines if b'{"add"' in line[:7]]
    log.write_bytes(b"".join(line for line in lines if line != adds[-1]) + adds[-1][:40])
    found = run_verification(cache=made.cache)
    assert [problem.kind for problem in found.problems] == ["rows"]  # those of the shard that was taken from the log
    assert {note.kind for note in found.notes} == {"memory", "torn", "orphan"}
    assert "1 of" in next(note.message for note in found.notes if note.kind == "memory")


def test_a_damaged_store_hides_no_other(made):
    """Each store is looked at for itself, or alone where it is named."""
    first = made.store
    other = shutil.copytree(first, first.with_name(f"zzz{first.name[-9:]}"))
    flip(first / "trunk.json")
    flip(sorted(made.cache.rglob("zzz-*/shards/*.h5"))[0])
    assert kinds(made.cache) == ["trunk", "damaged"]
    assert kinds(made.cache, store=other.name) == ["damaged"]
    with pytest.raises(CacheError, match="no store 'yyy'"):
        featcache.verify(cache=made.cache, store="yyy")


def test_a_shard_in_which_hdf5_sees_something_else_is_a_problem(made):
    """Its hash is the log's, but the log's offset points beside the array: ours and everybody's view must agree."""
    store = featcache.maintenance.verification.FeatureStore.open(
        made.store, featcache.maintenance.verification.StatLog(made.cache)
    )
    part = store.shards[0]
    fields = {name: getattr(part, name) for name in part.__slots__}
    moved = seal_line({"add": {**fields, "embeddings_offset": part.embeddings_offset - 4}})
    log = made.store / commits.LOG_NAME
    log.write_bytes(moved + b"".join(log.read_bytes().splitlines(keepends=True)[1:]))
    (problem,) = featcache.verify(cache=made.cache)
    assert problem.kind == "hdf5"
    assert "HDF5 sees" in problem.message


def test_no_cache_is_an_error(tmp_path):
    """Exit class 3 where there is no folder; an empty folder has no problem."""
    with pytest.raises(CacheError, match="no cache here"):
        featcache.verify(cache=tmp_path / "none")
    assert featcache.verify(cache=tmp_path) == []


def test_one_damaged_store_stops_no_command_that_needs_another(made, tmp_path):
    """load, info and an extract of a sound store go on beside a store whose log or trunk.json is damaged."""
    broken = made.store.with_name("other-00000000")
    shutil.copytree(made.store, broken)
    for name in ("trunk.json", commits.LOG_NAME):
        flip(broken / name)
        before = made.loaded()
        assert [summary.embedded for summary in made.extract()] == [0, 0, 0]
        assert made.loaded() == before
        found = featcache.info(**made.where)
        assert list(found["damaged"]) == [broken.name]
        assert len(found["stores"]) == 1
    with pytest.raises(CacheError, match="damaged"):
        featcache.load("train", **made.where, store=broken.name)


def test_an_extract_does_not_begin_anew_beside_its_own_damaged_store(made: Made):
    """The store that it would add to is damaged: exit class 3 that names it, and no second store with everything."""
    flip(made.store / commits.LOG_NAME, 3)
    with pytest.raises(CacheError, match=r"line 1 is damaged.*featcache repair"):
        made.extract()
    assert len(list((made.cache / "stores").iterdir())) == 1


def test_a_sound_cache_has_no_problem(cache):
    """An empty list, and progress that ends at all of the bytes."""
    said: list[tuple[int, int]] = []
    assert featcache.verify(cache=cache, progress=lambda done, total: said.append((done, total))) == []
    assert said[-1][0] == said[-1][1] == sum(path.stat().st_size for path in cache.rglob("shards/*.h5"))


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


def test_no_cache_is_exit_class_3_and_an_empty_folder_has_no_problem(tmp_path):
    """Exit class 3 where there is no folder; an empty folder has no problem."""
    with pytest.raises(CacheError, match="no cache here"):
        featcache.verify(cache=tmp_path / "none")
    assert featcache.verify(cache=tmp_path) == []
