"""Columns of texts in arrays, as Arrow has them: no Python object a row, and each row a str when it is looked at.

`TextColumn` is for texts that all differ, such as paths; `CodedColumn` for few that are repeated, such as clips. Both
are sequences of str, so that whoever reads a listing need not know which it has.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
_ROWS = 1 << 16  # that are decoded, or copied, together
_BYTES = 1 << 24  # that are searched together


class _Column(Sequence[str]):
    """What both kinds of columns have of a sequence."""

    __slots__ = ()

    def _texts(self, start: int, end: int) -> list[str]:
        """Return these rows."""
        raise NotImplementedError

    def take(self, rows: Integers) -> Sequence[str]:
        """Return a column of these rows, (n,), in this order."""
        raise NotImplementedError

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...
    def __getitem__(self, row: int | slice) -> str | Sequence[str]:
        if isinstance(row, slice):
            return self.take(np.arange(*row.indices(len(self))))
        at = range(len(self))[row]
        return self._texts(at, at + 1)[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _ROWS):
            yield from self._texts(start, min(start + _ROWS, len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it equals a tuple, whose hash it would have to compute

    def __repr__(self) -> str:
        more = ", …" if len(self) > 3 else ""
        return f"<{type(self).__name__} of {len(self):,}: {', '.join(map(repr, islice(self, 3)))}{more}>"


class TextColumn(_Column):
    """Texts one behind the other, each ended by NUL; 8 bytes a row say where."""

    __slots__ = ("_ends", "packed")

    def __init__(self, packed: Bytes, ends: Integers | None = None) -> None:
        """Hold packed texts; nothing is copied.

        Args:
            packed: The texts' bytes, each ended by NUL: all of them.
            ends: Where these NULs are, (rows,); None: they are looked for.

        Raises:
            ValueError: the last one is not ended.
        """
        if len(packed) and packed[-1]:
            raise ValueError("the last of its names is not ended by a zero")
        self.packed = packed
        self._ends = _find_zeros(packed) if ends is None else ends

    @classmethod
    def pack(cls, texts: Iterable[str]) -> "TextColumn":
        """Return the column of some texts, as `os.fsdecode` gives them.

        Args:
            texts: In the order of the rows; an iterator will do, of which few are held at a time.

        Raises:
            ValueError: a text has a NUL in it: it would become two rows.
        """
        if isinstance(texts, TextColumn):
            return texts
        parts, coming, rows = [b""], iter(texts), 0
        while some := list(islice(coming, _ROWS)):
            parts.append(os.fsencode("\0".join(some) + "\0"))
            rows += len(some)
        column = cls(np.frombuffer(b"".join(parts), dtype=np.uint8))
        if len(column) != rows:
            raise ValueError("a text of a column has a zero byte in it")
        return column

    def __len__(self) -> int:
        return len(self._ends)

    def is_filled(self) -> npt.NDArray[np.bool_]:
        """Return which rows are not "", (rows,)."""
        return np.diff(self._ends, prepend=-1) > 1

    def take(self, rows: Integers) -> "TextColumn":
        """Return a column of some rows; consecutive ones are not copied.

        Args:
            rows: Which, (n,), in the order of the new column.
        """
        if not len(rows):
            return TextColumn(self.packed[:0], self._ends[:0])
        starts = np.where(rows > 0, self._ends[rows - 1] + 1, 0)
        if (np.diff(rows) == 1).all():
            end = self._ends[rows[-1]] + 1
            return TextColumn(self.packed[starts[0] : end], self._ends[rows[0] : rows[-1] + 1] - starts[0])
        lengths = self._ends[rows] + 1 - starts
        ends = np.cumsum(lengths)
        packed = np.empty(int(ends[-1]), dtype=np.uint8)
        for row in range(0, len(rows), _ROWS):
            some = slice(row, row + _ROWS)
            first, last = int(ends[row] - lengths[row]), int(ends[some][-1])
            shift = np.repeat(starts[some] - (ends[some] - lengths[some]), lengths[some])
            packed[first:last] = self.packed[shift + np.arange(first, last)]
        return TextColumn(packed, ends - 1)

    def _texts(self, start: int, end: int) -> list[str]:
        if start == end:
            return []
        first = int(self._ends[start - 1]) + 1 if start else 0
        return os.fsdecode(self.packed[first : int(self._ends[end - 1])].tobytes()).split("\0")


class CodedColumn(_Column):
    """Rows that share few texts: a table of the texts, and 4 bytes a row that say which."""

    __slots__ = ("_names", "codes")

    def __init__(self, names: Sequence[str], codes: Codes) -> None:
        """Hold the texts, which may repeat or be unused, and the code of each row.

        Args:
            names: The texts.
            codes: Which of them each row has, (rows,) int32.

        Raises:
            ValueError: a code lies below 0.
            IndexError: a code lies behind the texts.
        """
        if len(codes) and codes.min() < 0:
            raise ValueError("a code lies below 0")
        if len(codes) and codes.max() >= len(names):
            raise IndexError("a code lies behind its table")
        self._names, self.codes = tuple(names), codes

    @classmethod
    def pack(cls, texts: Iterable[str]) -> "CodedColumn":
        """Return the column of some texts; its table has them in the order in which they come first.

        Args:
            texts: In the order of the rows.
        """
        if isinstance(texts, CodedColumn):
            return texts._canonical()
        code_of: dict[str, int] = {}
        codes = np.fromiter((code_of.setdefault(text, len(code_of)) for text in texts), dtype=np.int32)
        return cls(tuple(code_of), codes)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def names(self) -> tuple[str, ...]:
        """The texts that the codes count."""
        return self._names

    def distinct(self) -> set[str]:
        """Return the texts that occur."""
        counts = np.zeros(len(self._names), dtype=bool)
        counts[self.codes] = True
        return {name for name, occurs in zip(self._names, counts.tolist(), strict=True) if occurs}

    def is_filled(self) -> npt.NDArray[np.bool_]:
        """Return which rows are not "", (rows,)."""
        return np.array([bool(name) for name in self._names], dtype=bool)[self.codes]

    def take(self, rows: Integers) -> "CodedColumn":
        """Return a column of some rows.

        Args:
            rows: Which, (n,), in the order of the new column.
        """
        return CodedColumn(self._names, self.codes[rows])

    def _texts(self, start: int, end: int) -> list[str]:
        return [self._names[code] for code in self.codes[start:end].tolist()]

    def _canonical(self) -> "CodedColumn":
        """Return the same rows with the texts in the order in which they come first, each once, and no others."""
        code_of: dict[str, int] = {}
        to_first = np.array([code_of.setdefault(name, len(code_of)) for name in self._names], dtype=np.int32)
        first = np.full(len(code_of), len(self), dtype=np.int64)
        for start in reversed(range(0, len(self), _BYTES)):
            part = to_first[self.codes[start : start + _BYTES]]
            first[part[::-1]] = np.arange(start, start + len(part))[::-1]  # what is written last stays: the first row
        order = np.argsort(first, kind="stable")[: int((first < len(self)).sum())]
        rank = np.empty(len(first), dtype=np.int32)
        rank[order] = np.arange(len(order))
        different = tuple(code_of)
        return CodedColumn([different[at] for at in order.tolist()], rank[to_first][self.codes])


def take_texts(column: Sequence[str], rows: Integers) -> Sequence[str]:
    """Return some rows of a column of texts: as a column where it is one, else as a tuple.

    Args:
        column: The texts: a column, or any other sequence of them.
        rows: Which, (n,), in the order of the new column.
    """
    return column.take(rows) if isinstance(column, _Column) else tuple(column[row] for row in rows)


def find_filled(column: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which rows of a column of texts are not "", (rows,).

    Args:
        column: The texts: a column, or any other sequence of them.
    """
    if isinstance(column, TextColumn | CodedColumn):
        return column.is_filled()
    return np.fromiter(map(bool, column), dtype=bool, count=len(column))


def distinct_texts(column: Sequence[str]) -> set[str]:
    """Return the different texts of a column.

    Args:
        column: The texts: a column, or any other sequence of them.
    """
    return column.distinct() if isinstance(column, CodedColumn) else set(column)


def _find_zeros(packed: Bytes) -> Integers:
    """Return where the zeros are, (n,); a part at a time, so that nothing else of their size is held."""
    parts = [np.empty(0, dtype=np.int64)]
    parts += [np.flatnonzero(packed[at : at + _BYTES] == 0) + at for at in range(0, len(packed), _BYTES)]
    return np.concatenate(parts)
