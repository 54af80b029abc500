"""What is fetched from a server: torch.hub sets no time limit."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

_TIMEOUT = 30.0  # seconds without a byte from the server


@contextmanager
def network_timeout(seconds: float = _TIMEOUT) -> Iterator[None]:
    """Set a time limit on every network read: torch.hub sets none, and would wait for ever.

    Args:
        seconds: Without a byte from the server.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
