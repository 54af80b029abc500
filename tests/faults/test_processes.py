"""Several processes: two writers, readers beside a writer, workers without a parent, forks and threads."""

import concurrent.futures
import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.errors import CacheError
from featcache.files import StatLog
from featcache.store import FeatureStore, commits, find_stores
from featcache.store.index import digest_column
from tests.conftest import write_images
from tests.faults.conftest import reopened
from tests.faults.world import World

KEY = ("digits", "all", "train")


@pytest.fixture(scope="module")
def many(nano, tmp_path_factory) -> World:
    """200 images, shards of 4."""
    here = tmp_path_factory.mktemp("many")
    write_images(here / "digits", {"train": {str(digit): 20 for digit in range(10)}})
    return World.undisturbed(here / "digits", here / "cache", nano.weights, shard_rows=4)


def until(holds, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def lines(cache: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in cache.glob("stores/*/commits.jsonl"))


def digests_in_order(store: FeatureStore) -> list[bytes]:
    from featcache.store import shard

    return [row.tobytes() for part in store.shards for row in shard.read_digests(store.shard_folder, part)]


@pytest.mark.fault(17)
def test_a_stopped_writer_is_named_and_goes_on(many, tmp_path, zygote, saw):
    """SIGSTOP the writer: a second extract leaves at once (exit 3) with its process id; one that waits gets the store
    after SIGCONT. No image is embedded twice, and no row stands twice.
    """
    world = many.at(tmp_path / "cache")
    first = zygote.start(world, batch_size=4)
    until(lambda: lines(world.cache) >= 3)
    first.kill(signal.SIGSTOP)
    held = lines(world.cache)
    for _ in range(3):
        with pytest.raises(CacheError, match=f"pid {first.pid} on .*, since ") as told:
            world.extract()
        assert told.value.exit_code == 3
        assert lines(world.cache) == held
        saw("a second extract while the holder is stopped", "exit 3 with host, pid and since when; nothing written")
    assert world.committed().items() <= many.committed().items()
    second = zygote.start(world, batch_size=4, wait=60.0)
    time.sleep(0.3)
    assert not second.ended()
    first.kill(signal.SIGCONT)
    assert (first.wait(), second.wait()) == (0, 0)
    rows = digests_in_order(reopened(world))
    assert len(rows) == len(set(rows)) == 200
    world.complete()
    saw(
        "a second extract that waits (--wait) while the holder is stopped and continued",
        "both end with 0; no row twice",
    )


@pytest.mark.fault(17)
def test_extracts_that_start_together(many, tmp_path, zygote, saw):
    """Four at once on an empty cache: each ends with 0 or is told who holds the store; together, then, one store."""
    world = many.at(tmp_path / "cache")
    runs = [zygote.start(world, batch_size=4, wait=wait) for wait in (0.0, 0.0, 60.0, 60.0)]
    codes = [run.wait() for run in runs]
    assert set(codes) <= {0, 3}
    assert codes[2:] == [0, 0]
    rows = digests_in_order(reopened(world))
    assert len(rows) == len(set(rows)) == 200
    world.complete()
    saw("four extracts started at once", "each exit 0 or 3; one store, no row twice", 4)


def workers_of(pid: int) -> list[int]:
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in found for child in children]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.fault(18)
def test_a_parent_that_is_killed_holds_nobody_up(many, tmp_path, zygote, saw, portion):
    """SIGKILL with three loader workers at work: the next run gets the lock at once, though the workers may still be
    ending; they end by themselves.
    """
    world = many.at(tmp_path / "cache")
    for _ in range(portion(10, 2)):
        run = zygote.start(world, workers=3, batch_size=4)
        until(lambda: lines(world.cache) >= 2)
        workers = workers_of(run.pid)
        assert len(workers) == 3
        run.kill(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        world.extract(limit=20)  # no CacheError: the lock was the parent's alone
        until(lambda: not any(map(lives, workers)), 20)  # noqa: B023
        world.complete()
        saw("a parent killed while three workers live", "the next run proceeds at once; the workers end")
        shutil.rmtree(world.cache)


@pytest.fixture(params=["ENOSYS", "ENOLCK"])
def no_locks(request, monkeypatch) -> str:
    """A file system without locks: flock says so."""

    def refused(handle: int, operation: int) -> None:
        raise OSError(getattr(errno, request.param), os.strerror(getattr(errno, request.param)))

    monkeypatch.setattr(fcntl, "flock", refused)
    return str(request.param)


@pytest.mark.fault(19)
def test_a_file_system_without_locks(no_locks, many, small, tmp_path, saw):
    """The fallback: a file that only one can create. A second writer is told, with the file to remove; a holder that
    died on this host is found out; the result is the same.
    """
    world = small.at(tmp_path / "cache")
    with contextlib.suppress(KeyboardInterrupt):
        world.extract(limit=2)
    store = find_stores(world.cache, StatLog(world.cache))[0]
    with store.writer(), pytest.raises(CacheError, match=f"pid {os.getpid()} .*{'.lock.held'}"):
        world.extract()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with store.writer():
        held = (store.root / ".lock.held").read_bytes()
    (store.root / ".lock.held").write_bytes(held.replace(str(os.getpid()).encode(), str(dead.pid).encode()))
    world.complete()
    saw(f"flock gives {no_locks}", "another writer is told; a dead holder is found out; the same result")


@pytest.mark.fault(19)
def test_locks_that_do_nothing(small, tmp_path, monkeypatch, saw):
    """Locks that say yes to everybody, as some network mounts do: two writers, step by step in turn, in every order of
    their shards. Both end; rows may stand twice, and the first committed counts; nothing is lost or damaged.
    """
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    truth = small.committed()
    digests, x = digest_column(list(truth)), np.array([np.frombuffer(row, np.float32) for row in truth.values()])
    for order in ("aabb", "abab", "abba", "baba", "bbaa"):
        world = small.at(shutil.copytree(small.cache, tmp_path / order))
        (world.store / commits.LOG_NAME).write_bytes(b"")
        shutil.rmtree(world.store / "shards")
        with contextlib.ExitStack() as both:
            writers = {name: both.enter_context(reopened(world).writer(shard_rows=3)) for name in "ab"}
            parts = {name: iter([(0, 3), (3, 5)]) for name in "ab"}
            for name in order:
                start, end = next(parts[name])
                writers[name].append(digests[start:end], x[start:end])
                writers[name].flush()
        assert world.committed() == truth
        assert world.verify() == []
        featcache.gc(cache=world.cache, apply=True, everything=True)
        assert world.verify() == []
        world.complete()
        saw("locks without effect, two writers in turn", "both end; no row lost; verify clean; gc drops the copies")


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
