"""A table of names and their figures on the terminal: names are cut to what the width leaves, figures never."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from featcache.text import printable, shorten

NARROW = 80  # columns; under it words and gaps are shorter
LEAST_NAME = 8  # cells


def name_table(
    first: str, names: Iterable[str], headings: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> Table:  # fmt: skip
    """Return one row a name; one whose first figure is 0 is dim.

    Args:
        first: the heading of the names.
        names: one for each row, as they are.
        headings: of the figures; a column without one is set flush left.
        rows: the figures of each name.
        width: columns that the whole table may take.
    """
    padding = 0 if width < NARROW else 1  # and the box sets one column between any two
    taken = sum(max(map(cell_len, column)) + 1 + padding for column in zip(headings, *rows, strict=True))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, padding, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        shown = Text(shorten(printable(name), max(LEAST_NAME, width - taken)))
        table.add_row(shown, *(Text(cell) for cell in row), style="dim" if row[0] == "0" else "")
    return table
