"""The shim: call N of those that change the disk fails, for every N."""

import shutil
import signal
from pathlib import Path

import pytest

from featcache.files import StatLog
from featcache.store import commits, find_stores
from tests.faults.attempts import STAT_LOG_CALLS, attempt, holds_up, offset, steps_of
from tests.faults.shim import Fails, FailsFsync, Shim, WritesShort
from tests.faults.world import litter


@pytest.mark.fault(2, 3)
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EFBIG", "EIO"])
def test_a_call_that_fails_costs_nothing_that_was_committed(small, tmp_path, saw, portion, code, persistent):
    """Call 1, 2, … of a real extract fails: exit 5 with the way out (or the run goes on), no litter, and the next run
    ends byte for byte as the undisturbed one.
    """
    fault, when = (3 if code == "EIO" else 2), "from then on" if persistent else "once"
    stride = portion(6 if persistent or code in ("EDQUOT", "EFBIG") else 1, 30)  # ENOSPC and EIO once: at every call
    steps = steps_of(small, tmp_path / "count")
    for number in range(offset((code, persistent), stride), steps + 1, stride):
        world = small.at(tmp_path / "cache")
        fails = Fails(number, code, persistent=persistent)
        error, shim = attempt(world, fails)
        if not fails.struck:  # stat.log was written in fewer calls than in the run that was counted
            assert error is None
            assert len(shim.calls) < number  # there was no such call
            assert number > steps - STAT_LOG_CALLS
            holds_up(small, world, {})
            shutil.rmtree(world.cache)
            continue
        if error is not None:
            assert error.exit_code == 5, shim.calls[-1]
            assert ("make room" in str(error)) == (code != "EIO"), error
            if not (persistent and code == "EIO"):  # a disk that refuses even unlink keeps what stands on it
                assert litter(world.cache) == [], shim.calls
        seen = (
            "went on: a memory was not written" if error is None else "exit 5, no scratch file, the next run complete"
        )
        saw(f"{code} from call N of an extract, {when}", seen, fault=fault)
        holds_up(small, world, {})
        shutil.rmtree(world.cache)


@pytest.mark.fault(2)
@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
def test_what_was_there_before_stays(small, hurt, tmp_path, saw, portion, code):
    """The same where the store holds rows already: every one of them stays, whichever call fails."""
    first = small.at(tmp_path / "begun")
    first.extract(limit=3)
    before, stride = first.committed(), portion(2, 20)
    assert len(before) == 3
    for number in range(offset(code, stride), 200, stride):
        world = small.at(shutil.copytree(first.cache, tmp_path / "cache"))
        fails = Fails(number, code)
        error, _ = attempt(world, fails)
        done = not fails.struck
        if not done:
            saw(f"{code} at call N of an extract into a store with rows", "every committed row stayed")
            assert error is None or error.exit_code == 5
            holds_up(small, world, before)
        shutil.rmtree(world.cache)
        if done:
            break
    assert done


@pytest.mark.fault(3)
def test_an_fsync_that_fails_is_not_tried_again(small, tmp_path, saw, portion):
    """The n-th fsync gives EIO: the same file is not synced again in that run, and its shard is not committed."""
    for number in range(1, 100, portion(1, 4)):
        world, fault = small.at(tmp_path / "cache"), FailsFsync(number)
        error, shim = attempt(world, fault)
        if fault.count < number:
            break
        at = next(
            place for place, (name, _) in enumerate(shim.calls) if name == "fsync" and _fsyncs(shim, place) == number
        )
        path = shim.calls[at][1]
        if not Path(path).is_dir():
            assert [name for name, about in shim.calls[at + 1 :] if about == path and name == "fsync"] == [], path
        found = find_stores(world.cache, StatLog(world.cache)) if world.cache.is_dir() else []
        shards = {part.name for store in found for part in store.shards}
        struck = Path(path).name.removeprefix(".").split(".h5.")[0] + ".h5"
        assert struck not in shards
        assert error is None or error.exit_code == 5
        kind = "a folder" if Path(path).is_dir() else "the log" if path.endswith(commits.LOG_NAME) else "a file"
        saw(f"EIO from the fsync of {kind}", "exit 5, not tried again" if error else "went on: only a note was lost")
        holds_up(small, world, {})
        shutil.rmtree(world.cache)
    assert number > 15


def _fsyncs(shim: Shim, place: int) -> int:
    return sum(name == "fsync" for name, _ in shim.calls[: place + 1])


@pytest.mark.fault(4)
@pytest.mark.parametrize("most", [1, 7, 1000])
def test_short_writes_complete(small, tmp_path, saw, most):
    """A kernel that takes a few bytes at a time gets all of them."""
    fault, world = WritesShort(most), small.at(tmp_path / "cache")
    error, _ = attempt(world, fault)
    assert error is None
    assert fault.short > 0
    saw(f"writes of at most {most} bytes", "complete", fault.short)
    holds_up(small, world, small.committed())


@pytest.mark.fault(4)
def test_interrupted_calls_complete(small, tmp_path, saw):
    """A signal every half millisecond, whose handler lets calls be interrupted (no SA_RESTART): nothing is lost."""
    ticks = [0]

    def tick(*_: object) -> None:
        ticks[0] += 1

    before = signal.signal(signal.SIGALRM, tick)
    signal.siginterrupt(signal.SIGALRM, True)
    world = small.at(tmp_path / "cache")
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        world.extract()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ticks[0] > 20
    saw("real signals during an extract (EINTR)", "complete", ticks[0])
    holds_up(small, world, small.committed())
