"""Which row holds a digest: sorted tables of 8 bytes a row, looked up many at a time.

A slot is one number: the first bits of a digest, and below them its position. Sorted as plain numbers, slots that begin
alike stay in commit order, and the digests themselves stay where they are: only those that a question could mean
are looked at again. Slots are sorted in runs that a core's cache holds better than the whole, by all cores at once; a
question goes through the runs in turn. docs/benchmarks.md has what a hundred million rows cost.

Questions come in the order of a listing, which is mostly the order in which its rows were committed. So one in STRIDE
is looked up, and the others are tried in the rows behind it, before they are looked up too.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.machine import cores

Digests = npt.NDArray[np.uint8]
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
RUN = 1 << 22  # slots that are sorted together
HELD = 1 << 21  # digests that stay in memory; of more, those that a question could mean are read again
STRIDE = 8


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
        rows = int(self.starts[-1])
        self._bits = np.uint64(rows.bit_length())  # of a slot that hold the position
        self._position = (np.uint64(1) << self._bits) - np.uint64(1)  # those bits
        self._held = np.empty((rows, 32), dtype=np.uint8) if rows <= HELD else None
        slots = np.empty(rows, dtype=np.uint64)

        def fill(number: int) -> None:
            start, end = self.starts[number : number + 2]
            part = self._parts[number].whole()
            if self._held is not None:
                self._held[start:end] = part
            slots[start:end] = self._beginning(part)
            slots[start:end] |= np.arange(start, end, dtype=np.uint64)

        in_threads(fill, range(len(self._parts)))
        self._runs = [slots[start : start + RUN] for start in range(0, rows, RUN)]
        in_threads(np.ndarray.sort, self._runs)

    def find(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """The position of each digest, (n,); -1 where there is none."""
        if not self._no_two_alike:
            return self._search(wanted)
        found = self._behind(self._search(wanted[::STRIDE]), len(wanted))
        tried = np.flatnonzero(found >= 0)
        found[tried[~_equal(self._take(found[tried]), wanted[tried])]] = -1
        left = np.flatnonzero(found < 0)
        found[left] = self._search(wanted[left])
        return found

    @cached_property
    def _no_two_alike(self) -> bool:
        """Whether a digest that stands where it was expected is the first one of its kind, and is cheap to look at."""
        if self._held is None or len(self._runs) != 1:
            return False
        beginnings = self._runs[0] >> self._bits
        return not bool((beginnings[1:] == beginnings[:-1]).any())

    def _behind(self, at: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """Of positions found for one in STRIDE, those of all `count`, if the rows between follow; -1 where none is."""
        ahead = np.where(at[:, None] < 0, -1, at[:, None] + np.arange(STRIDE)).reshape(-1)[:count]
        return np.where(ahead < self.starts[-1], ahead, -1)

    def _search(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """`find`, one by one."""
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
        place = np.searchsorted(run, keys[open_])
        while len(open_):  # once around, but for digests that begin alike and differ after that
            inside = place < len(run)
            open_, place = open_[inside], place[inside]
            slots = run[place]
            alike = (slots & ~self._position) == keys[open_]
            open_, place, rows = open_[alike], place[alike], (slots[alike] & self._position).astype(np.int64)
            same = _equal(self._take(rows), wanted[open_])
            found[open_[same]] = rows[same]
            open_, place = open_[~same], place[~same] + 1

    def _beginning(self, digests: Digests) -> npt.NDArray[np.uint64]:
        """The first bits of each digest, (n,), where a slot has them; zeros where it has the position."""
        first = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
        return first >> self._bits << self._bits

    def _take(self, positions: npt.NDArray[np.int64]) -> Digests:
        """The digests at these positions, (n, 32)."""
        if self._held is not None:
            return _words(self._held).take(positions, axis=0).view(np.uint8)
        out = np.empty((len(positions), 32), dtype=np.uint8)
        for number, to in groups(np.searchsorted(self.starts, positions, side="right") - 1):
            out[to] = self._parts[number].take(positions[to] - self.starts[number])
        return out


def _words(digests: Digests) -> npt.NDArray[np.uint64]:
    """The same bytes as (n, 4) uint64: copied and compared several times as fast."""
    return np.ascontiguousarray(digests).view(np.uint64)


def _equal(one: Digests, other: Digests) -> npt.NDArray[np.bool_]:
    """Which rows are equal, (n,)."""
    same: npt.NDArray[np.bool_] = (_words(one) == _words(other)).all(axis=1)
    return same


def groups(which: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Every number that occurs in `which`, ascending, with the places where it stands, ascending."""
    if not len(which):
        return []
    small = which.min() >= -(1 << 15) and which.max() < 1 << 15  # numbers of 16 bits are sorted by their digits
    order = np.argsort(which.astype(np.int16) if small else which, kind="stable")
    sorted_ = which[order]
    starts = np.flatnonzero(np.diff(sorted_)) + 1
    return [(int(which[places[0]]), places) for places in np.split(order, starts)]


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


def digests_of(found: Sequence[bytes]) -> Digests:
    """A column of digests; zeros where a file could not be read."""
    try:
        return pack([digest or bytes(32) for digest in found])
    except ValueError:
        raise DataError("a digest has another length than 32 bytes") from None
