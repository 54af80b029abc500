"""The figures of several target columns of Drive&Act, one line a target: on the terminal, and as a CSV file."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.evaluation import Evaluation
from featcache.metrics import Interval
from featcache.report.console import print_parts
from featcache.report.name_table import name_table
from featcache.report.render_intervals import describe_resampling, interval_text
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows
from featcache.text import counted, enumerate_words, percent, printable, shorten

_HEADINGS = ("classes", "macro recall", "95 %", "accuracy")


def print_columns(evaluations: Mapping[str, Evaluation], console: Console) -> None:
    """Print the figures of each target's head in one table, and which heads they are.

    Args:
        evaluations: by the word of the target.
        console: where; its width decides what fits.
    """
    first, width = next(iter(evaluations.values())), console.width
    splits = enumerate_words(list(dict.fromkeys(printable(each.split) for each in evaluations.values())))
    title = f"{printable(first.data_set)} · {splits} · {first.unit} · {counted(len(evaluations), 'target')}"
    heads = [Text(printable(f"{word}: {each.sentence}")) for word, each in evaluations.items()]
    parts: list[RenderableType] = [Group(Text(shorten(title, width), style="bold"), *heads)]
    parts += [Text(f"note: {note}", style="bold red") for note in _notes(evaluations)]
    rows = [_cells(each) for each in evaluations.values()]
    parts.append(name_table("target", evaluations, (*_HEADINGS, f"{first.by}s"), rows, width))
    print_parts([*parts, *([describe_resampling(first.intervals)] if first.intervals else [])], console)


def _cells(evaluation: Evaluation) -> list[str]:
    """Return the figures of one target, as `_HEADINGS` has them, and its rows."""
    interval = evaluation.intervals.macro_recall if evaluation.intervals else None
    recall = percent(evaluation.macro_recall), interval_text(evaluation.macro_recall, interval)
    return [f"{len(evaluation.classes):,}", *recall, percent(evaluation.accuracy), f"{evaluation.rows:,}"]


def _notes(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    """Yield every note once, with the targets that it is about where it is not about all."""
    for note in dict.fromkeys(note for each in evaluations.values() for note in each.notes):
        words = [word for word, each in evaluations.items() if note in each.notes]
        yield printable(note if len(words) == len(evaluations) else f"{', '.join(words)}: {note}")


def save_columns_csv(evaluations: Mapping[str, Evaluation], path: Path) -> None:
    """Write two rows a target, macro_recall and accuracy: target, figure, value, low, high, rows, classes, head.

    Args:
        evaluations: by the word of the target.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    header = ("target", "figure", "value", "low", "high", "rows", "classes", "head")
    save_rows(header, _csv_rows(evaluations), path)


def _csv_rows(evaluations: Mapping[str, Evaluation]) -> Iterator[list[object]]:
    for word, each in evaluations.items():
        intervals = each.intervals
        figures: tuple[tuple[str, float, Interval | None], ...] = (
            ("macro_recall", each.macro_recall, intervals.macro_recall if intervals else None),
            ("accuracy", each.accuracy, intervals.accuracy if intervals else None),
        )
        for name, value, interval in figures:
            ends = ["", ""] if interval is None else [interval.low, interval.high]
            about = [each.rows, len(each.classes), disarm_formula(each.head)]
            yield [disarm_formula(word), name, blank_if_undefined(value), *ends, *about]
