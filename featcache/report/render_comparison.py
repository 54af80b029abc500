"""The comparison of heads as a table and as a CSV file."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from featcache.evaluation import Comparison, finite_or_none
from featcache.report.tables import check_destination, inert, save_bytes
from featcache.report.text import printable

UNKNOWN = "–"
WIDE = 140  # columns of a terminal that has room for settings in full


def comparison_table(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """The table and its notes, `width` columns wide; a name says its settings, so narrow ones go without."""
    wide = width >= WIDE
    several = len({line.store for line in comparison.lines}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", *(("classifier", "settings") if wide else ()), *(("store",) if several else ())):
        table.add_column(f"\n{heading}", overflow="fold")
    for heading in ("macro\nrecall", "\naccuracy", "\nloss", "\ngap", "\nseconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in comparison.lines:
        cells = [
            _share(line.value("macro_recall")),
            _share(line.value("accuracy")),
            _number(line.value("loss")),
            _share(line.gap),
            f"{line.seconds:,.1f}",
        ]
        settings = [line.classifier, line.settings] if wide else []
        words = [line.name, *settings, *([line.store] if several else [])]
        table.add_row(*(Text(printable(word)) for word in words), *cells)
    splits = ", ".join(sorted({line.split for line in comparison.lines}))
    yield Text(f"{printable(comparison.data_set)}: {len(comparison.lines)} classifiers, scores on {splits}")
    yield table
    for note in comparison.notes:
        yield Text(f"note: {printable(note)}")


def save_comparison_csv(comparison: Comparison, path: Path) -> None:
    r"""One row a head, undefined values empty, shares in 0 … 1; names as `tables.inert` writes them.

    Raises:
        UsageError: the path does not end in .csv, or its folder does not exist.
        MachineError: it cannot be written.
    """
    check_destination(path, ".csv")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    columns = ("macro_recall", "accuracy", "loss", "gap", "seconds")
    rows.writerow(["name", "classifier", "settings", "split", *columns, "store"])
    for line in comparison.lines:
        values = [finite_or_none(line.value(column)) for column in columns]
        words = [inert(word) for word in (line.name, line.classifier, line.settings, line.split)]
        rows.writerow([*words, *("" if value is None else value for value in values), inert(line.store)])
    save_bytes(path, text.getvalue().encode())


def _share(value: float | str) -> str:
    found = finite_or_none(value)
    return UNKNOWN if found is None else f"{100 * found:.1f} %"


def _number(value: float | str) -> str:
    found = finite_or_none(value)
    return UNKNOWN if found is None else f"{found:.4f}"
