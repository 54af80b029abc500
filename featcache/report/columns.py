"""A table of heads for any width: columns are left out and named, names are cut in their middle, figures never are."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from featcache.text import printable, shorten

_GAP = 2  # cells between two columns
_SHORTEST = 13  # cells of a name that is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table: its heading, what it shares with its neighbours, and a cell for each row."""

    heading: str
    cells: Sequence[str]
    group: str = ""  # over the heading of the first of its columns: "train", "val"
    legend: str = ""  # what its heading, or a sign in it, means; stands under the table where the column does
    is_name: bool = False  # left-justified, and cut where nothing else can be left out
    rank: int = 0  # columns of the highest rank are left out first, those of rank 0 never

    @property
    def width(self) -> int:
        """Cells of its widest line."""
        return max(map(cell_len, (self.group, self.heading, *self.cells)), default=0)

    @property
    def label(self) -> str:
        """How a sentence calls it."""
        return f"{self.group} {self.heading}".strip()


@dataclass(frozen=True, slots=True)
class FittingTable:
    """Columns side by side, as many as fit; a line under them names those that were left out.

    Where standard output is piped and COLUMNS is not set, every column is written as it is.
    """

    columns: Sequence[Column]
    elsewhere: str  # where the rest can be read: "--csv FILE and --json have them all"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for the width of a console."""
        is_bound = console.is_terminal or "COLUMNS" in os.environ
        room = options.max_width if is_bound else sum(column.width + _GAP for column in self.columns)
        shown = fit_columns(self.columns, room)
        left_out = [column.label for column in self.columns if column not in shown]
        yield Group(*table_lines(shown, room))
        for legend in (column.legend for column in shown if column.legend):
            yield Text(legend, style="dim")
        if left_out:
            yield Text(
                f"left out at {room} columns: {', '.join(left_out)}; a wider terminal shows them, {self.elsewhere}",
                style="dim",
            )


def fit_columns(columns: Sequence[Column], room: int) -> list[Column]:
    """Return the columns that fit a width, in their order; those of the highest rank give way first.

    Args:
        columns: All columns.
        room: Cells of a line.
    """
    shown = list(columns)
    while _total(shown) > room and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    return shown


def table_lines(columns: Sequence[Column], room: int) -> list[Text]:
    """Return the lines of a table; where it is still too wide, its names are cut in their middle.

    Args:
        columns: Those that are shown.
        room: Cells of a line.
    """
    excess = _total(columns) - room
    widths = []
    for column in columns:
        cut = min(excess, max(0, column.width - _SHORTEST)) if column.is_name and excess > 0 else 0
        widths.append(column.width - cut)
        excess -= cut
    groups = [column.group for column in columns]
    heads = [[group if group != before else "" for before, group in zip(["", *groups], groups, strict=False)]]
    heads.append([column.heading for column in columns])
    rows = zip(*(column.cells for column in columns), strict=True)
    return [
        *(
            Text(_line(cells, columns, widths), style="bold", no_wrap=True, overflow="ignore")
            for cells in heads
            if any(cells)
        ),
        *(Text(_line(cells, columns, widths), no_wrap=True, overflow="ignore") for cells in rows),
    ]


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        text = shorten(printable(cell), width) if column.is_name else cell
        parts.append(set_cell_size(text, width) if column.is_name else " " * (width - cell_len(text)) + text)
    return (" " * _GAP).join(parts).rstrip()


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)
