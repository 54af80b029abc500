"""Which row holds a digest: a sorted table of 8 bytes a row, looked up many at a time.

A slot is one number: the first bits of a digest, and below them its position. Sorted as plain numbers, slots that begin
alike stay in commit order, and the digests themselves stay where they are: only those that a question could mean
are looked at again. The table is cut at its medians into parts that a core's cache holds, and these are sorted by all
cores at once. docs/benchmarks.md has what a hundred million rows cost.

Questions come in the order of a listing, which is mostly the order in which its rows were committed. So one in STRIDE
is looked up, and the others are tried in the rows behind it, before they are looked up too.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.machine import run_in_threads

Digests = npt.NDArray[np.uint8]
RUN_SLOTS = 1 << 22  # slots that are sorted together
QUESTIONS = 1 << 21  # digests that are looked up together: some 100 bytes of memory each
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
        _sort_in_parts(slots)
        self._slots = slots

    def find(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """Return the position of each digest, (n,) int64; -1 where there is none.

        Args:
            wanted: The digests, (n, 32) uint8.

        Raises:
            CacheError: a shard whose digests are not held in memory is missing, or of another size than the log says.
        """
        if len(wanted) == 1:
            return np.array([self._find_single(wanted.tobytes())], dtype=np.int64)
        if not self._can_guess:
            parts = [self._search(wanted[at : at + QUESTIONS]) for at in range(0, len(wanted), QUESTIONS)]
            return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])
        positions = self._guess(self._search(wanted[::STRIDE]), len(wanted))
        guessed = np.flatnonzero(positions >= 0)
        positions[guessed[~_equal(self._take(positions[guessed]), wanted[guessed])]] = -1
        left = np.flatnonzero(positions < 0)
        positions[left] = self._search(wanted[left])
        return positions

    @cached_property
    def _can_guess(self) -> bool:
        """Whether a digest that stands where it was expected is the first one of its kind, and is cheap to look at."""
        if self._in_memory is None or not len(self._slots):
            return False
        prefixes = self._slots >> self._bits
        return not bool((prefixes[1:] == prefixes[:-1]).any())

    def _guess(self, known: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """Return all `count` positions as they are if rows follow those that are known for one in STRIDE; or -1."""
        ahead = np.where(known[:, None] < 0, -1, known[:, None] + np.arange(STRIDE)).reshape(-1)[:count]
        return np.where(ahead < self.starts[-1], ahead, -1)

    def find_repeated(self) -> npt.NDArray[np.bool_]:
        """Return which rows have a digest that an earlier row has too, (rows,) bool.

        Equal digests are neighbours in the table, but for others that begin alike.

        Raises:
            CacheError: as `find`.
        """
        is_repeated = np.zeros(len(self._slots), dtype=bool)
        for start in range(0, len(self._slots), QUESTIONS):
            at, back = np.arange(start, min(start + QUESTIONS, len(self._slots))), 1
            while len(at := self._with_neighbour(at, back)):
                positions = self._positions(at)
                same = _equal(self._take(positions), self._take(self._positions(at - back)))
                is_repeated[positions[same]] = True
                at, back = at[~same], back + 1
        return is_repeated

    def _with_neighbour(self, at: npt.NDArray[np.int64], back: int) -> npt.NDArray[np.int64]:
        """Return those places in the table whose digest begins like the one so many places before it."""
        at = at[at >= back]
        return at[(self._slots[at] ^ self._slots[at - back]) <= self._position_mask]

    def _positions(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the positions of the digests at these places in the table."""
        return (self._slots[at] & self._position_mask).astype(np.int64)

    def _find_single(self, digest: bytes) -> int:
        """Return the position of one digest as `find` does: an extract asks about each image that it reads."""
        mask = int(self._position_mask)
        key = int.from_bytes(digest[:8], "big") & ~mask
        at = int(self._slots.searchsorted(np.uint64(key)))
        while at < len(self._slots) and (slot := int(self._slots[at])) & ~mask == key:
            if self._take(np.array([slot & mask])).tobytes() == digest:
                return slot & mask
            at += 1
        return -1

    def _search(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """Return the position of each digest as `find` does, without a guess."""
        positions = np.full(len(wanted), -1, dtype=np.int64)
        keys = self._prefixes(wanted)
        left = np.argsort(keys)  # neighbours in the table are neighbours in memory
        at = np.searchsorted(self._slots, keys[left])
        while len(left):  # once around, but for digests that begin alike and differ after that
            inside = at < len(self._slots)
            left, at = left[inside], at[inside]
            alike = (self._slots[at] & ~self._position_mask) == keys[left]
            left, at = left[alike], at[alike]
            rows = self._positions(at)
            same = _equal(self._take(rows), wanted[left])
            positions[left[same]] = rows[same]
            left, at = left[~same], at[~same] + 1
        return positions

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


def _sort_in_parts(slots: npt.NDArray[np.uint64]) -> None:
    """Sort in place: cut at medians until a core's cache holds a part better than the whole, then sort every part."""
    parts = [slots]
    while len(parts[-1]) > RUN_SLOTS:  # the last one is never shorter than another
        run_in_threads(lambda part: part.partition(len(part) // 2), parts)
        halves = [half for part in parts for half in (part[: len(part) // 2], part[len(part) // 2 :])]
        parts = [half for half in halves if len(half)]
    run_in_threads(np.ndarray.sort, parts)


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


def pack_digests(digests: list[bytes]) -> Digests:
    """Return digests as (rows, 32) uint8.

    Args:
        digests: Of 32 bytes each.
    """
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
