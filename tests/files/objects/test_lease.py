"""One writer of a store in a bucket: who holds it, when it is taken over, and what a holder that slept cannot do."""

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from featcache.errors import CacheError, MachineError
from featcache.files import AppendLog, hold_lock, hold_store, read_cache_file, seal_line
from featcache.files.objects import lease
from featcache.files.objects.bucket import Bucket, open_bucket
from featcache.files.objects.lease import held_lease
from featcache.files.objects.object_path import ObjectPath
from tests.builders import DIM, digests, extracted, listing, new_store, reopen


def leave_lease(root: ObjectPath, *, pid: int, machine: str = "", seconds: float = 60.0) -> None:
    """Leave what a holder that died without a word leaves behind."""
    holder = {"host": "elsewhere", "pid": pid, "since": "2026-11-30 12:00:00", "seconds": seconds, "machine": machine}
    open_bucket(root).overwrite(f"{root.key}/writer.json", json.dumps(holder).encode())


def test_the_second_is_told_who_holds_it(memory: ObjectPath) -> None:
    """Host, process id, since when, and after how many seconds it counts as gone; a reader needs no lease."""
    log = AppendLog(memory / "commits.jsonl")
    with hold_store(memory):
        log.append(seal_line({"number": 1}))
        told = rf"pid {os.getpid()} on .*since 20.*gone 60 s after.*--wait"
        with pytest.raises(CacheError, match=told), hold_store(memory):
            pytest.fail("two hold it")
        assert len(log.read(lambda _: "").lines) == 1
    with hold_store(memory):  # given back
        log.append(seal_line({"number": 2}))
    assert not (memory / "writer.json").exists()


def test_waiting_names_the_holder_once(memory: ObjectPath) -> None:
    """With --wait the message comes after that time, and who is waited for is said once."""
    told: list[str] = []
    leave_lease(memory, pid=7)
    with pytest.raises(CacheError, match=r"still, after 0\.6 s"), hold_store(memory, wait=0.6, waiting=told.append):
        pytest.fail("it is held elsewhere")
    (who,) = told
    assert "pid 7 on elsewhere, since 2026-11-30 12:00:00" in who


def test_a_lease_is_taken_over_after_its_stated_time(memory: ObjectPath) -> None:
    """Not before, by the clock of the object store; and then by one alone."""
    leave_lease(memory, pid=7, seconds=1.0)
    with pytest.raises(CacheError, match="pid 7 on elsewhere"), hold_store(memory):
        pytest.fail("it still counts")
    with hold_store(memory, wait=20.0):
        assert json.loads(read_cache_file(memory / "writer.json"))["pid"] == os.getpid()


def test_nobody_waits_for_a_dead_process_of_this_machine(memory: ObjectPath) -> None:
    """Its lease is taken over at once."""
    if not lease._machine():
        pytest.skip("this system does not tell one boot from another")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leave_lease(memory, pid=dead.pid, machine=lease._machine())
    with hold_store(memory):
        assert json.loads(read_cache_file(memory / "writer.json"))["pid"] == os.getpid()


