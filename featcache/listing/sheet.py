"""Sheet: a CSV or Parquet file as columns of text, with the line of each row; and one error for all its problems."""

import csv
import io
import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import DataError, UsageError
from featcache.files import (
    BLOCK_BYTES,
    MAX_TABLE_BYTES,
    marked_encoding,
    nearest_path,
    open_file,
    refuse_larger,
    suggest_utf8,
)
from featcache.listing.paths import is_text, readable, shown_path
from featcache.listing.spellings import same_name_key
from featcache.text import counted

TABLE_SUFFIXES = (".csv", ".parquet", ".pq")
MAX_NAMED = 20  # problems that an error names; it counts the rest


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The requested columns that a table has, and what is wrong with the file as a table."""

    columns: Mapping[str, Sequence[str]]  # (rows,) each
    problems: tuple[str, ...]
    lines: Sequence[int]  # (rows,), the line on which each row begins
    unit: str = "line"  # "row" for Parquet, which has no lines
    header: tuple[str, ...] = ()  # the names of all its columns

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """Return where a row stands in the file, such as "line 12"."""
        return f"{self.unit} {self.lines[row]}"


def read_sheet(path: str, columns: Sequence[str], optional: Sequence[str] = (), *, paths: Sequence[str] = ()) -> Sheet:
    """Return the columns of a CSV file, or of a Parquet file.

    CSV is UTF-8, with or without a byte order mark, with any line end, and with commas, semicolons or tabs between the
    columns.

    Args:
        path: The file; its suffix `.parquet` or `.pq` says that it is Parquet.
        columns: Names of columns that must be there; a missing one is a problem of the sheet.
        optional: Names of columns that are read where they are there.
        paths: Those of the columns in which any bytes may stand, as `os.fsdecode` gives them; a cell of any other
            column that is not UTF-8 is a problem.

    Returns:
        The columns that are there, and every problem of the file as a table; none is raised.

    Raises:
        DataError: the file cannot be read.
        UsageError: a Parquet file, and pyarrow is not installed.
    """
    if path.lower().endswith((".parquet", ".pq")):
        return _with_cell_problems(_read_parquet(path, columns, optional), paths)
    try:
        data = _read_bytes(path)
    except OSError as error:
        raise _unreadable_error(path, error) from None
    if encoding := marked_encoding(data):
        refuse_problems(path, [f"line 1: this is {encoding}, not UTF-8; {suggest_utf8(encoding)}"])
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        refuse_problems(path, [f"line {line}: a NUL byte: this is not text in UTF-8; save it as CSV in UTF-8"])
    text = data.decode("utf-8", "surrogateescape").lstrip("\ufeff")  # a path need not be UTF-8
    return _with_cell_problems(_parse_csv(text, columns, optional), paths)


def _unreadable_error(path: str, error: OSError) -> DataError:
    """Return the error that a table cannot be read; where it is not there, with the one that may be meant."""
    refused = DataError(f"{path}: this table cannot be read: {error.strerror or error}")
    close = nearest_path(path, suffixes=TABLE_SUFFIXES) if isinstance(error, FileNotFoundError) else None
    if close is None:
        return refused
    refused.args = (f"{refused}; did you mean {shown_path(close)}?",)
    pairs = {path: close, os.path.relpath(path): os.path.relpath(close)}  # one of them may have been typed
    for wrong, right in pairs.items():
        refused = refused.correct(wrong, shlex.quote(right))
    return refused


def _with_cell_problems(sheet: Sheet, paths: Sequence[str]) -> Sheet:
    """Return the sheet with one more problem for each column that has cells which no listing can hold."""
    problems = list(sheet.problems)
    for name, column in sheet.columns.items():
        values = set(column)
        bad_values = [({value for value in values if "\0" in value}, "holds a NUL character")]
        if name not in paths:
            bad_values.append(({value for value in values if not is_text(value)}, f"is not UTF-8; {suggest_utf8()}"))
        for bad, reason in bad_values:
            rows = [row for row, value in enumerate(column) if value in bad] if bad else []
            if rows:
                more = f" and in {len(rows) - 1:,} more" if len(rows) > 1 else ""
                problems.append(f"{sheet.place(rows[0])}{more}: {name} '{shown_path(column[rows[0]])}' {reason}")
    return replace(sheet, problems=tuple(problems))


def _read_bytes(path: str) -> bytes:
    """Return a table's bytes, up to the block with its first NUL: that is enough to refuse a file that is not text.

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


