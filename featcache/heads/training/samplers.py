"""Which rows each epoch draws, in which order. On the CPU, so the same for every device."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from featcache.heads import HeadConfig

Draw = TypeVar("Draw")


class DrawnRows(NamedTuple):
    """What an epoch draws, in the order of its steps."""

    images: Tensor  # (rows,) int64, which image each row is of: its place among the labels
    rows: Tensor  # (rows,) int64, where the embedding of the view that was drawn stands


def shuffled(rows: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Yield the order in which each epoch draws the rows, (rows,) int64.

    These are the draws of torch's `RandomSampler(…, generator=torch.Generator().manual_seed(seed))`.

    Args:
        rows: How many there are.
        epochs: How many orders are drawn.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield torch.randperm(rows, generator=generator)


def balanced(y: Tensor, epochs: int, seed: int) -> Iterator[Tensor]:
    """Yield as many draws as there are rows, with replacement: a class at random, then one of its rows; (rows,) int64.

    Args:
        y: (rows,) int64, the class of each row.
        epochs: how many epochs are drawn.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    by_class = torch.argsort(y, stable=True)
    _, counts = torch.unique(y, return_counts=True)  # the classes that have rows, sorted
    starts = counts.cumsum(0) - counts
    for _ in range(epochs):
        classes = torch.randint(len(counts), (len(y),), generator=generator)
        position = torch.rand(len(y), generator=generator, dtype=torch.float64)  # within the class, from 0 to 1
        yield by_class[starts[classes] + (position * counts[classes]).long()]


def sampled(y: Tensor, config: HeadConfig) -> Iterator[Tensor]:
    """Yield what the sampler of a head's settings draws, an epoch at a time, (rows,) int64; y (rows,) on the host."""
    if config.sampler == "balanced":
        return balanced(y, config.epochs, config.seed)
    return shuffled(len(y), config.epochs, config.seed)


def draw_views(orders: Iterator[Tensor], views: int, seed: int) -> Iterator[DrawnRows]:
    """Yield what each epoch draws, with one of the views of each image, every one equally likely.

    The views have random numbers of their own: the images come in the order that they come in without views.

    Args:
        orders: which images each epoch draws, (rows,) int64, all of the same length.
        views: how many there are of each image; row `view * rows + image` has the embedding of one.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    for order in orders:
        if views == 1:
            yield DrawnRows(order, order)
        else:
            yield DrawnRows(order, torch.randint(views, order.shape, generator=generator) * len(order) + order)


def prefetched(draws: Iterator[Draw]) -> Iterator[Draw]:
    """Yield the same draws, each made by a thread while the epoch before it trains, so that a GPU need not wait."""
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, draws, None)
        while (order := upcoming.result()) is not None:
            upcoming = thread.submit(next, draws, None)
            yield order
