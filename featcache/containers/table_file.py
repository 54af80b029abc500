"""Parquet and Arrow files with a column of image bytes; an image's key is its row's number.

pyarrow reads them. A row's path to a file elsewhere, as `datasets` may write it, is not followed.
"""

import bisect
import contextlib
import itertools
import mmap
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO

from featcache.containers.columns import ImageColumn, find_image_column, has_images, require_arrow
from featcache.containers.container import ContainerError, Place, refuse_larger_image
from featcache.containers.container_file import open_container_file
from featcache.errors import MachineError, UsageError
from featcache.files import FileStat
from featcache.text import counted

_KEY = re.compile(r"(?s)(?:(.+)/)?(\d{6}|[1-9]\d{6,11})")
_NUMBER = re.compile(r"(?s)(?:(.+)/)?([0-9]{1,18})")
_ROWS_AT_ONCE = 16  # of images that are taken out of a Parquet file


def row_key(row: int, column: str | None = None) -> str:
    """Return the key of an image in a table.

    Args:
        row: Its number, from 0.
        column: The column that holds it, where that was named.
    """
    return f"{row:06d}" if column is None else f"{column}/{row:06d}"


class TableFile(ABC):
    """An open table of images. A `Container`."""

    def __init__(self, path: str) -> None:
        """Open it.

        Args:
            path: Of the file; a link is followed.

        Raises:
            UsageError: pyarrow is not installed.
            OSError: it cannot be opened, or is no regular file.
            ContainerError: it is damaged, or of another kind.
            MachineError: it is elsewhere, and whoever has it does not answer.
        """
        require_arrow(path)
        self._file = open_container_file(path)
        self.status: FileStat = self._file.status
        self.can_change, self.is_concurrent = self._file.can_change, False
        try:
            self._open(self._file.as_file())
        except Exception as error:
            self._file.close()
            if isinstance(error, MachineError | ContainerError) or (isinstance(error, OSError) and error.errno):
                raise
            raise ContainerError(f"no {self.kind} file, or damaged or cut off: {_first_line(error)}") from None

    kind: str  # what it is called

    @property
    @abstractmethod
    def schema(self) -> Any:
        """Its columns, as pyarrow has them."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many rows it has."""

    @abstractmethod
    def read_column(self, name: str) -> Any:
        """Return a whole column, as pyarrow has it.

        Args:
            name: Of the column, which is there.

        Raises:
            ContainerError: it is damaged.
        """

    @abstractmethod
    def _open(self, file: BinaryIO) -> None:
        """Read what stands at the beginning or the end of the file."""

    @abstractmethod
    def _read_image(self, row: int, column: ImageColumn) -> Any:
        """Return one image's cell, as pyarrow has it."""

    def is_unchanged(self) -> bool:
        """Return whether the open file is still what it was."""
        return self._file.is_unchanged()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def index(self) -> None:  # noqa: B027 (nothing is to be done: a row's number says where it is)
        """Do nothing."""

    def locate(self, key: str) -> Place:
        """Return the key itself, once there is such a row.

        Args:
            key: Of the image.

        Raises:
            ContainerError: there is none.
        """
        match = _KEY.fullmatch(key)
        if match is None or int(match[2]) >= self.rows:
            raise ContainerError(f"the table has {counted(self.rows, 'row')}, the first is number 0")
        return key

    def nearest_key(self, key: str) -> str | None:
        """Return the key of the row whose number is typed with too few zeros, or too many; None where none is.

        Args:
            key: Of no image.
        """
        match = _NUMBER.fullmatch(key)
        return row_key(int(match[2]), match[1]) if match is not None and int(match[2]) < self.rows else None

    def read(self, place: Place, limit: int) -> bytes:
        """Return the bytes of an image.

        Args:
            place: As `locate` returned it.
            limit: The most bytes that it may have.

        Raises:
            ContainerError: the row has none, or too many, or the file is damaged there.
        """
        match = _KEY.fullmatch(str(place))
        if match is None or int(match[2]) >= self.rows:
            raise ContainerError("the table has no such row")
        column = find_image_column(self.schema, match[1])
        try:
            cell = self._read_image(int(match[2]), column)
            if cell is None or not cell.is_valid:
                raise ContainerError("the row has no bytes of an image; a path to a file elsewhere is not followed")
            buffer = cell.as_buffer()
            refuse_larger_image(buffer.size, limit)
            return bytes(buffer)
        except (ContainerError, MachineError):
            raise
        except Exception as error:  # pyarrow raises whatever the bytes make it raise
            raise ContainerError(f"the {self.kind} file is damaged there: {_first_line(error)}") from None


