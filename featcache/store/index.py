"""Which row holds a digest: sorted tables of 8 bytes a row, looked up many at a time.

A slot is one number: the first bits of a digest, and below them its position. Sorted as plain numbers, slots that begin
alike stay in commit order, and the digests themselves stay where they are: only those that a question could mean
are looked at again. Slots are sorted in runs that a core's cache holds better than the whole, by all cores at once; a
question goes through the runs in turn. docs/benchmarks.md has what a hundred million rows cost.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from featcache.machine import cores

Digests = npt.NDArray[np.uint8]
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
RUN = 1 << 22  # slots that are sorted together


class Part(Protocol):
    """A stretch of the digests, in commit order: one shard's."""

    def __len__(self) -> int: ...

    def whole(self) -> Digests:
        """All of them, (len, 32), checked."""

    def take(self, rows: npt.NDArray[np.int64]) -> Digests:
        """Some of them, (n, 32)."""


class InMemory:
    """Digests that are at hand, (rows, 32)."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests

    def __len__(self) -> int:
        return len(self._digests)

    def whole(self) -> Digests:
        """As they are."""
        return self._digests

    def take(self, rows: npt.NDArray[np.int64]) -> Digests:
        """Some of them."""
        return self._digests[rows]


class DigestIndex:
    """Digests in commit order -> their position there; of equal digests, the first committed one."""

    def __init__(self, digests: Digests | Sequence[Part]) -> None:
        self._parts: Sequence[Part] = [InMemory(digests)] if isinstance(digests, np.ndarray) else digests
        self.starts = np.cumsum([0, *map(len, self._parts)])  # (parts + 1,), the position of each part's first row
        self._bits = np.uint64(int(self.starts[-1]).bit_length())  # of a slot that hold the position
        slots = np.empty(self.starts[-1], dtype=np.uint64)

        def fill(number: int) -> None:
            start, end = self.starts[number : number + 2]
            slots[start:end] = self._beginning(self._parts[number].whole())
            slots[start:end] |= np.arange(start, end, dtype=np.uint64)

        in_threads(fill, range(len(self._parts)))
        self._runs = [slots[start : start + RUN] for start in range(0, len(slots), RUN)]
        in_threads(np.ndarray.sort, self._runs)

    def find(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """The position of each digest, (n,); -1 where there is none."""
        found = np.full(len(wanted), -1, dtype=np.int64)
        keys = self._beginning(wanted)
        left = np.argsort(keys)  # neighbours in a table are neighbours in memory
        for run in self._runs:  # in commit order: what an earlier one holds is not asked of a later one
            self._find_in(run, left, keys, wanted, found)
            left = left[found[left] < 0]
        return found

    def _find_in(
        self,
        run: npt.NDArray[np.uint64],
        open_: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        wanted: Digests,
        found: npt.NDArray[np.int64],
    ) -> None:
        """Look for the digests `open_` in one run, and note the positions of those that it has."""
        position = (np.uint64(1) << self._bits) - np.uint64(1)
        place = np.searchsorted(run, keys[open_])
        while len(open_):  # once around, but for digests that begin alike and differ after that
            inside = place < len(run)
            open_, place = open_[inside], place[inside]
            slots = run[place]
            alike = (slots & ~position) == keys[open_]
            open_, place, rows = open_[alike], place[alike], (slots[alike] & position).astype(np.int64)
            same = (self._take(rows) == wanted[open_]).all(axis=1)
            found[open_[same]] = rows[same]
            open_, place = open_[~same], place[~same] + 1

    def _beginning(self, digests: Digests) -> npt.NDArray[np.uint64]:
        """The first bits of each digest, (n,), where a slot has them; zeros where it has the position."""
        first = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
        return first >> self._bits << self._bits

    def _take(self, positions: npt.NDArray[np.int64]) -> Digests:
        """The digests at these positions, (n, 32)."""
        out = np.empty((len(positions), 32), dtype=np.uint8)
        for number, to in groups(np.searchsorted(self.starts, positions, side="right") - 1):
            out[to] = self._parts[number].take(positions[to] - self.starts[number])
        return out


def groups(which: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Every number that occurs in `which`, ascending, with the places where it stands, ascending."""
    order = np.argsort(which, kind="stable")
    numbers, starts = np.unique(which[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)) if len(which) else []


def in_threads(do: Callable[[_Item], _Answer], items: Sequence[_Item], *, most: int = 8) -> list[_Answer]:
    """`do` for every item, in as many threads as there are cores: for reading, hashing and copying, which let go of
    the interpreter. The first error is raised; what had not begun by then is left out.
    """
    threads = min(len(items), most, cores())
    if threads < 2:
        return [do(item) for item in items]
    with ThreadPoolExecutor(threads, thread_name_prefix="featcache-store") as pool:
        jobs = [pool.submit(do, item) for item in items]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def pack(digests: list[bytes]) -> Digests:
    """A list of 32-byte digests as (rows, 32) uint8."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
