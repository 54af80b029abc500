"""A table of text, column-wise, that remembers on which line each row stands; and one error for all its problems."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featcache.errors import DataError, UsageError
from featcache.safe_read import BLOCK, TABLE, open_file, refuse_larger

SHOWN = 20  # problems that an error names; the rest it counts


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The columns that were asked for and are there, and what is wrong with the file as a table."""

    columns: Mapping[str, Sequence[str]]
    problems: tuple[str, ...]
    lines: Sequence[int]  # (rows,), where each begins
    unit: str = "line"  # Parquet has rows

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """Where a row stands in the file, as a person looks for it."""
        return f"{self.unit} {self.lines[row]}"


def read(path: str, columns: Sequence[str], optional: Sequence[str] = ()) -> Sheet:
    """Read a CSV file (UTF-8, with or without a byte order mark; any line end), or a Parquet file by its name.

    A column of `columns` that is not there is a problem; one of `optional` is left out.

    Raises:
        DataError: the file cannot be read.
        UsageError: a Parquet file, and pyarrow is not installed.
    """
    if path.lower().endswith((".parquet", ".pq")):
        return _parquet(path, columns, optional)
    try:
        data = _bytes(path)
    except OSError as error:
        raise DataError(f"{path}: this table cannot be read: {error.strerror}") from None
    return _csv(data.decode("utf-8-sig", "surrogateescape"), columns, optional)  # a path need not be UTF-8


def _bytes(path: str) -> bytes:
    """All of a table, up to its first NUL: of a file that is no text no more is read than shows it.

    Raises:
        OSError: it cannot be read, is no regular file, or too large.
        DataError: it holds a NUL.
    """
    pieces: list[bytes] = []
    with os.fdopen(open_file(path, follow_links=True), "rb") as file:
        refuse_larger(file.fileno(), TABLE)
        while piece := file.read(BLOCK):
            if b"\0" in piece:
                line = sum(one.count(b"\n") for one in [*pieces, piece[: piece.index(b"\0")]]) + 1
                refuse(path, [f"line {line}: a NUL byte: this is no text in UTF-8; save it as CSV in UTF-8"])
            pieces.append(piece)
    return b"".join(pieces)


def refuse(where: str, problems: Sequence[str]) -> None:
    """Nothing where there is no problem; else one error that names them.

    Raises:
        DataError: there are problems.
    """
    if not problems:
        return
    count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
    more = [f"… and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
    raise DataError("\n  ".join([f"{where}: {count}", *problems[:SHOWN], *more]))


def _csv(text: str, columns: Sequence[str], optional: Sequence[str]) -> Sheet:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    cells: list[str] = []  # row after row: a list of lists would keep the garbage collector busy for seconds
    lines: list[int] = []
    problems: list[str] = []
    header: list[str] = []
    try:
        header = next(reader, [])
        for line, row in _numbered(reader):
            if len(row) == len(header):
                cells += row
                lines.append(line)
            elif row:  # an empty line is none
                problems.append(f"line {line}: found {len(row)} fields, expected {len(header)}")
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}; nothing behind it was read")
    missing = _missing("line 1", header, columns, optional)
    found = {name: cells[header.index(name) :: len(header)] for name in (*columns, *optional) if name in header}
    return Sheet(found, (*missing, *problems), lines)


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that they begin on: a field in quotes may hold line ends."""
    line = reader.line_num + 1
    for row in reader:
        yield line, row
        line = reader.line_num + 1


def _parquet(path: str, columns: Sequence[str], optional: Sequence[str]) -> Sheet:
    try:
        from pyarrow import ArrowException
        from pyarrow import parquet as pq
    except ImportError:
        raise UsageError(
            f"{path}: reading Parquet needs pyarrow, which is not installed; "
            f"`python -m pip install pyarrow`, or save the table as CSV"
        ) from None
    try:
        with os.fdopen(open_file(path, follow_links=True), "rb") as opened, pq.ParquetFile(opened) as file:
            header = tuple(file.schema_arrow.names)
            table = file.read([name for name in dict.fromkeys((*columns, *optional)) if name in header])
    except OSError as error:
        raise DataError(f"{path}: this table cannot be read: {error.strerror or error}") from None
    except ArrowException as error:
        raise DataError(f"{path}: this is no Parquet file: {error}") from None
    found = {name: tuple(map(_text, table.column(name).to_pylist())) for name in table.column_names}
    missing = tuple(_missing("schema", header, columns, optional))
    return Sheet(found, missing, range(1, table.num_rows + 1), unit="row")


def _text(value: object) -> str:
    """A cell of a typed table as CSV would have it; an absent one is empty."""
    return "" if value is None else str(value)


def _missing(where: str, header: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    shown = ", ".join(map(repr, header)) or "nothing"
    problems = [f"{where}: no column {name!r}; found {shown}" for name in columns if name not in header]
    twice = [name for name in dict.fromkeys((*columns, *optional)) if header.count(name) > 1]
    return problems + [f"{where}: column {name!r} stands there twice" for name in twice]
