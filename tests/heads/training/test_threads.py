"""Small steps are taken with a single thread."""

import contextlib

import pytest
import torch

from featcache.heads.config import HeadConfig
from featcache.heads.training import numba_stack, one_thread
from featcache.heads.training.kernels.thread_team import ThreadTeam
from featcache.heads.training.train import train_heads
from tests.builders import uneven_clusters


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("least", "members"), [(numba_stack.LEAST_SHARED_STEP, 1), (0, 2)])
def test_a_small_step_has_one_thread_and_a_large_one_all(least, members, monkeypatch):
    """Two threads that meet in every small step are slower than one; a large step is shared by all."""
    seen = set()
    run = ThreadTeam.run
    monkeypatch.setattr(numba_stack, "LEAST_SHARED_STEP", least)
    monkeypatch.setattr(ThreadTeam, "run", lambda team, task: (seen.add(team.members), run(team, task))[1])
    train_heads(uneven_clusters(), None, [HeadConfig(lr=0.1, epochs=2)])
    assert seen == {members}


def test_threads_come_back_after_an_error():
    """However the block ends, torch has as many threads as before."""
    with contextlib.suppress(KeyboardInterrupt), one_thread(where=True):
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
