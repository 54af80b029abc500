"""Which rows each epoch draws, in which order. On the CPU, so the same for every device."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from featcache.heads import HeadConfig


def orders(rows: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """The order in which each epoch draws the rows, (rows,) int64.

    These are the draws of torch's `RandomSampler(…, generator=torch.Generator().manual_seed(seed))`.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield torch.randperm(rows, generator=generator)


def balanced(y: Tensor, epochs: int, seed: int) -> Iterator[Tensor]:
    """As many draws as there are rows, with replacement: a class at random, then one of its rows."""
    generator = torch.Generator().manual_seed(seed)
    by_class = torch.argsort(y, stable=True)
    _, counts = torch.unique(y, return_counts=True)  # the classes that have rows, sorted
    starts = counts.cumsum(0) - counts
    for _ in range(epochs):
        drawn = torch.randint(len(counts), (len(y),), generator=generator)
        share = torch.rand(len(y), generator=generator, dtype=torch.float64)
        yield by_class[starts[drawn] + (share * counts[drawn]).long()]


def draws(y: Tensor, config: HeadConfig) -> Iterator[Tensor]:
    """What a head's sampler draws, an epoch at a time, (rows,) int64."""
    if config.sampler == "balanced":
        return balanced(y, config.epochs, config.seed)
    return orders(len(y), config.epochs, config.seed)


def ahead(drawn: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same draws, each made by a thread while the one before is learnt from: a GPU need not wait for the host's."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, drawn, None)
        while (order := coming.result()) is not None:
            coming = thread.submit(next, drawn, None)
            yield order
