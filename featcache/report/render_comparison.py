"""The comparison of heads as a table and as a CSV file."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from featcache.evaluation import Comparison
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows
from featcache.text import decimal, percent, printable

WIDE = 140  # columns of a terminal that has room for settings in full


def comparison_parts(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """Yield the table of a comparison and its notes.

    Args:
        comparison: what is shown.
        width: columns of the terminal; a name says its settings, so a narrow table goes without them.
    """
    wide = width >= WIDE
    several = len({head.store for head in comparison.heads}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", *(("classifier", "settings") if wide else ()), *(("store",) if several else ())):
        table.add_column(f"\n{heading}", overflow="fold")
    for heading in ("macro\nrecall", "\naccuracy", "\nloss", "\ngap", "\nseconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for head in comparison.heads:
        cells = [
            percent(head.figure("macro_recall")),
            percent(head.figure("accuracy")),
            decimal(head.figure("loss")),
            percent(head.gap),
            f"{head.seconds:,.1f}",
        ]
        settings = [head.classifier, head.settings] if wide else []
        words = [head.name, *settings, *([head.store] if several else [])]
        table.add_row(*(Text(printable(word)) for word in words), *cells)
    splits = ", ".join(sorted({head.split for head in comparison.heads}))
    yield Text(f"{printable(comparison.data_set)}: {len(comparison.heads)} classifiers, scores on {splits}")
    yield table
    for note in comparison.notes:
        yield Text(f"note: {printable(note)}")


def save_comparison_csv(comparison: Comparison, path: Path) -> None:
    """Write one row a head: name, classifier, settings, split, its figures, store; shares in 0 … 1.

    Args:
        comparison: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, or its folder does not exist.
        MachineError: it cannot be written.
    """
    figures = ("macro_recall", "accuracy", "loss", "gap", "seconds")
    rows = []
    for head in comparison.heads:
        words = [disarm_formula(word) for word in (head.name, head.classifier, head.settings, head.split)]
        values = [blank_if_undefined(head.figure(column)) for column in figures]
        rows.append([*words, *values, disarm_formula(head.store)])
    save_rows(["name", "classifier", "settings", "split", *figures, "store"], rows, path)
