"""gc: what no listing names is forgotten, small shards become one, and nobody notices."""

import os
import shutil
import threading
import time

import numpy as np
import pytest

import featcache
from featcache.errors import CacheError
from featcache.files import StatLog
from featcache.store import FeatureStore, commits
from tests.maintenance.conftest import Made, flip


def open_store(made: Made) -> FeatureStore:
    return FeatureStore.open(made.store, StatLog(made.cache / "nothing"))


def rename_split(made: Made, tmp_path) -> Made:
    """The same cache, whose data set has lost half of its training images."""
    images = shutil.copytree(made.images, tmp_path / "digits")
    for path in sorted((images / "train").rglob("*.png"))[::2]:
        path.unlink()
    moved = Made(made.cache, images, made.weights)
    moved.extract()
    return moved


def test_without_apply_nothing_happens(made):
    """The default says what would be, and leaves every byte."""
    before = {path: path.read_bytes() for path in made.cache.rglob("*") if path.is_file()}
    (said,) = featcache.gc(cache=made.cache)
    assert {path: path.read_bytes() for path in made.cache.rglob("*") if path.is_file()} == before
    assert (said.applied, said.rows, said.forgotten, said.rewritten, said.added) == (False, 17, 0, 5, 1)


def test_small_shards_become_one_and_load_gives_the_same_bytes(made):
    """Five shards of four rows are one; the old files are gone; a second gc finds nothing to do."""
    before = made.loaded()
    (done,) = featcache.gc(cache=made.cache, apply=True)
    assert (done.rewritten, done.added, len(made.shards)) == (5, 1, 1)
    assert done.removed > 0
    assert made.loaded() == before
    assert featcache.verify(cache=made.cache) == []
    (second,) = featcache.gc(cache=made.cache, apply=True)
    assert (second.rewritten, second.forgotten, second.removed) == (0, 0, 0)


def test_what_no_listing_names_is_forgotten(made, tmp_path):
    """Images that left the data set go; those that stayed are the same bytes; one that returns is embedded again."""
    smaller = rename_split(made, tmp_path)
    before = smaller.loaded()
    (done,) = featcache.gc(cache=made.cache, apply=True)
    assert done.forgotten == 5
    assert smaller.loaded() == before
    assert open_store(made).rows == 12
    assert featcache.verify(cache=made.cache) == []
    shutil.rmtree(smaller.images)
    shutil.copytree(made.images, smaller.images)
    assert sum(summary.embedded for summary in smaller.extract()) == 5


def test_what_a_stopped_extract_has_embedded_is_kept(made, tmp_path):
    """Rows after the last listing line belong to an extract that goes on; --all forgets them too."""
    log = made.store / commits.LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(line for line in lines if line.startswith(b'{"add"')))  # killed before its first listing
    before = made.extract()
    assert sum(summary.embedded for summary in before) == 0
    log.write_bytes(b"".join(line for line in lines if line.startswith(b'{"add"')))
    (done,) = featcache.gc(cache=made.cache, apply=True)
    assert (done.unfinished, done.forgotten, open_store(made).rows) == (17, 0, 17)
    assert sum(summary.embedded for summary in made.extract()) == 0
    log.write_bytes(b"".join(line for line in log.read_bytes().splitlines(keepends=True) if b'{"listing' not in line))
    (done,) = featcache.gc(cache=made.cache, apply=True, everything=True)
    assert (done.unfinished, done.forgotten, open_store(made).rows) == (0, 17, 0)


def test_a_reader_that_opened_the_store_before_is_not_hurt(made):
    """Its snapshot names shards whose files are gone by now: it finds every row all the same."""
    reader = open_store(made)
    digests = reader.listing(("digits", "all", "train")).digests
    lazy = open_store(made)  # has not even read the digests yet
    before = reader.load(digests).tobytes()
    featcache.gc(cache=made.cache, apply=True)
    assert reader.load(digests).tobytes() == before
    assert lazy.holds(digests).all()
    assert lazy.load(digests).tobytes() == before


def test_readers_see_every_row_at_any_moment_of_a_gc(made):
    """Threads that load all the time, each with a fresh or an old snapshot, while gc runs: always the same bytes."""
    digests = open_store(made).listing(("digits", "all", "train")).digests
    before = open_store(made).load(digests).tobytes()
    old, wrong, ended = open_store(made), [], threading.Event()

    def read() -> None:
        while not ended.is_set():
            for store in (open_store(made), old):
                try:
                    if store.load(digests).tobytes() != before:
                        wrong.append("other bytes")
                except Exception as error:  # whatever it is, it is wrong
                    wrong.append(repr(error))

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.05)
    featcache.gc(cache=made.cache, apply=True)
    time.sleep(0.05)
    ended.set()
    thread.join()
    assert wrong == []


