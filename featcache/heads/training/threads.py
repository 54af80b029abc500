"""How many threads torch computes with: two that meet after every small operation are slower than one.

On two cores that others use too, 90 steps on 120 rows took 2 to 5 seconds with two threads and 0.2 with one: a thread
waits for the other by computing nothing, and the other waits for its core.
"""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread(*, where: bool) -> Iterator[None]:
    """Have torch compute with a single thread, where that is so; with as many as before afterwards.

    Args:
        where: Whether a thread is enough.
    """
    threads = torch.get_num_threads()
    if where:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
