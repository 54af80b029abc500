"""The average over folds of heads on several labels or numbers: on the terminal, and as a CSV file."""

import math
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.evaluation import TargetFolds
from featcache.listing import title_data_set
from featcache.metrics import LEVEL, Interval
from featcache.recipe import LABELS
from featcache.report.console import print_parts
from featcache.report.metrics_in_words import metric_interval_text
from featcache.report.name_table import name_table
from featcache.report.render_targets import sentence_on_resampling
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows
from featcache.text import METRIC_WORDS, metric_text, percent, printable, shorten


def print_target_folds(folds: TargetFolds, console: Console) -> None:
    """Print the averages, each fold's figures with its head, and the averages of each label or number.

    Args:
        folds: what is printed.
        console: where; its width decides what fits.
    """
    first, width = folds.folds[0], console.width
    numbered = list(zip(folds.numbers, folds.folds, strict=True))
    data_set = title_data_set(first.data_set, first.variant, all_folds=True)
    title = f"{printable(data_set)} · {printable(first.split)} · by {first.predictions.by} · {len(numbered)} folds"
    heads = [Text(printable(f"fold {number}: {fold.sentence}")) for number, fold in numbered]
    parts: list[RenderableType] = [Group(Text(shorten(title, width), style="bold"), *heads)]
    parts += [Text(f"note: {printable(note)}", style="bold red") for note in folds.notes]
    parts += [_fold_by_fold(folds, width), _averages(folds, width), _outputs(folds, width)]
    print_parts([*parts, Text(sentence_on_resampling(folds.intervals), style="dim")], console)


def fold_headings(folds: TargetFolds) -> list[str]:
    """Return the headings of a fold's figures: its metrics, and how many rows it has.

    Args:
        folds: what is shown.
    """
    return [*(METRIC_WORDS[name] for name in folds.folds[0].metric_names), f"{folds.folds[0].predictions.by}s"]


def fold_cells(folds: TargetFolds, place: int) -> list[str]:
    """Return the figures of one fold, as `fold_headings` has them.

    Args:
        folds: what is shown.
        place: the fold's place, from 0.
    """
    fold = folds.folds[place]
    return [*(metric_text(name, fold.metrics[name]) for name in fold.metric_names), f"{fold.rows:,}"]


def average_cells(folds: TargetFolds) -> list[tuple[str, str, str]]:
    """Return each metric in words, with its average and the interval of that.

    Args:
        folds: what is shown.
    """
    pairs = zip(folds.metrics.items(), folds.intervals.overall, strict=True)
    return [
        (METRIC_WORDS[name], metric_text(name, value), metric_interval_text(name, value, interval))
        for (name, value), interval in pairs
    ]


def average_output_headings(folds: TargetFolds) -> list[str]:
    """Return the headings of the averages of each label or number.

    Args:
        folds: what is shown.
    """
    return [word for name in folds.folds[0].output_names for word in (METRIC_WORDS[name], "interval")]


def average_output_cells(folds: TargetFolds, output: int) -> list[str]:
    """Return the averages of one label or number, as `average_output_headings` has them.

    Args:
        folds: what is shown.
        output: its place, from 0.
    """
    figures = zip(folds.folds[0].output_names, folds.outputs[output].tolist(), folds.output_intervals(output),
                  strict=True)  # fmt: skip
    return [
        text
        for name, value, interval in figures
        for text in (metric_text(name, value).removesuffix(" %"), metric_interval_text(name, value, interval))
    ]


def save_target_folds_csv(folds: TargetFolds, path: Path) -> None:
    """Write a row for each metric, then for each figure of each label or number; a column for each fold.

    The columns are figure, label (or number, "" of all together), average, low, high, then `fold 0`, `fold 1`, …

    Args:
        folds: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    noun = "label" if folds.folds[0].kind == LABELS else "number"
    header = ["figure", noun, "average", "low", "high", *(f"fold {number}" for number in folds.numbers)]
    save_rows(header, _csv_rows(folds), path)


def _csv_rows(folds: TargetFolds) -> Iterator[list[object]]:
    first = folds.folds[0]
    for (name, value), interval in zip(folds.metrics.items(), folds.intervals.overall, strict=True):
        yield [name, "", *_average(value, interval), *(blank_if_undefined(fold.metrics[name]) for fold in folds.folds)]
    for output, label in enumerate(first.names):
        for place, name in enumerate(first.output_names):
            average = _average(float(folds.outputs[output, place]), folds.output_intervals(output)[place])
            each = [blank_if_undefined(float(fold.outputs[output, place])) for fold in folds.folds]
            yield [name, disarm_formula(label), *average, *each]


def _average(value: float, interval: Interval | None) -> list[object]:
    """Return an average and the ends of its interval; empty cells where there are none."""
    ends = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
    return [blank_if_undefined(figure) for figure in (value, *ends)]


def _fold_by_fold(folds: TargetFolds, width: int) -> RenderableType:
    rows = [fold_cells(folds, place) for place in range(len(folds.folds))]
    return name_table("fold", map(str, folds.numbers), fold_headings(folds), rows, width)


def _averages(folds: TargetFolds, width: int) -> RenderableType:
    words = average_cells(folds)
    names, rows = [name for name, *_ in words], [cells for _, *cells in words]
    return name_table("all folds", names, ("average", percent(LEVEL, 0)), rows, width)


def _outputs(folds: TargetFolds, width: int) -> RenderableType:
    first = folds.folds[0]
    if first.kind == LABELS:
        rows = [average_output_cells(folds, output) for output in range(len(first.names))]
        table = name_table("label", first.names, average_output_headings(folds), rows, width)
        return Group(table, Text("averages over the folds that have the label, in %", style="dim"))
    if len(first.names) == 1:  # whose figures are those of all together
        return Text("MAE and RMSE in the number's unit", style="dim")
    words = [METRIC_WORDS[name] for name in first.output_names]
    cells = [average_output_cells(folds, output) for output in range(len(first.names))]
    rows = [[word, *row[2 * at : 2 * at + 2]] for row in cells for at, word in enumerate(words)]
    names = [name if not at else "" for name in first.names for at in range(len(words))]
    table = name_table("number", names, ("figure", "", "interval"), rows, width)
    return Group(table, Text("averages over the folds; MAE and RMSE in the number's unit", style="dim"))
