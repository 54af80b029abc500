"""Random weights, the same ones every time."""

from collections.abc import Iterator
from contextlib import contextmanager

SEED = 0


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """Draw what is drawn within from a seed, and leave torch's generator as it was.

    Args:
        seed: Of torch's generator.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