def test_a_grace_keeps_files_for_readers_elsewhere(made):
    """--grace: dropped files stay that long; a later gc removes them; verify notes them until then."""
    (done,) = featcache.gc(cache=made.cache, apply=True, grace=3600)
    assert (done.removed, len(made.shards)) == (0, 6)
    (note,) = featcache.maintenance.verification.run_verification(cache=made.cache).notes
    assert note.kind == "dropped"
    (later,) = featcache.gc(cache=made.cache, apply=True)
    assert later.removed > 0
    assert len(made.shards) == 1


class Fails:
    """Fails call `fatal` of those that change the disk."""

    def __init__(self, patch: pytest.MonkeyPatch, fatal: int) -> None:
        self.count = 0
        for name in ("open", "write", "fsync", "rename", "unlink"):
            patch.setattr(os, name, self.wrap(getattr(os, name), fatal))

    def wrap(self, real, fatal):
        def call(*args, **kwargs):
            self.count += 1
            if self.count == fatal:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return call


def test_a_gc_that_dies_at_any_step_loses_nothing(made, tmp_path, monkeypatch):
    """At every seventh call that touches the disk: load gives the same, verify is clean, the next gc completes it."""
    smaller = rename_split(made, tmp_path)
    before = smaller.loaded()
    keys = [("digits", "all", split) for split in ("train", "val", "test")]
    store = open_store(made)
    rows = {key: store.load(store.listing(key).digests).tobytes() for key in keys}
    for fatal in range(1, 400, 7):
        cache = shutil.copytree(made.cache, tmp_path / f"c{fatal}")
        copy = Made(cache, smaller.images, made.weights)
        died = False
        with monkeypatch.context() as patch:
            shim = Fails(patch, fatal)
            try:
                featcache.gc(cache=cache, apply=True)
            except (KeyboardInterrupt, featcache.FeatcacheError):
                died = True
        after = open_store(copy)
        assert {key: after.load(after.listing(key).digests).tobytes() for key in keys} == rows
        assert after.verify() == []
        featcache.gc(cache=cache, apply=True)
        last = open_store(copy)
        assert (last.rows, len(copy.shards)) == (12, 1)
        assert {key: last.load(last.listing(key).digests).tobytes() for key in keys} == rows
        shutil.rmtree(cache)
        if shim.count < fatal:
            break
    assert not died
    assert fatal > 20
    assert smaller.loaded() == before


def test_a_damaged_store_is_not_collected(made):
    """What a damaged listing or shard names cannot be known: repair comes first."""
    flip(next(made.cache.rglob("listings/**/train-*.h5")))
    with pytest.raises(CacheError, match="sha256"):
        featcache.gc(cache=made.cache, apply=True)
    assert len(made.shards) == 5


def test_shards_of_different_makings_are_not_mixed(made):
    """What each part was made with is still known after a gc."""
    with open_store(made).writer() as writer:
        writer.record_provenance({"device": "elsewhere"})
        for number in range(2):
            writer.append(np.full((1, 32), number, np.uint8), np.full((1, 64), number, np.float32))
            writer.flush()
    featcache.gc(cache=made.cache, apply=True)
    assert sorted((part.made, part.rows) for part in open_store(made).shards) == [(0, 17), (1, 2)]
    (store,) = featcache.info(**made.where)["stores"]
    assert [entry["rows"] for entry in store["made"]] == [17, 2]


def leave_uncommitted(made: Made) -> str:
    """Take the last shard's line out of the log, as where a run was killed before it was written; return its name."""
    log = made.store / commits.LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    last = [line for line in lines if line.startswith(b'{"add"')][-1]
    log.write_bytes(b"".join(line for line in lines if line != last))
    (name,) = {path.name for path in made.shards} - {shard.name for shard in open_store(made).shards}
    return name


def test_an_uncommitted_shard_goes_once_its_images_are_embedded_again(made):
    """What a killed run published stays for repair to adopt until the store holds its images; then its file is gone."""
    name = leave_uncommitted(made)
    (kept,) = featcache.gc(cache=made.cache, apply=True)
    assert (kept.uncommitted, (made.store / "shards" / name).exists()) == (0, True)
    made.extract()
    (dry,) = featcache.gc(cache=made.cache)
    assert dry.uncommitted == 1
    (done,) = featcache.gc(cache=made.cache, apply=True)
    assert (done.uncommitted, (made.store / "shards" / name).exists()) == (1, False)
    assert featcache.verify(cache=made.cache) == []