class ParquetFile(TableFile):
    """An open Parquet file, of which a few rows are taken out at a time."""

    kind = "Parquet"

    def _open(self, file: BinaryIO) -> None:
        from pyarrow import parquet

        self._parquet = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        sizes = [self._parquet.metadata.row_group(group).num_rows for group in range(self._parquet.num_row_groups)]
        self._starts = list(itertools.accumulate(sizes, initial=0))  # of each row group, and the end
        self._cursor: _Cursor | None = None

    @property
    def schema(self) -> Any:
        """Its columns, as pyarrow has them."""
        return self._parquet.schema_arrow

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._parquet.metadata.num_rows)

    def read_column(self, name: str) -> Any:
        """Return a whole column, as pyarrow has it.

        Raises:
            ContainerError: it is damaged.
        """
        try:
            return self._parquet.read([name]).column(name)
        except (ContainerError, MachineError):
            raise
        except Exception as error:
            raise ContainerError(f"column {name!r} is damaged: {_first_line(error)}") from None

    def _read_image(self, row: int, column: ImageColumn) -> Any:
        """Return one image's cell; rows in order are read once, a step back begins the row group anew."""
        if self._cursor is None or not self._cursor.can_reach(row, column):
            group = bisect.bisect_right(self._starts, row) - 1
            batches = self._parquet.iter_batches(_ROWS_AT_ONCE, [group], [column.leaf], use_threads=False)
            self._cursor = _Cursor(column, batches, self._starts[group], self._starts[group + 1])
        try:
            return self._cursor.read(row)
        except BaseException:
            self._cursor = None  # rows behind one that failed must not be taken from what was read before
            raise


def has_image_column(path: str) -> bool:
    """Return whether a Parquet file holds images, and not paths of images; False where that cannot be told.

    Args:
        path: Of the file, on this machine.
    """
    try:
        file = ParquetFile(path)
    except (OSError, ContainerError, UsageError):
        return False
    with contextlib.closing(file):
        return has_images(file.schema)


class _Cursor:
    """A row group that is being read."""

    def __init__(self, column: ImageColumn, batches: Iterator[Any], first: int, end: int) -> None:
        self.column, self.batches, self.first, self.end = column, batches, first, end
        self.cells: Any = ()  # of the rows from `first` on

    def can_reach(self, row: int, column: ImageColumn) -> bool:
        """Return whether a row is one of those that were taken out last, or comes behind them."""
        return column == self.column and self.first <= row < self.end

    def read(self, row: int) -> Any:
        while row >= self.first + len(self.cells):
            self.first += len(self.cells)
            self.cells = take_bytes(next(self.batches).column(0), self.column)
        return self.cells[row - self.first]


class ArrowFile(TableFile):
    """An open Arrow file, of streams or of the file format, which is mapped into memory."""

    kind = "Arrow"

    def _open(self, file: BinaryIO) -> None:
        import pyarrow as pa

        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        source = pa.py_buffer(mapped)
        is_file = mapped[:6] == b"ARROW1"
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        self._table: Any = reader.read_all()
        self._rows = int(self._table.num_rows)

    def close(self) -> None:
        """Close the file, and let go of its mapping, which holds it open too."""
        super().close()
        self._table = None

    @property
    def schema(self) -> Any:
        """Its columns, as pyarrow has them."""
        return self._table.schema

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self._rows

    def read_column(self, name: str) -> Any:
        """Return a whole column, as pyarrow has it.

        Raises:
            ContainerError: it is damaged.
        """
        column = self._table.column(name)
        try:
            column.validate(full=True)  # an Arrow file has no checksums: an offset may lead anywhere
        except Exception as error:
            raise ContainerError(f"column {name!r} is damaged: {_first_line(error)}") from None
        return column

    def _read_image(self, row: int, column: ImageColumn) -> Any:
        """Return one image's cell, once its offsets are known to lie within the file."""
        cells = next(chunk for chunk in self._table.column(column.name).slice(row, 1).chunks if len(chunk))
        cells.validate(full=True)
        return take_bytes(cells, column)[0]


def take_bytes(cells: Any, column: ImageColumn) -> Any:
    """Return the bytes of a column's cells, as pyarrow has them.

    Args:
        cells: An array of binary, or of structs.
        column: Which it is.
    """
    import pyarrow.compute as pc

    return pc.struct_field(cells, column.part) if column.part else cells


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
