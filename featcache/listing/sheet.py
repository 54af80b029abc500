"""A table of text, column-wise, that remembers on which line each row stands; and one error for all its problems."""

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import DataError, UsageError
from featcache.files import BLOCK_BYTES, MAX_TABLE_BYTES, marked_encoding, open_file, refuse_larger, suggest_utf8
from featcache.listing.paths import is_text, readable, shown_path
from featcache.listing.spellings import same_name_key

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


def read(path: str, columns: Sequence[str], optional: Sequence[str] = (), *, paths: Sequence[str] = ()) -> Sheet:
    """Read a CSV file (UTF-8, with or without a byte order mark; any line end), or a Parquet file by its name.

    A column of `columns` that is not there is a problem; one of `optional` is left out. A cell is text, and one that is
    not UTF-8 is a problem; but in the columns `paths` any bytes may stand, as `os.fsdecode` gives them.

    Raises:
        DataError: the file cannot be read.
        UsageError: a Parquet file, and pyarrow is not installed.
    """
    if path.lower().endswith((".parquet", ".pq")):
        return _with_faults(_parquet(path, columns, optional), paths)
    try:
        data = _bytes(path)
    except OSError as error:
        raise DataError(f"{path}: this table cannot be read: {error.strerror}") from None
    if encoding := marked_encoding(data):
        refuse(path, [f"line 1: this is {encoding}, not UTF-8; {suggest_utf8(encoding)}"])
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        refuse(path, [f"line {line}: a NUL byte: this is no text in UTF-8; save it as CSV in UTF-8"])
    text = data.decode("utf-8", "surrogateescape").lstrip("\ufeff")  # a path need not be UTF-8
    return _with_faults(_csv(text, columns, optional), paths)


def _with_faults(sheet: Sheet, paths: Sequence[str]) -> Sheet:
    """The same sheet; cells that no listing can hold are problems of it, one for each column."""
    problems = list(sheet.problems)
    for name, column in sheet.columns.items():
        different = set(column)
        kinds = [({value for value in different if "\0" in value}, "holds a NUL character")]
        if name not in paths:
            kinds.append(({value for value in different if not is_text(value)}, f"is not UTF-8; {suggest_utf8()}"))
        for bad, reason in kinds:
            rows = [row for row, value in enumerate(column) if value in bad] if bad else []
            if rows:
                more = f" and in {len(rows) - 1:,} more" if len(rows) > 1 else ""
                problems.append(f"{sheet.place(rows[0])}{more}: {name} '{shown_path(column[rows[0]])}' {reason}")
    return replace(sheet, problems=tuple(problems))


def _bytes(path: str) -> bytes:
    """Return a table's bytes, no more than the block with its first NUL: of a file that is no text that is enough.

    Raises:
        OSError: it cannot be read, is no regular file, or too large.
    """
    blocks: list[bytes] = []
    with os.fdopen(open_file(path, follow_links=True), "rb") as file:
        refuse_larger(file.fileno(), MAX_TABLE_BYTES)
        while block := file.read(BLOCK_BYTES):
            blocks.append(block)
            if b"\0" in block:
                break
    return b"".join(blocks)


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
    found = {name: _texts(table.column(name)) for name in table.column_names}
    missing = tuple(_missing("schema", header, columns, optional))
    return Sheet(found, missing, range(1, table.num_rows + 1), unit="row")


def _texts(column: Any) -> tuple[str, ...]:
    """The cells of a typed column as CSV would have them; an absent one is empty."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):  # which need not hold UTF-8
        column = column.cast(pa.large_binary())
    return tuple(map(_text, column.to_pylist()))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _missing(where: str, header: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    problems = []
    for name in columns:
        if name not in header:
            other = any(same_name_key(name) == same_name_key(found) for found in header)
            show = ascii if other else lambda text: repr(readable(text))  # so that another spelling can be seen
            shown = ", ".join(map(show, header)) or "nothing"
            close = None if other else nearest_name(name, header)
            meant = f"; did you mean {show(close)}?" if close else ""
            problems.append(f"{where}: no column {show(name)}; found {shown}{meant}")
    misspelt = [(name, other) for name in optional if name not in header for other in header if _is_like(other, name)]
    problems += [
        f"{where}: column {readable(other)!r} would be left out: the name is {name!r}; rename it, or name it in the "
        f"recipe as {name}_column"
        for name, other in misspelt
        if other not in columns
    ]
    twice = [name for name in dict.fromkeys((*columns, *optional)) if header.count(name) > 1]
    return problems + [f"{where}: column {name!r} stands there twice" for name in twice]


def _is_like(column: str, name: str) -> bool:
    """Whether a column is a known optional one in other case, blanks or a plural, or misspelt: "Splits", "splitt"."""
    plain = "".join(filter(str.isalnum, column.casefold()))
    is_misspelt = plain.isalpha() and plain[:1] == name[:1] and abs(len(plain) - len(name)) <= 1
    is_misspelt = is_misspelt and SequenceMatcher(None, plain, name).ratio() >= 0.8
    return is_misspelt or plain in (name, f"{name}s", f"{name}id", f"{name}name", f"{name}ids")