def test_a_holder_that_only_slept_commits_nothing(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next line finds its number taken by who took over: it is told by whom, and the log has not its line."""
    monkeypatch.setattr(lease.Lease, "keep", lambda _: None)  # it sleeps: its lease is not renewed
    log = AppendLog(memory / "commits.jsonl")
    with hold_store(memory):
        log.append(seal_line({"number": 1}))
        asleep = held_lease(log.path)  # type: ignore[arg-type]
        assert asleep is not None
        leave_lease(memory, pid=7, seconds=0.0)  # what stands there is over
        with hold_store(memory, wait=20.0):
            log.append(seal_line({"number": 2}))
        with pytest.raises(CacheError, match="another process has taken over writing here"):
            asleep.append(seal_line({"number": 3}))
        with pytest.raises(CacheError, match="another process has taken over writing here"):
            asleep.publish(memory / "trunk.json", b"{}")
    open_bucket(memory).forget_log(f"{memory.key}/commits.jsonl")
    numbers = [json.loads(line)["number"] for line in log.read(lambda _: "").lines]
    assert numbers == [1, 2]


def test_taking_over_fences_before_anything_is_written(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sleeper is refused even where the one who took over has committed nothing yet."""
    monkeypatch.setattr(lease.Lease, "keep", lambda _: None)
    log = AppendLog(memory / "commits.jsonl")
    with hold_store(memory):
        asleep = held_lease(log.path)  # type: ignore[arg-type]
        assert asleep is not None
        leave_lease(memory, pid=7, seconds=0.0)
        with hold_store(memory, wait=20.0), pytest.raises(CacheError, match="taken over"):
            asleep.append(seal_line({"number": 1}))


def test_a_holder_that_slept_while_it_renewed_publishes_nothing(
    memory: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its put and the look at what stands there another took over: that lease is not taken for its own."""
    monkeypatch.setattr(lease.Lease, "keep", lambda _: None)
    with hold_store(memory):
        asleep = held_lease(memory / "commits.jsonl")
        assert asleep is not None

        def replace_and_sleep(*put: Any) -> None:
            monkeypatch.undo()
            asleep.bucket.replace(*put)
            leave_lease(memory, pid=7)

        monkeypatch.setattr(asleep.bucket, "replace", replace_and_sleep)
        for _ in range(2):
            with pytest.raises(CacheError, match="another process has taken over writing here"):
                asleep.renew()
        with pytest.raises(CacheError, match="another process has taken over writing here"):
            asleep.publish(memory / "trunk.json", b"{}")
    assert not (memory / "trunk.json").exists()
    assert b'"pid": 7' in read_cache_file(memory / "writer.json")  # nor given back in the name of the other


def test_a_renewal_whose_answer_is_lost_loses_no_lease(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands there is our own: nobody has taken over, and the work goes on."""
    monkeypatch.setattr(lease.Lease, "keep", lambda _: None)
    with hold_store(memory):
        held = held_lease(memory / "commits.jsonl")
        assert held is not None

        def replace_without_an_answer(*put: Any) -> None:
            monkeypatch.undo()
            held.bucket.replace(*put)
            raise MachineError("no answer")

        monkeypatch.setattr(held.bucket, "replace", replace_without_an_answer)
        with pytest.raises(MachineError):
            held.renew()
        held.renew()
        held.publish(memory / "trunk.json", b"{}")
    assert not (memory / "writer.json").exists()


@pytest.mark.parametrize("stands", [True, False])
def test_a_line_that_was_interrupted_takes_no_number_from_the_next(
    memory: ObjectPath, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    """Ctrl-C while a line is put: whether it stands is looked up, and nobody is said to have taken over."""
    log = AppendLog(memory / "commits.jsonl")
    create = Bucket.create

    def interrupt(bucket: Bucket, key: str, data: bytes | memoryview) -> None:
        monkeypatch.undo()
        if stands:
            create(bucket, key, data)
        raise KeyboardInterrupt

    with hold_store(memory):
        monkeypatch.setattr(Bucket, "create", interrupt)
        with pytest.raises(KeyboardInterrupt):
            log.append(seal_line({"number": 1}))
        log.append(seal_line({"number": 2}))
        log.append(seal_line({"number": 3}))
    open_bucket(memory).forget_log(f"{memory.key}/commits.jsonl")
    numbers = [json.loads(line)["number"] for line in log.read(lambda _: "").lines]
    assert numbers == [1, 2, 3] if stands else numbers == [2, 3]


def test_a_renewed_lease_is_not_taken_over(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that works for longer than its lease counts keeps it."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    with hold_store(memory), pytest.raises(CacheError, match="still, after 2 s"), hold_store(memory, wait=2.0):
        pytest.fail("it was renewed")


def test_a_lock_without_a_log_is_held_by_one(memory: ObjectPath) -> None:
    """`hold_lock`, for the log of runs and for splits, tells the second that another has it."""
    with hold_lock(memory / ".splits.lock", wait=0.0) as first, hold_lock(memory / ".splits.lock", wait=0.0) as second:
        assert (first, second) == (True, False)
    with hold_lock(memory / ".splits.lock", wait=0.0) as again:
        assert again


def test_rows_of_a_sleeper_are_lost_and_no_others(memory: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A StoreWriter that slept fails when it commits; the store holds what both had committed, each row once."""
    monkeypatch.setattr(lease.Lease, "keep", lambda _: None)
    store = new_store(memory)
    names = digests(["one", "two", "three"])
    rows = np.arange(3 * DIM, dtype=np.float32).reshape(3, DIM)
    with contextlib.ExitStack() as held:
        sleeper = held.enter_context(store.writer())
        sleeper.append(names[:1], rows[:1])
        sleeper.flush()
        sleeper.append(names[1:2], rows[1:2])
        leave_lease(store.root, pid=7, seconds=0.0)  # type: ignore[arg-type]
        with hold_store(store.root, wait=20.0):
            pass
        with pytest.raises(CacheError, match="taken over"):
            sleeper.commit(extracted(listing([0, 1]), names[:2]))
    open_bucket(memory).forget_log(f"{store.root.key}/commits.jsonl")  # type: ignore[attr-defined]
    assert reopen(store).rows == 1
    with reopen(store).writer() as writer:
        writer.append(names[1:], rows[1:])
        writer.commit(extracted(listing([0, 1, 2]), names))
    assert reopen(store).load(names).tobytes() == rows.tobytes()
