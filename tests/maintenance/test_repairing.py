"""repair: damage is taken out and kept aside, what is whole is adopted; then an extract ends as if nothing had been."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.store import CommitLog, commits
from tests.maintenance.conftest import Made, flip, overwrite


def lose_lines(made: Made) -> None:
    """A log that lost its two last shards: published, but unknown."""
    log = made.store / commits.LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    adds = [line for line in lines if line.startswith(b'{"add"')]
    log.write_bytes(b"".join(line for line in lines if line not in adds[-2:]))


def damage_every_file(made: Made) -> None:
    for path in made.cache.rglob("*"):
        if path.is_file() and path.name not in (".lock", ".runs.jsonl.lock"):
            flip(path)


DAMAGES = {
    "one bit of a shard": lambda made: flip(made.shards[1]),
    "two shards gone": lambda made: [path.unlink() for path in made.shards[:2]],
    "a shard cut": lambda made: overwrite(made.shards[0], made.shards[0].read_bytes()[:-100]),
    "a shard's line in the log": lambda made: flip(made.store / commits.LOG_NAME, 3),
    "every line of the log": lambda made: overwrite(
        made.store / commits.LOG_NAME, (made.store / commits.LOG_NAME).read_bytes().replace(b'"sum"', b'"sun"')
    ),
    "lines lost": lose_lines,
    "no log": lambda made: (made.store / commits.LOG_NAME).unlink(),
    "the log a pipe": lambda made: ((made.store / commits.LOG_NAME).unlink(), os.mkfifo(made.store / commits.LOG_NAME)),
    "trunk.json": lambda made: flip(made.store / "trunk.json"),
    "no trunk.json": lambda made: (made.store / "trunk.json").unlink(),
    "trunk.json, and the memory of weights": lambda made: (
        flip(made.store / "trunk.json"), (made.cache / "weights.json").unlink(),
    ),
    "trunk.json emptied, and the memory of weights": lambda made: (
        overwrite(made.store / "trunk.json", b""), (made.cache / "weights.json").unlink(),
    ),
    "a listing": lambda made: flip(next(made.cache.rglob("listings/**/train-*.h5"))),
    "the memories": lambda made: (flip(made.cache / "stat.log"), flip(made.cache / "weights.json")),
    "a bit of every file": damage_every_file,
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_repair_then_extract_ends_as_if_nothing_had_been(made, template, what):
    """`load` gives the very bytes of the undisturbed store, verify has no problem, and no file was deleted."""
    DAMAGES[what](made)
    bytes_before = sum(path.stat().st_size for path in made.cache.rglob("*.h5") if path.is_file())
    featcache.repair(cache=made.cache)
    assert sum(path.stat().st_size for path in made.cache.rglob("*.h5")) >= bytes_before
    made.extract()
    featcache.repair(cache=made.cache)  # what could not be adopted before its trunk was known
    assert featcache.verify(cache=made.cache) == []
    assert made.loaded() == template.loaded()


@pytest.mark.parametrize("what", DAMAGES)
def test_a_dry_run_changes_nothing_and_says_the_same(made, what):
    """Every byte of the cache stays; the actions and the images to be embedded again are those of the real run."""
    DAMAGES[what](made)
    before = {path: path.read_bytes() for path in made.cache.rglob("*") if path.is_file()}
    said = featcache.repair(cache=made.cache, dry_run=True)
    assert {path: path.read_bytes() for path in made.cache.rglob("*") if path.is_file()} == before
    done = featcache.repair(cache=made.cache)
    assert (said.actions, said.unrepaired, said.embed_again) == (done.actions, done.unrepaired, done.embed_again)
    assert bool(done.actions) == (what != "the memories")  # which are no more than that
    assert json.loads(json.dumps(done.to_json()))["dry_run"] is False


def test_a_sound_cache_is_left_alone(made):
    """Nothing to do, nothing touched."""
    before = {path: path.read_bytes() for path in made.cache.rglob("*") if path.is_file()}
    assert featcache.repair(cache=made.cache).actions == []
    assert {path: path.read_bytes() for path in made.cache.rglob("*") if path.is_file()} == before


def test_what_must_be_embedded_again_is_named(made):
    """The rows of the damaged shard, by listing and path; and that many the next extract embeds."""
    flip(made.shards[0])
    done = featcache.repair(cache=made.cache)
    assert len(done.embed_again) == 4
    _, path = done.embed_again[0]
    assert (made.images / path).is_file()
    assert sum(summary.embedded for summary in made.extract()) == 4
    assert [Path(action.where).name for action in done.actions] == [made_name(done)]
    assert (made.store / "damaged" / "shards" / made_name(done)).is_file()


def made_name(done) -> str:
    return Path(done.actions[0].where).name


def test_published_shards_that_the_log_lost_are_adopted(made, template):
    """Nothing is embedded again."""
    lose_lines(made)
    assert [action.kind for action in featcache.repair(cache=made.cache).actions] == ["adopted", "adopted"]
    assert sum(summary.embedded for summary in made.extract()) == 0
    assert made.loaded() == template.loaded()


def test_a_file_that_only_looks_like_a_shard_is_not_adopted(made):
    """A shard of another width, one whose name is not its hash's, one with rows that are not finite: moved aside."""
    import hashlib

    from featcache.store import hdf5

    def put(embeddings, name=None) -> None:
        data, _ = hdf5.build_file({"embeddings": embeddings, "digests": np.zeros((len(embeddings), 32), np.uint8)})
        name = name or f"00077-{hashlib.sha256(data).hexdigest()[:8]}.h5"
        (made.store / "shards" / name).write_bytes(data)

    put(np.zeros((2, 3), np.float32))
    put(np.zeros((2, 64), np.float16))
    put(np.full((2, 64), np.nan, np.float32))
    put(np.zeros((2, 64), np.float32), "00078-00000000.h5")
    put(np.zeros((0, 64), np.float32))
    before = made.loaded()
    assert [action.kind for action in featcache.repair(cache=made.cache).actions] == ["aside"] * 5
    assert made.loaded() == before
    assert len(list((made.store / "damaged" / "shards").iterdir())) == 5


