"""Readers beside a writer and a gc, over a fork, in threads, and of a cache that may only be read."""

import concurrent.futures
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.files import StatLog
from featcache.store import FeatureStore, find_stores
from featcache.store.index import digest_column
from tests.faults.conftest import reopened
from tests.faults.world import KEY, World, digests_in_order, until


@pytest.mark.fault(20)
def test_readers_beside_an_extract_and_a_gc(many, tmp_path, zygote, saw, portion):
    """While extracts run, are killed, and a gc merges what they wrote: whoever reads sees a committed snapshot, every
    row right, and rows only ever come (but those that a gc forgets).
    """
    truth, reads = many.committed(), 0
    world = many.at(tmp_path / "cache")
    for turn in range(portion(6, 2)):
        run = zygote.start(world, batch_size=4)
        until(lambda: bool(find_stores(world.cache, StatLog(world.cache))))
        opened = find_stores(world.cache, StatLog(world.cache / "nothing"))[0]
        seen = 0
        while not run.ended():
            rows = world.committed()
            assert rows.items() <= truth.items()
            assert len(rows) >= seen
            seen, reads = len(rows), reads + 1
            if turn % 2 and seen > 60:
                run.kill()
        run.wait()
        world.extract()
        featcache.gc(cache=world.cache, apply=True)
        held = digests_in_order(opened) if all((opened.shard_folder / p.name).exists() for p in opened.shards) else []
        assert [row.tobytes() for row in opened.load(digest_column(held))] == [truth[digest] for digest in held]
        world.complete()
        shutil.rmtree(world.cache)
    assert reads > 5
    saw("all committed rows read while an extract runs", "a committed snapshot, every row right", reads)


@pytest.mark.fault(20)
def test_a_mapped_shard_outlives_its_name(hurt, saw):
    """A reader that has a shard mapped when gc removes or repair moves it goes on reading: no SIGBUS."""
    done = subprocess.run(
        [sys.executable, "-c", MAPPED, str(hurt.store), str(hurt.cache)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    saw("a mapped shard removed by gc", "still read, the same bytes; no SIGBUS")


MAPPED = """
import sys
from pathlib import Path
import numpy as np
import featcache
from featcache.files import StatLog
from featcache.store import FeatureStore
store = FeatureStore.open(Path(sys.argv[1]), StatLog(Path(sys.argv[2]) / "nothing"))
maps = [np.memmap(store.shard_folder / part.name, np.uint8, "r") for part in store.shards]
before = [bytes(one) for one in maps]
featcache.gc(cache=sys.argv[2], apply=True)
assert not any((store.shard_folder / part.name).exists() for part in store.shards)
assert [bytes(one) for one in maps] == before
"""


def rows_by(store: FeatureStore, digests: np.ndarray) -> bytes:
    return store.load(digests).tobytes()


def in_a_spawned_process(root: str, cache: str) -> bytes:
    store = FeatureStore.open(Path(root), StatLog(Path(cache) / "nothing"))
    return store.load(store.listing(KEY).digests).tobytes()


@pytest.mark.fault(31)
def test_a_store_opened_before_a_fork(many, saw, portion):
    """Used before the fork or not: parent and children read at once, over and over, and get the same bytes."""
    store = reopened(many)
    digests, expected = store.listing(KEY).digests, many.truth["train"].x.tobytes()
    for warmed in (False, True):
        if warmed:
            assert rows_by(store, digests) == expected
        children = []
        for _ in range(portion(8, 3)):
            pid = os.fork()
            if pid == 0:
                good = all(rows_by(store, digests[::-1])[::-1] != b"" for _ in range(3))
                good = good and all(rows_by(store, digests) == expected for _ in range(20))
                os._exit(0 if good else 1)
            children.append(pid)
        for _ in range(20):
            assert rows_by(store, digests) == expected
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * len(children)
        saw("a store opened before a fork, read by parent and child at once", "the same bytes", len(children))


@pytest.mark.fault(31)
def test_a_spawned_process_reads_the_same(many, saw):
    """Multiprocessing's spawn, as data loaders use it."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(in_a_spawned_process, str(many.store), str(many.cache)).result(timeout=120)
    assert found == many.truth["train"].x.tobytes()
    saw("a spawned process", "the same bytes")


@pytest.mark.fault(31)
def test_threads_share_a_store(many, saw):
    """Eight threads ask one store at once, the first question included."""
    for _ in range(5):
        store, order = reopened(many), np.random.default_rng(1).permutation(200)
        digests = store.listing(KEY).digests
        x = many.truth["train"].x
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda turn: store.load(digests[np.roll(order, turn)]), range(24)))  # noqa: B023
        for turn, rows in enumerate(found):
            assert rows.tobytes() == x[np.roll(order, turn)].tobytes()
        saw("eight threads on one store", "the same bytes", 24)


@pytest.fixture
def read_only(hurt, tmp_path) -> Iterator[World]:
    """The cache on a file system that is mounted read-only: root is bound by it too."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(
            f"no tmpfs can be mounted here ({made.stderr.decode().strip()}); tests/store shows it by permissions"
        )
    try:
        shutil.copytree(hurt.cache, place / "cache")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield hurt.at(place / "cache")
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.fault(32)
def test_a_read_only_cache(read_only, saw):
    """All that reads works; whatever must write ends with 5 and one message; a complete extract has nothing to do."""
    world, where = read_only, {"data": str(read_only.images), "cache": read_only.cache}
    before = {path: path.read_bytes() for path in world.cache.rglob("*") if path.is_file()}
    world.same()
    assert world.verify() == []
    assert featcache.info(**where)["stores"][0]["rows"] == 5
    assert featcache.gc(cache=world.cache)[0].rows == 5  # a dry run
    assert world.extract()[0].reused == 5
    saw("load, verify, info, gc's dry run, a complete extract", "work", 5)
    for what, ask in (
        ("extract into a new store", lambda: world.extract(stored="float16")),
        ("extract of a part", lambda: world.extract(limit=3)),
        ("gc", lambda: featcache.gc(cache=world.cache, apply=True)),
        ("repair", lambda: featcache.repair(cache=world.cache)),
        ("fit-head", lambda: featcache.fit_head(0.1, **where, epochs=1, check_seconds=None, device="cpu")),
    ):
        with pytest.raises(featcache.MachineError, match="Read-only file system") as told:
            ask()
        assert told.value.exit_code == 5
        saw(what, "exit 5, nothing changed")
    assert before == {path: path.read_bytes() for path in world.cache.rglob("*") if path.is_file()}
