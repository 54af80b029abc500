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
RUN_SLOTS = 1 << 22  # slots that are sorted together
MAX_DIGESTS_IN_MEMORY = 1 << 21  # digests that stay in memory; of more, those that a question could mean are read again
STRIDE = 8


class DigestSource(Protocol):
    """A stretch of the digests, in commit order: one shard's."""

    def __len__(self) -> int: ...

    def read_all(self) -> Digests:
        """Return all of them, (len, 32) uint8, checked."""

    def take(self, rows: npt.NDArray[np.int64]) -> Digests:
        """Return some of them, (n, 32) uint8."""


class DigestArray:
    """Digests that are in memory, (rows, 32) uint8."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests

    def __len__(self) -> int:
        return len(self._digests)

    def read_all(self) -> Digests:
        """Return all of them."""
        return self._digests

    def take(self, rows: npt.NDArray[np.int64]) -> Digests:
        """Return some of them, (n, 32) uint8."""
        return self._digests[rows]


class DigestIndex:
    """Finds the position of a digest in commit order; of equal digests, that of the first committed one.

    Attributes:
        starts: The position of each source's first digest, and behind them the number of all, (sources + 1,) int64.
    """

    def __init__(self, digests: Digests | Sequence[DigestSource]) -> None:
        """Read every digest once, and sort what is kept of each.

        Args:
            digests: (n, 32) uint8, or where they are read from, in commit order.
        """
        self._sources: Sequence[DigestSource] = [DigestArray(digests)] if isinstance(digests, np.ndarray) else digests
        self.starts = np.cumsum([0, *map(len, self._sources)])
        rows = int(self.starts[-1])
        self._bits = np.uint64(rows.bit_length())  # of a slot that hold the position
        self._position_mask = (np.uint64(1) << self._bits) - np.uint64(1)  # those bits
        self._in_memory = np.empty((rows, 32), dtype=np.uint8) if rows <= MAX_DIGESTS_IN_MEMORY else None
        slots = np.empty(rows, dtype=np.uint64)

        def fill(number: int) -> None:
            start, end = self.starts[number : number + 2]
            part = self._sources[number].read_all()
            if self._in_memory is not None:
                self._in_memory[start:end] = part
            slots[start:end] = self._prefixes(part)
            slots[start:end] |= np.arange(start, end, dtype=np.uint64)

        run_in_threads(fill, range(len(self._sources)))
        self._runs = [slots[start : start + RUN_SLOTS] for start in range(0, rows, RUN_SLOTS)]
        run_in_threads(np.ndarray.sort, self._runs)

    def find(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """Return the position of each digest, (n,) int64; -1 where there is none.

        Args:
            wanted: The digests, (n, 32) uint8.

        Raises:
            CacheError: a shard whose digests are not held in memory is missing, or of another size than the log says.
        """
        if not self._can_guess:
            return self._search(wanted)
        positions = self._guess(self._search(wanted[::STRIDE]), len(wanted))
        guessed = np.flatnonzero(positions >= 0)
        positions[guessed[~_equal(self._take(positions[guessed]), wanted[guessed])]] = -1
        left = np.flatnonzero(positions < 0)
        positions[left] = self._search(wanted[left])
        return positions

    @cached_property
    def _can_guess(self) -> bool:
        """Whether a digest that stands where it was expected is the first one of its kind, and is cheap to look at."""
        if self._in_memory is None or len(self._runs) != 1:
            return False
        prefixes = self._runs[0] >> self._bits
        return not bool((prefixes[1:] == prefixes[:-1]).any())

    def _guess(self, known: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """Return all `count` positions as they are if rows follow those that are known for one in STRIDE; or -1."""
        ahead = np.where(known[:, None] < 0, -1, known[:, None] + np.arange(STRIDE)).reshape(-1)[:count]
        return np.where(ahead < self.starts[-1], ahead, -1)

    def _search(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """Return the position of each digest as `find` does, without a guess."""
        positions = np.full(len(wanted), -1, dtype=np.int64)
        keys = self._prefixes(wanted)
        left = np.argsort(keys)  # neighbours in a table are neighbours in memory
        for run in self._runs:  # in commit order: what an earlier one holds is not asked of a later one
            self._search_run(run, left, keys, wanted, positions)
            left = left[positions[left] < 0]
        return positions

    def _search_run(
        self,
        run: npt.NDArray[np.uint64],
        left: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        wanted: Digests,
        positions: npt.NDArray[np.int64],
    ) -> None:
        """Look for the digests `left` in one run, and note the positions of those that it has."""
        at = np.searchsorted(run, keys[left])
        while len(left):  # once around, but for digests that begin alike and differ after that
            inside = at < len(run)
            left, at = left[inside], at[inside]
            slots = run[at]
            alike = (slots & ~self._position_mask) == keys[left]
            left, at, rows = left[alike], at[alike], (slots[alike] & self._position_mask).astype(np.int64)
            same = _equal(self._take(rows), wanted[left])
            positions[left[same]] = rows[same]
            left, at = left[~same], at[~same] + 1

    def _prefixes(self, digests: Digests) -> npt.NDArray[np.uint64]:
        """Return the first bits of each digest, (n,), where a slot has them; zeros where it has the position."""
        first = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
        return first >> self._bits << self._bits

    def _take(self, positions: npt.NDArray[np.int64]) -> Digests:
        """Return the digests at these positions, (n, 32)."""
        if self._in_memory is not None:
            return _words(self._in_memory).take(positions, axis=0).view(np.uint8)
        out = np.empty((len(positions), 32), dtype=np.uint8)
        for number, to in group_positions(np.searchsorted(self.starts, positions, side="right") - 1):
            out[to] = self._sources[number].take(positions[to] - self.starts[number])
        return out


def _words(digests: Digests) -> npt.NDArray[np.uint64]:
    """Return the same bytes as (n, 4) uint64: copied and compared several times as fast."""
    return np.ascontiguousarray(digests).view(np.uint64)


def _equal(left: Digests, right: Digests) -> npt.NDArray[np.bool_]:
    """Return which rows are equal, (n,)."""
    same: npt.NDArray[np.bool_] = (_words(left) == _words(right)).all(axis=1)
    return same


def group_positions(numbers: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Return every number that occurs, ascending, with the positions where it occurs, ascending."""
    if not len(numbers):
        return []
    small = numbers.min() >= -(1 << 15) and numbers.max() < 1 << 15  # numbers of 16 bits are sorted by their digits
    order = np.argsort(numbers.astype(np.int16) if small else numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [(int(numbers[positions[0]]), positions) for positions in np.split(order, starts)]


def run_in_threads(do: Callable[[_Item], _Answer], items: Sequence[_Item], *, most: int = 8) -> list[_Answer]:
    """Return what `do` returns for every item, in as many threads as there are cores, and at most `most`.

    For reading, hashing and copying, which let go of the interpreter. The first error is raised; what had not begun by
    then is left out.
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


def pack_digests(digests: list[bytes]) -> Digests:
    """Return a list of 32-byte digests as (rows, 32) uint8."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)


def digest_column(digests: Sequence[bytes]) -> Digests:
    """Return digests as (rows, 32) uint8; b"" stands for a file that could not be read, and becomes zeros.

    Args:
        digests: The sha256 of each row's file, 32 bytes, or b"".

    Raises:
        DataError: a digest has another length than 32 bytes.
    """
    try:
        return pack_digests([digest or bytes(32) for digest in digests])
    except ValueError:
        raise DataError("a digest has another length than 32 bytes") from None