def test_a_dropped_shard_is_not_adopted_again(made):
    """What the log says is gone stays gone, also while its file stands there."""
    name = made.shards[0].name
    CommitLog(made.store).drop(name)
    assert featcache.repair(cache=made.cache).actions == []
    assert name in CommitLog(made.store).read().dropped


def test_a_store_of_a_newer_format_is_left_to_those_who_know_it(made):
    """Repair touches nothing of it, and says so."""
    from featcache.files.sealed import seal_document

    (made.store / "trunk.json").write_bytes(seal_document({"format": 2}))
    before = {path: path.read_bytes() for path in made.store.rglob("*") if path.is_file()}
    done = featcache.repair(cache=made.cache)
    assert [problem.kind for problem in done.unrepaired] == ["trunk"]
    assert {path: path.read_bytes() for path in made.store.rglob("*") if path.is_file()} == before


def test_damaged_heads_are_moved_aside_and_good_runs_kept(made):
    """fit-head makes the head again; the log of runs keeps its whole lines."""
    featcache.fit_head(0.2, **made.where, epochs=1, check_seconds=None, device="cpu")
    runs = next(made.cache.rglob("runs.jsonl"))
    first, _ = runs.read_bytes().splitlines(keepends=True)
    flip(runs, len(first) + 5)
    flip(next(made.cache.rglob("heads/**/lr0.1*/head.safetensors")))
    done = featcache.repair(cache=made.cache)
    assert [action.kind for action in done.actions] == ["head", "head"]
    assert runs.read_bytes() == first
    assert featcache.verify(cache=made.cache) == []
    assert len(list((made.store / "damaged").rglob("head.safetensors"))) == 1


