"""The evaluation of several labels or numbers a row: on the terminal, and as a CSV file."""

import math
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from featcache.evaluation import TargetEvaluation
from featcache.listing import title_data_set
from featcache.metrics import LEVEL, R2, TOO_FEW, TargetIntervals
from featcache.recipe import LABELS
from featcache.report.console import print_parts
from featcache.report.metrics_in_words import metric_interval_text
from featcache.report.name_table import name_table
from featcache.report.render_target_sets import target_sets_parts
from featcache.report.tables import blank_if_undefined, disarm_formula, save_rows
from featcache.text import METRIC_WORDS, counted, metric_text, percent, printable, shorten


def print_target_evaluation(evaluation: TargetEvaluation, console: Console) -> None:
    """Print the report of several labels or numbers, an empty line between its parts.

    Args:
        evaluation: what is printed.
        console: where; its width decides what fits.
    """
    print_parts(target_evaluation_parts(evaluation, console.width), console)


def target_evaluation_parts(evaluation: TargetEvaluation, width: int) -> list[RenderableType]:
    """Return the parts of the report, top to bottom."""
    parts: list[RenderableType] = [_headline(evaluation, width)]
    parts += [Text(f"note: {printable(note)}", style="bold red") for note in evaluation.notes]
    parts.append(_outputs(evaluation, width))
    if evaluation.sets is not None:
        parts.append(target_sets_parts(evaluation.sets, width))
    if sentence := label_temperature_sentence(evaluation):
        parts.append(Text(sentence))
    if evaluation.intervals is not None:
        parts.append(Text(intervals_sentence(evaluation), style="dim"))
    return parts


def label_temperature_sentence(evaluation: TargetEvaluation) -> str:
    """Return which temperature the probabilities of labels are by, and what it does on val; "" where there is none.

    Args:
        evaluation: what is shown.
    """
    fitted = evaluation.temperature
    if fitted is None:
        return ""
    images = counted(fitted.rows, "image")
    if fitted.value is None:
        return f"no temperature: with every label of {images} of val on its right side of 50 %, no number is best"
    return (
        f"probabilities: with temperature {fitted.value:.3g}, fitted on {images} of val, where it takes the mean "
        f"binary cross-entropy from {fitted.loss_before:.4f} to {fitted.loss:.4f}"
    )


def intervals_sentence(evaluation: TargetEvaluation) -> str:
    """Return what the intervals are, and where they come from; "" where there are none.

    Args:
        evaluation: what is shown.
    """
    return "" if evaluation.intervals is None else sentence_on_resampling(evaluation.intervals)


def sentence_on_resampling(intervals: TargetIntervals) -> str:
    """Return what was drawn again for intervals, and how they are made of it.

    Args:
        intervals: of figures, or of the differences between those of two heads.
    """
    drawn = counted(intervals.groups, intervals.unit)
    return (
        f"intervals: {percent(intervals.level, 0)}, {intervals.resamples:,} resamples of {drawn}; bootstrap standard "
        f"error, Student's t with {intervals.unit}s - 1 degrees of freedom; {TOO_FEW}: fewer than 3 {intervals.unit}s, "
        f"or no spread between them"
    )


def headings(evaluation: TargetEvaluation) -> list[str]:
    """Return the headings of the figures of each label or number.

    Args:
        evaluation: what is shown.
    """
    if evaluation.kind == LABELS:
        return ["rows", "average precision", "interval", "F1", "interval", "threshold"]
    return [word for name in evaluation.output_names for word in (METRIC_WORDS[name], "interval")]


def output_cells(evaluation: TargetEvaluation, output: int) -> list[str]:
    """Return the cells of one label or number, as `headings` has them.

    Args:
        evaluation: what is shown.
        output: the place of the label or number, from 0.
    """
    figures = zip(
        evaluation.output_names, evaluation.outputs[output].tolist(), evaluation.output_intervals(output), strict=True
    )
    cells = [
        text
        for name, value, interval in figures
        for text in (metric_text(name, value).removesuffix(" %"), metric_interval_text(name, value, interval))
    ]
    if evaluation.kind != LABELS:
        return cells
    return [f"{evaluation.support[output]:,}", *cells, f"{evaluation.predictions.thresholds[output]:.3f}"]


