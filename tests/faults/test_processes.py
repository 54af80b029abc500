"""Several processes that write: two writers, workers without a parent, locks that do nothing."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.errors import CacheError
from featcache.files import StatLog
from featcache.store import commits, find_stores
from featcache.store.index import digest_column
from tests.faults.conftest import reopened
from tests.faults.world import digests_in_order, until


def lines(cache: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in cache.glob("stores/*/commits.jsonl"))


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
