"""SIGKILL at random moments of a real training, which goes on each time: the end is that of one never disturbed."""

import contextlib
import os
import random
import signal
import time

import pytest

from tests.finetuning.killed_process import END, training_processes

KILLS = 20 if os.environ.get("FEATCACHE_FAULTS") == "all" else 2  # of each plan; `make finetune-kills` does all
PLANS = ("averaged", "augmented") if KILLS == 20 else ("averaged",)


@pytest.fixture(scope="module")
def processes():
    """A process that has everything loaded, and forks for each training."""
    with training_processes() as forks:
        yield forks


@pytest.mark.parametrize("plan", PLANS)
def test_killed_at_random_moments_a_training_ends_with_the_same_weights(processes, plan, tmp_path):
    """A real process, killed at random moments and started again each time, ends with the very same bytes."""
    whole, killed, moments = tmp_path / "whole", 0, random.Random(plan)
    whole.mkdir()
    (tmp_path / "first").mkdir()
    assert processes.wait(processes.start(tmp_path / "first", plan)) == 0  # until everything has been imported once
    began = time.monotonic()
    assert processes.wait(processes.start(whole, plan)) == 0
    seconds, truth = time.monotonic() - began, (whole / END).read_bytes()
    assert (tmp_path / "first" / END).read_bytes() == truth
    rounds = 0
    while killed < KILLS:
        folder = tmp_path / str(rounds)
        folder.mkdir()
        rounds, code = rounds + 1, -signal.SIGKILL
        while code == -signal.SIGKILL:
            pid = processes.start(folder, plan)
            if killed < KILLS:
                time.sleep(moments.uniform(0, seconds))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            code = processes.wait(pid)
            killed += code == -signal.SIGKILL
        assert code == 0
        assert (folder / END).read_bytes() == truth
    print(f"{plan}: {killed} kills in {rounds} trainings of {seconds:.2f} s, each ended with the same bytes")  # noqa: T201