def _headline(evaluation: TargetEvaluation, width: int) -> RenderableType:
    data_set = title_data_set(evaluation.data_set, evaluation.variant)
    title = " · ".join(printable(name) for name in (data_set, evaluation.split))
    failed = f"; {counted(evaluation.failed, 'image')} without an embedding left out" if evaluation.failed else ""
    lines = [Text(shorten(title, width), style="bold"), Text(printable(evaluation.sentence))]
    lines.append(Text(counted(evaluation.rows, evaluation.predictions.by) + failed))
    scores = Table.grid(padding=(0, 3))
    for column in range(3):
        scores.add_column(justify="right" if column else "left", no_wrap=True)
    scores.add_row("", "this head", percent(LEVEL, 0))
    for name, interval in zip(evaluation.metric_names, evaluation.overall_intervals, strict=True):
        value = evaluation.metrics[name]
        cells = (metric_text(name, value), metric_interval_text(name, value, interval))
        scores.add_row(f"{METRIC_WORDS[name]}{_over(evaluation, name)}", *cells)
    return Group(*lines, Text(), scores, *(Text(line, style="dim") for line in baseline_lines(evaluation)))


def _over(evaluation: TargetEvaluation, name: str) -> str:
    """Return over which labels or numbers a metric is the mean, for its line."""
    if evaluation.kind != LABELS:
        return f", mean of {len(evaluation.names)} numbers" if len(evaluation.names) > 1 else ""
    if name != "mean_average_precision":
        return ""
    seen = sum(map(bool, evaluation.support))
    return f" over {seen} of {len(evaluation.names)} labels"


def baseline_lines(evaluation: TargetEvaluation) -> list[str]:
    """Return what guessing would reach, a sentence each.

    Args:
        evaluation: what is shown.
    """
    if evaluation.kind == LABELS:
        precision = percent(evaluation.baseline)
        return [f"baseline: rows in a random order have a mean average precision of {precision}"]
    lines, r2 = ["baseline: always answering the mean has an R2 of 0"], evaluation.metrics[R2]
    if r2 < 0:
        lines.append(f"R2 is below 0: always answering the mean of {evaluation.split} would do better than this head")
    return lines


def _outputs(evaluation: TargetEvaluation, width: int) -> RenderableType:
    rows = [output_cells(evaluation, output) for output in range(len(evaluation.names))]
    if evaluation.kind == LABELS:
        table = name_table("label", evaluation.names, headings(evaluation), rows, width)
        return Group(table, Text("figures in %, but for the threshold", style="dim"))
    words = [METRIC_WORDS[name] for name in evaluation.output_names]
    lines = [[word, *row[2 * at : 2 * at + 2]] for row in rows for at, word in enumerate(words)]
    names = [name if not at else "" for name in evaluation.names for at in range(len(words))]
    table = name_table("number", names, ("figure", "", "interval"), lines, width)
    return Group(table, Text("MAE and RMSE in the number's unit", style="dim"))


def save_target_evaluation_csv(evaluation: TargetEvaluation, path: Path) -> None:
    """Write one row a label or number: its name, of a label its rows and threshold, then each figure with its interval.

    Args:
        evaluation: what is written.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .csv, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    is_labels = evaluation.kind == LABELS
    figures = [column for name in evaluation.output_names for column in (name, f"{name}_low", f"{name}_high")]
    header = ["label" if is_labels else "number", *(["support", "threshold"] if is_labels else []), *figures]
    save_rows(header, _csv_rows(evaluation), path)


def _csv_rows(evaluation: TargetEvaluation) -> Iterator[list[object]]:
    for output, name in enumerate(evaluation.names):
        cells: list[object] = [disarm_formula(name)]
        if evaluation.kind == LABELS:
            cells += [evaluation.support[output], float(evaluation.predictions.thresholds[output])]
        for value, interval in zip(evaluation.outputs[output], evaluation.output_intervals(output), strict=True):
            ends = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
            cells += [blank_if_undefined(float(figure)) for figure in (value, *ends)]
        yield cells