def refuse_problems(where: str, problems: Sequence[str]) -> None:
    """Raise one error that names the problems, where there are any.

    Args:
        where: What has the problems: a file or a folder.
        problems: A sentence each; the first `MAX_NAMED` are named, the others counted.

    Raises:
        DataError: there are problems.
    """
    if not problems:
        return
    count = counted(len(problems), "problem")
    more = [f"… and {len(problems) - MAX_NAMED:,} more"] if len(problems) > MAX_NAMED else []
    raise DataError("\n  ".join([f"{where}: {count}", *problems[:MAX_NAMED], *more]))


def _parse_csv(text: str, columns: Sequence[str], optional: Sequence[str]) -> Sheet:
    """Return the sheet that CSV text holds; a line with another number of fields than the header is a problem."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_find_delimiter(text))
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
    missing = _column_problems("line 1", header, columns, optional)
    present = {name: cells[header.index(name) :: len(header)] for name in (*columns, *optional) if name in header}
    return Sheet(present, (*missing, *problems), lines, header=tuple(header))


def _find_delimiter(text: str) -> str:
    """Return what stands between the columns: a comma; a semicolon or a tab where the header has that, and no comma."""
    header = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text, maxsplit=1)[0])  # a name in quotes may hold any sign
    return next((sign for sign in ";\t" if sign in header and "," not in header), ",")


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, row), the line being the one that the row begins on: a field in quotes may hold line ends."""
    line = reader.line_num + 1
    for row in reader:
        yield line, row
        line = reader.line_num + 1


def _read_parquet(path: str, columns: Sequence[str], optional: Sequence[str]) -> Sheet:
    """Return the sheet that a Parquet file holds.

    Raises:
        DataError: the file cannot be read, or is no Parquet.
        UsageError: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow import parquet as pq
    except ImportError:
        raise UsageError(
            f"{path}: reading Parquet needs pyarrow, which is not installed; "
            f"`python -m pip install pyarrow`, or save the table as CSV"
        ) from None
    try:
        with os.fdopen(open_file(path, follow_links=True), "rb") as file, pq.ParquetFile(file) as parquet:
            header = tuple(parquet.schema_arrow.names)
            table = parquet.read([name for name in dict.fromkeys((*columns, *optional)) if header.count(name) == 1])
    except OSError as error:
        raise _unreadable_error(path, error) from None
    except ArrowException as error:
        raise DataError(f"{path}: this is not a Parquet file: {error}") from None
    present = {name: column_as_text(table.column(name)) for name in table.column_names}
    missing = tuple(_column_problems("schema", header, columns, optional))
    return Sheet(present, missing, range(1, table.num_rows + 1), unit="row", header=header)


def column_as_text(column: Any) -> tuple[str, ...]:
    """Return the cells of a typed column as CSV would have them; a null is an empty cell.

    Args:
        column: As pyarrow has it.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):  # which need not hold UTF-8
        column = column.cast(pa.large_binary())
    return tuple(map(_cell_as_text, column.to_pylist()))


def _cell_as_text(value: object) -> str:
    """Return one cell's value as text; "" for null and for not a number."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _column_problems(where: str, header: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Return what is wrong with a table's columns: one that is missing, nearly named, or there twice."""
    problems = []
    for name in columns:
        if name not in header:
            is_respelled = any(same_name_key(name) == same_name_key(column) for column in header)
            show = ascii if is_respelled else lambda text: repr(readable(text))  # in ASCII the spellings differ visibly
            shown = ", ".join(map(show, header)) or "nothing"
            close = None if is_respelled else nearest_name(name, header)
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
    return problems + [f"{where}: there are two columns {name!r}" for name in twice]


def _is_like(column: str, name: str) -> bool:
    """Return whether a column's name is an optional one's in other case, blanks or plural, or misspelt ("splitt")."""
    plain = "".join(filter(str.isalnum, column.casefold()))
    is_misspelt = plain.isalpha() and plain[:1] == name[:1] and abs(len(plain) - len(name)) <= 1
    is_misspelt = is_misspelt and SequenceMatcher(None, plain, name).ratio() >= 0.8
    return is_misspelt or plain in (name, f"{name}s", f"{name}id", f"{name}name", f"{name}ids")
