"""Random weights, the same ones every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SEED = 0
_SEED = ContextVar("the seed of random weights", default=SEED)


@contextmanager
def seeded(seed: int | None = None) -> Iterator[None]:
    """Draw what is drawn within from a seed, and leave torch's generator as it was.

    Args:
        seed: Of torch's generator; None: that of `drawing_from`, else 0.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED.get() if seed is None else seed)
        yield


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Have every `seeded` within, where it states no seed of its own, draw from this one.

    The weights of a network that is trained from scratch follow from the seed of its training so.

    Args:
        seed: Of torch's generator.
    """
    before = _SEED.set(seed)
    try:
        yield
    finally:
        _SEED.reset(before)
