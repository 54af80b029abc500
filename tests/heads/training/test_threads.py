"""Small steps are taken with a single thread."""

import contextlib

import pytest
import torch

from featcache.heads.config import HeadConfig
from featcache.heads.training import one_thread, threads
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from tests.builders import uneven_clusters


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("small", "used"), [(threads.SMALL_STEP, 1), (0, 2)])
def test_a_small_step_has_one_thread_and_a_large_one_all(small, used, monkeypatch):
    """A training of small steps computes with one thread; one of large steps with all; both give them back."""
    seen = set()
    step = TorchStack.step
    monkeypatch.setattr("featcache.heads.training.torch_stack.SMALL_STEP", small)
    monkeypatch.setattr(TorchStack, "step", lambda *of: (seen.add(torch.get_num_threads()), step(*of))[1])
    train_heads(uneven_clusters(), None, [HeadConfig(lr=0.1, epochs=2)])
    assert seen == {used}
    assert torch.get_num_threads() == 2


def test_threads_come_back_after_an_error():
    """However the block ends, torch has as many threads as before."""
    with contextlib.suppress(KeyboardInterrupt), one_thread(where=True):
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
