"""The shim: call N of those that change the disk fails, or is the last one, for every N."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import featcache
from featcache.errors import FeatcacheError
from featcache.files import StatLog, publishing
from featcache.store import commits, find_stores
from tests.faults.shim import Fails, FailsFsync, Fault, Shim, WritesShort, lets_pass
from tests.faults.world import World, litter


@contextlib.contextmanager
def shimmed(fault: Fault) -> Iterator[Shim]:
    """publish.py's `os` is the shim."""
    shim, real = Shim(fault), publishing.os
    publishing.os = shim  # type: ignore[assignment]
    try:
        yield shim
    finally:
        publishing.os = real


def attempt(world: World, fault: Fault, **options) -> tuple[FeatcacheError | None, Shim]:
    """An extract under a fault; whatever is no error of ours is a failure of the test."""
    with shimmed(fault) as shim:
        try:
            world.extract(**options)
        except FeatcacheError as error:
            return error, shim
    return None, shim


STAT_LOG_CALLS = 3 * 3  # open, write and close, for each of three shards at the most


def steps_of(small: World, cache: Path) -> int:
    """How many calls an undisturbed extract makes."""
    _, shim = attempt(small.at(cache), lets_pass)
    shutil.rmtree(cache)
    assert len(shim.calls) > 60
    return len(shim.calls)


def holds_up(small: World, world: World, before: dict[bytes, bytes]) -> None:
    """What must hold after any fault; then the run is taken up again and ends as the undisturbed one."""
    truth = small.committed()
    now = world.committed() if world.cache.is_dir() else {}
    assert before.items() <= now.items(), "a committed row was lost or changed"
    assert now.items() <= truth.items(), "a row that no undisturbed run gives"
    assert world.verify() == []
    world.complete()


def offset(seed: object, stride: int) -> int:
    """Where a run of every `stride`-th step begins: each kind of fault at steps of its own."""
    return random.Random(str(seed)).randrange(1, stride + 1)


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


@pytest.mark.fault(1)
@pytest.mark.parametrize("moment", ["before", "amid", "after"])
def test_sigkill_at_every_step(small, tmp_path, zygote, saw, portion, moment):
    """A real process kills itself before, amid or after call 1, 2, …: the next run ends as the undisturbed one."""
    stride = portion(1 if moment == "amid" else 4, 20)  # a call that is no write has no middle: the kill is before it
    steps = steps_of(small, tmp_path / "count")
    for number in range(offset(moment, stride), steps + 1, stride):
        world = small.at(tmp_path / "cache")
        died = zygote.run(world, kill_at=number, moment=moment)
        # stat.log grows by what was read meanwhile: in one line of calls for several shards, or one for each.
        assert died == -signal.SIGKILL or (died == 0 and number > steps - STAT_LOG_CALLS)
        saw(f"SIGKILL {moment} call N", "committed rows intact, verify clean, the next run complete and identical")
        holds_up(small, world, {})
        shutil.rmtree(world.cache)


@pytest.fixture(scope="module")
def many(nano, tmp_path_factory) -> World:
    """120 images, shards of 4: some 0.8 s of work."""
    from tests.conftest import write_images

    here = tmp_path_factory.mktemp("many")
    write_images(here / "digits", {"train": {str(digit): 12 for digit in range(10)}})
    return World.undisturbed(here / "digits", here / "cache", nano.weights, shard_rows=4)


@pytest.mark.fault(1)
def test_random_kills_lose_at_most_one_shard_of_work(many, tmp_path, zygote, saw, portion):
    """SIGKILL at random moments, the next run going on where the last was killed, until it is complete; and again.

    Of what a run had embedded, all but the rows that waited for their shard (and the batch in hand) are committed.
    """
    kills, killed, most_lost, moments = portion(500, 25), 0, 0, random.Random(11)
    truth, watch = many.committed(), tmp_path / "embedded"
    while killed < kills:
        world = many.at(tmp_path / "cache")
        before: dict[bytes, bytes] = {}
        while killed < kills:
            watch.write_text("0       ")
            run = zygote.start(world, watch=str(watch), batch_size=4)
            time.sleep(moments.uniform(0, 0.6))
            with contextlib.suppress(ProcessLookupError):
                run.kill()
            code = run.wait()
            now = world.committed() if world.cache.is_dir() else {}
            assert before.items() <= now.items() <= truth.items()
            assert world.verify() == []
            if code == 0:
                break
            assert code == -signal.SIGKILL
            killed += 1
            lost = int(watch.read_text()) - (len(now) - len(before))
            most_lost = max(most_lost, lost)
            before = now
        world.complete()
        shutil.rmtree(world.cache)
    assert most_lost <= many.shard_rows
    saw(
        "SIGKILL of a real extract at a random moment",
        f"no committed row lost, no damaged file, the same end; at most {most_lost} embedded rows lost "
        f"(a shard has {many.shard_rows})",
        killed,
    )


FULL_DISK = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24, 28]  # pages of 4,096 bytes that are free


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A real disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(
            f"no tmpfs can be mounted here ({made.stderr.decode().strip()}); the size limit below stands for it"
        )
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.fault(2)
def test_a_disk_that_is_really_full(small, disk, tmp_path, zygote, saw, portion):
    """A tmpfs with so many pages free: exit 5, the way out, no scratch file; with room again the run is completed."""
    said = tmp_path / "said"
    for pages in FULL_DISK[:: portion(1, 4)]:
        world, filler = small.at(disk / "cache"), disk / "filler"
        filler.write_bytes(b"")
        room = os.statvfs(disk)
        filler.write_bytes(bytes((room.f_bavail - pages) * room.f_bsize))
        code = zygote.run(world, said=str(said))
        assert code in (0, 5), said.read_text()
        if code:
            assert "make room" in said.read_text()
            assert "Traceback" not in said.read_text()
        assert litter(disk) == []
        saw("a tmpfs that is full after some pages", "exit 5, no scratch file" if code else "had room enough")
        filler.unlink()
        holds_up(small, world, {})
        shutil.rmtree(world.cache)


@pytest.mark.fault(2)
def test_a_file_that_may_not_grow(small, tmp_path, zygote, saw, portion):
    """RLIMIT_FSIZE at many sizes, the write failing in the middle: exit 5 and nothing lost."""
    said, seen = tmp_path / "said", set()
    for size in range(700, 9000, portion(200, 2100)):  # what is said must fit too
        world = small.at(tmp_path / "cache")
        code = zygote.run(world, said=str(said), file_size=size, workers=1)
        assert code in (0, 5), said.read_text()
        seen.add(code)
        assert litter(world.cache) == []
        saw("RLIMIT_FSIZE in the middle of a file", "exit 5, no scratch file" if code else "no file was that large")
        holds_up(small, world, {})
        shutil.rmtree(world.cache)
    assert 5 in seen
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.fault(2)
def test_the_command_line_ends_with_5(small, disk):
    """Featcache extract on a full disk: exit 5, one message, no traceback."""
    filler = disk / "filler"
    filler.write_bytes(b"")
    room = os.statvfs(disk)
    filler.write_bytes(bytes((room.f_bavail - 6) * room.f_bsize))
    words = ["extract", "--data", small.images, "--cache", disk / "cache", "--arch", "vit_nano_16"]
    done = subprocess.run(
        [sys.executable, "-m", "featcache", *words, "--weights", small.weights, "--precision", "fp32"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert "No space left on device; make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert featcache.verify(cache=disk / "cache") == []