def test_dealt_splits_are_written_again_from_the_listings(tmp_path, nano):
    """Who was in which split is not dealt anew: the listings still say it."""
    from featcache.store import split_assignment
    from tests.conftest import ARCH, write_images

    root = write_images(tmp_path / "digits", {"train": {"0": 12, "1": 9}})
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'name = "d"\n[data]\nroot = "{root}"\n[data.split]\nval = 0.3\nby = "image"\n')
    where = {"pipeline": str(recipe), "cache": tmp_path / "cache"}
    settings = featcache.Settings(device="cpu", workers=1, batch_size=4)
    featcache.extract(**where, arch=ARCH, weights=str(nano.weights), precision="fp32", settings=settings)
    path = next((tmp_path / "cache").rglob("splits.json"))
    before = split_assignment.read_split_assignment(tmp_path / "cache", "d", path.parent.name)
    flip(path)
    assert [action.kind for action in featcache.repair(cache=tmp_path / "cache").actions] == ["splits"]
    assert split_assignment.read_split_assignment(tmp_path / "cache", "d", path.parent.name) == before
    assert featcache.verify(cache=tmp_path / "cache") == []


def test_a_damaged_line_among_the_runs_is_an_error_where_the_newest_is_asked_for(made):
    """It could be the newest: report does not take an older head for it; a head that is named is found all the same."""
    runs = next(made.cache.rglob("runs.jsonl"))
    featcache.fit_head(0.2, **made.where, epochs=1, check_seconds=None, device="cpu")
    first, _ = runs.read_bytes().splitlines(keepends=True)
    flip(runs, len(first) + 5)
    with pytest.raises(featcache.CacheError, match="line 2 is damaged"):
        featcache.evaluate(split="val", **made.where)
    assert featcache.evaluate("lr0.1", split="val", **made.where).rows == 4
    featcache.repair(cache=made.cache)
    assert featcache.evaluate(split="val", **made.where).head.startswith("lr0.1")


def test_a_run_that_was_cut_short_is_passed_over_and_removed(made):
    """What a crash left of a line hides no other run, also after the next fit-head."""
    runs = next(made.cache.rglob("runs.jsonl"))
    whole = runs.read_bytes()
    runs.write_bytes(whole + whole[:50])
    assert featcache.evaluate(split="val", **made.where).head.startswith("lr0.1")
    featcache.fit_head(0.2, **made.where, epochs=1, check_seconds=None, device="cpu")
    assert featcache.evaluate("latest", split="val", **made.where).head.startswith("lr0.2")
    assert len(runs.read_bytes().splitlines()) == 2
    assert featcache.verify(cache=made.cache) == []


@pytest.mark.parametrize("name", ["../../x", "..", "/etc", "x/y"])
def test_a_run_that_names_a_head_elsewhere_is_refused(made, name):
    """A log from somebody else cannot lead out of the folder of heads."""
    from featcache.files.sealed import seal_line

    line = {"at": 2**62, "heads": [name], "best": name, "selected_by": "", "check": None, "seconds": 1}
    with next(made.cache.rglob("runs.jsonl")).open("ab") as file:
        file.write(seal_line(line))
    with pytest.raises(featcache.CacheError, match="not the name of a head"):
        featcache.evaluate(split="val", **made.where)


def test_scratch_files_anywhere_in_the_cache_are_swept(made):
    """Also beside stores and listings; only those that are too old to be written by anybody."""
    old, new = (made.cache / "listings" / f".x.{name}.partial" for name in ("a", "b"))
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    featcache.gc(cache=made.cache, apply=True)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_store_whose_folder_was_renamed_is_left_as_it_is(made):
    """A whole trunk.json is no damage: it stays, and the sentence says how the folder has to be named."""
    there = made.store
    tail = there.name[-9:]
    moved = there.rename(there.with_name("mine"))
    before = (moved / "trunk.json").read_bytes()
    done = featcache.repair(cache=made.cache)
    assert [problem.kind for problem in done.unrepaired] == ["trunk"]
    assert tail in done.unrepaired[0].message
    assert (moved / "trunk.json").read_bytes() == before
    moved.rename(there)
    assert featcache.verify(cache=made.cache) == []
