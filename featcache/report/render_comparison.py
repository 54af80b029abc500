"""The comparison of heads as a table and as a CSV file."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from featcache.evaluation import ComparedHead, Comparison
from featcache.listing import title_data_set
from featcache.report.columns import Column, FittingTable
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows
from featcache.text import METRIC_WORDS, UNDEFINED, counted, decimal, metric_text, percent, printable, shorten

LONGEST_FEATURES = 64  # cells of a wide terminal: of several trunks their names are cut in the middle
WIDE = 140  # columns of a terminal that has room for settings in full


def comparison_parts(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """Yield the table of a comparison and its notes.

    Args:
        comparison: what is shown.
        width: columns of the terminal; a name says its settings, so a narrow table goes without them.
    """
    heads = comparison.heads
    splits = ", ".join(sorted({head.split for head in heads}))
    data_set = printable(title_data_set(comparison.data_set, comparison.variant))
    yield Text(f"{data_set}: {counted(len(heads), 'head')}, scores on {splits}")
    columns = [*_name_columns(comparison), *_word_columns(heads, wide=width >= WIDE), *_figure_columns(comparison)]
    yield FittingTable(columns, "--csv FILE and --json have them all")
    for note in comparison.notes:
        yield Text(f"note: {printable(note)}")


def _name_columns(comparison: Comparison) -> list[Column]:
    """Return the number of each head, with a mark on the one that `best` stands for, and its names."""
    heads = comparison.heads
    kept = [head for head in heads if head.number]  # all but functions of one's own
    first = min(kept, key=lambda head: head.order, default=None)
    best = None if first is None or first.has_diverged or comparison.is_rescored else first
    numbers = [f"{_number(head)}{' *' if head is best else ''}" for head in heads]
    legend = f"#: names a head in every command, such as `featcache report {kept[0].number}`" if kept else ""
    if best is not None:
        legend += "\n*: the head that `best` stands for"
    columns = [Column(heading="#", cells=numbers, legend=legend, is_name=True)]
    if any(head.given_name for head in heads):
        columns.append(Column(heading="called", cells=[head.given_name for head in heads], is_name=True))
    return [*columns, Column(heading="name", cells=[head.name for head in heads], is_name=True)]


def _number(head: ComparedHead) -> str:
    return f"#{head.number}" if head.number else UNDEFINED


def _word_columns(heads: Sequence[ComparedHead], *, wide: bool) -> Iterator[Column]:
    """Yield classifier and settings where a terminal is wide, several features, and stores that these do not tell."""
    if wide:
        yield Column(heading="classifier", cells=[head.classifier for head in heads], is_name=True, rank=7)
        yield Column(heading="settings", cells=[head.settings for head in heads], is_name=True, rank=8)
    if len({head.features for head in heads}) > 1:
        longest = LONGEST_FEATURES if wide else LONGEST_FEATURES // 2
        cells = [shorten(_by_trunk(head.features), longest) for head in heads]
        yield Column(heading="features", cells=cells, is_name=True, rank=1)
    if len({(head.store, head.features) for head in heads}) > len({head.features for head in heads}):
        yield Column(heading="store", cells=[head.store for head in heads], is_name=True, rank=4)


def _by_trunk(features: str) -> str:
    """Return features for a reader: "timm:a/cls+timm:a/mean+b/pooled" as "a cls+mean, b pooled"."""
    layers_of: dict[str, list[str]] = {}
    for part in features.split("+"):
        trunk, _, layer = part.rpartition("/")
        layers_of.setdefault(trunk.rpartition(":")[2], []).append(layer)
    return ", ".join(f"{trunk} {'+'.join(layers)}".strip() for trunk, layers in layers_of.items())


def _figure_columns(comparison: Comparison) -> Iterator[Column]:
    """Yield the scores, the gap and the seconds."""
    heads = comparison.heads
    for number, name in enumerate(comparison.metrics):
        cells = [metric_text(name, head.figure(name)) for head in heads]
        yield Column(heading=METRIC_WORDS[name], cells=cells, rank=2 if number else 0)
    yield Column(heading="loss", cells=[decimal(head.figure("loss")) for head in heads], rank=3)
    has_check = "macro_recall" in comparison.metrics  # which is against the optimum for classes
    explained = f"gap: the share of the training loss that lies above its optimum; {UNDEFINED}: not checked"
    legend = explained if any(math.isfinite(head.gap) for head in heads) else ""
    if has_check:
        yield Column(heading="gap", cells=[percent(head.gap) for head in heads], legend=legend, rank=5)
    legend = "seconds: of the run that made the head, divided by its heads"
    yield Column(heading="seconds", cells=[f"{head.seconds:,.1f}" for head in heads], legend=legend, rank=6)


def save_comparison_csv(comparison: Comparison, path: Path) -> None:
    """Write one row a head: name, classifier, settings, split, its figures, store, number, given name, features.

    Shares are numbers in 0 … 1.

    Args:
        comparison: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, or its folder does not exist.
        MachineError: it cannot be written.
    """
    figures = (*comparison.metrics, "loss", "gap", "seconds")
    rows = []
    for head in comparison.heads:
        words = [disarm_formula(word) for word in (head.name, head.classifier, head.settings, head.split)]
        values = [blank_if_undefined(head.figure(column)) for column in figures]
        names = [disarm_formula(head.given_name), disarm_formula(head.features)]
        rows.append([*words, *values, disarm_formula(head.store), head.number or "", *names])
    columns = ["name", "classifier", "settings", "split", *figures, "store", "number", "given_name", "features"]
    save_rows(columns, rows, path)
