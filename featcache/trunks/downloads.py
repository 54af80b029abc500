"""What torchvision publishes: torch.hub sets no time limit, and hashes what it fetches, not what it finds."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featcache.errors import MachineError
from featcache.files import hash_file

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


def published_sha256(file: str) -> str:
    """Return the start of a published file's sha256, which its name ends in: 8 hex digits; "" where it does not.

    Args:
        file: Its name, such as "vit_b_16-c867db91.pth".
    """
    match = re.search(r"-([0-9a-f]{8})\.pth$", file)
    return match[1] if match else ""


def refuse_damaged_file(file: Path) -> None:
    """Refuse a published file that is there and is not what was published.

    Args:
        file: Where it is, or would be; its name says the start of its sha256.

    Raises:
        MachineError: it is damaged, or another one, or cannot be read.
    """
    start = published_sha256(file.name)
    if file.exists() and not hash_weights_file(file).startswith(start):
        raise MachineError(f"{file}: its sha256 does not start with {start}: damaged. Remove it to fetch it again.")


def hash_weights_file(file: Path) -> str:
    """Return the sha256 of a file's bytes, 64 hex digits.

    Raises:
        MachineError: it cannot be read, or is no regular file.
    """
    try:
        return hash_file(file, follow_links=True).hex()
    except OSError as error:
        raise MachineError(f"weights {file}: cannot be read: {error.strerror}") from None
