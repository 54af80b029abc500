"""SIGKILL at every step of an extract, and at random."""

import contextlib
import random
import shutil
import signal
import time

import pytest

from tests.faults.attempts import STAT_LOG_CALLS, holds_up, offset, steps_of
from tests.faults.world import World


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
