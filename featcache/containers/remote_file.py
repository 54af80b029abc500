"""RemoteFile: a file of a bucket or of the Hub, read by ranges: nothing is copied to this machine first.

Who reads in order gets blocks, and those behind them are on their way meanwhile; a short step ahead reads through what
lies between, a long one skips it. `read_at` fetches just what it is asked for. Every range is of the version that was
opened: `fetch` refuses another.
"""

import io
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from featcache.containers.container import ContainerError
from featcache.files import FileStat

CHANGED = "its container changed while it was read; run again"
BLOCK = 1 << 18  # bytes that one request of a reading in order fetches
_IN_FLIGHT = 16  # requests at a time
_STEP = 4  # blocks; a step ahead that is longer skips what lies between
_KEPT = 64  # blocks that stay in memory, of one file


class RemoteFile(io.RawIOBase):
    """One version of a file elsewhere, which a library reads as an open file. `read_at` is thread-safe."""

    can_change = False  # a range of another version is never returned

    def __init__(self, status: FileStat, fetch: Callable[[int, int], bytes]) -> None:
        """Hold what was opened; nothing is fetched yet.

        Args:
            status: What stands for its stat; the first number is its size, bytes.
            fetch: Returns the bytes from one place up to another. A FileExistsError says that there is another version
                by now.
        """
        self.status, self._fetch = status, fetch
        self._place, self._last = 0, -1  # byte that is read next, and block that was used last
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()

    def is_unchanged(self) -> bool:
        """Return True: what was read is of the version that was opened."""
        return True

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes from any place, fewer where the file ends before.

        Args:
            offset: Where to begin.
            size: How many.

        Raises:
            ContainerError: there is another version by now, or none.
            MachineError: whoever has it does not answer.
        """
        end = min(offset + size, self.status[0])
        try:
            return self._fetch(offset, end) if end > offset else b""
        except FileExistsError:
            raise ContainerError(CHANGED) from None
        except FileNotFoundError:
            raise ContainerError("its container is gone; run again") from None

    def as_file(self) -> "RemoteFile":
        """Return itself, for a library that reads files."""
        return self

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return where is read next."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it.

        Args:
            offset: Bytes from the beginning, from here, or from the end.
            whence: Which of these, as for any file.
        """
        self._place = offset + (0, self._place, self.status[0])[whence]
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes: all of them, unless the file ends before.

        Args:
            size: How many; fewer than 0: all that follow.

        Raises:
            ContainerError, MachineError: as `read_at`.
        """
        rest = max(0, self.status[0] - self._place)
        wanted = rest if size is None or size < 0 else min(size, rest)
        parts = []
        while wanted:
            number, start = divmod(self._place, BLOCK)
            part = self._block(number)[start : start + wanted]
            if not part:
                raise ContainerError(CHANGED)
            parts.append(part)
            self._place += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of what was fetched."""
        for block in self._blocks.values():
            block.cancel()
        self._blocks.clear()
        super().close()

    def _block(self, number: int) -> bytes:
        """Return a block; those that follow are asked for, too, where one is read behind the other."""
        ahead = _IN_FLIGHT if 0 <= number - self._last <= _STEP else 1
        end = min(number + ahead, -(-self.status[0] // BLOCK))
        for each in range(number, end):
            if each not in self._blocks:
                self._blocks[each] = _threads().submit(self.read_at, each * BLOCK, BLOCK)
        self._last = number
        self._blocks.move_to_end(number)
        try:
            block = self._blocks[number].result()
        except BaseException:
            self._blocks.pop(number, None)  # what failed may pass: it is asked for again
            raise
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
        return block


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that wait for blocks."""
    return ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="featcache-ranges")
