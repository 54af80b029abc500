"""Conformal intervals of numbers and sets of labels: on the terminal, and in sentences for the page."""

import math

from rich.console import Group, RenderableType
from rich.text import Text

from featcache.evaluation import TargetSets
from featcache.metrics import conformal_spread
from featcache.recipe import LABELS, VALUE
from featcache.report.name_table import name_table
from featcache.report.render_intervals import interval_text
from featcache.text import UNDEFINED, counted, percent, percent_number

MOST_SUBJECTS = 20  # that the terminal lists
_NAMED = 5  # labels or numbers in a sentence
_KEYS = {
    LABELS: "coverage: of the rows with the label, those whose set has it, in %; in sets: of all sets, in %",
    VALUE: "coverage: of all rows, those whose interval holds the truth, in %; width in the number's unit",
}


def target_sets_parts(sets: TargetSets, width: int) -> RenderableType:
    """Return what intervals or sets are, how often each number or label is held, and the same by subject.

    Args:
        sets: those of a split.
        width: columns that each line may take.
    """
    is_labels, part = sets.predictions.kind == LABELS, sets.predictions
    title = Text(f"conformal {'sets' if is_labels else 'intervals'} at {percent(sets.level, 0)}", style="bold")
    lines = [Text(f"  {sentence}") for sentence in target_sets_sentences(sets)]
    noun = "label" if is_labels else "number"
    table = name_table(
        noun, part.names, set_headings(sets), [set_cells(sets, at) for at in range(len(part.names))], width
    )
    key = Text(_KEYS[sets.predictions.kind], style="dim")
    return Group(title, *lines, table, key, *_subjects(sets, width))


def target_sets_sentences(sets: TargetSets) -> list[str]:
    """Return what the intervals or sets promise, for what, and how large the sets are, a sentence each.

    Args:
        sets: those of a split.
    """
    by, share = sets.predictions.by, percent(sets.level, 0)
    if sets.predictions.kind == LABELS:
        rule = (
            f"calibrated on val: a set has the labels whose probability is at least their limit, which {share} of "
            f"val's {by}s with the label reach; the other labels that {by}s have are missed"
        )
        size = [f"set size {sets.mean_size:.2f} labels on average"]
    else:
        rule = (
            f"calibrated on {counted(int(sets.calibrated_on[0]), by)} of val: an interval is the answer, give or take "
            f"an error that {share} of them stay within"
        )
        size = []
    return [rule, *size, *_too_few(sets), _promise(sets)]


def _promise(sets: TargetSets) -> str:
    """Return for what the level holds, and how far one val split lies from it, as a sentence."""
    by, share, few = sets.predictions.by, percent(sets.level, 0), min(map(int, sets.calibrated_on), default=0)
    spread, others = conformal_spread(few, sets.level), "other subjects or cameras may have less"
    if math.isnan(spread):
        return f"{share} is what new {by}s of the kind of val's would have; {others}"
    return (
        f"{share} is the mean over all val splits of this size: one with {counted(few, by)} gives {share} give or take "
        f"{percent_number(2 * spread, 0)} points; {others}"
    )


def _too_few(sets: TargetSets) -> list[str]:
    """Return which numbers or labels have too few rows of val for the level, as a sentence."""
    is_labels = sets.predictions.kind == LABELS
    lacking = [
        name
        for name, limit in zip(sets.predictions.names, sets.limits.tolist(), strict=True)
        if (limit == 0 if is_labels else math.isinf(limit))
    ]
    if not lacking:
        return []
    one_or_all = "it" if len(lacking) == 1 else "them"
    outcome = f"every set has {one_or_all}" if is_labels else "every interval is unbounded"
    rest = f" and {len(lacking) - _NAMED:,} more" if len(lacking) > _NAMED else ""
    names = f"{', '.join(lacking[:_NAMED])}{rest}"
    return [f"val has too few {sets.predictions.by}s for {percent(sets.level, 0)} of {names}: {outcome}"]


def set_headings(sets: TargetSets) -> list[str]:
    """Return the headings of the figures of each number or label.

    Args:
        sets: those of a split.
    """
    if sets.predictions.kind == LABELS:
        return ["val", "coverage", "95 %", "in sets", "limit"]
    return ["coverage", "95 %", "width"]


def set_cells(sets: TargetSets, output: int) -> list[str]:
    """Return the cells of one number or label, as `set_headings` has them.

    Args:
        sets: those of a split.
        output: the place of the number or label, from 0.
    """
    coverage = sets.coverage(output)
    held = [percent_number(coverage), interval_text(coverage, sets.coverage_interval(output))]
    if sets.predictions.kind == LABELS:
        inside = percent_number(sets.width(output))
        return [f"{sets.calibrated_on[output]:,}", *held, inside, f"{sets.limits[output]:.3g}"]
    width = sets.width(output)
    return [*held, UNDEFINED if math.isinf(width) else f"{width:.4g}"]


def _subjects(sets: TargetSets, width: int) -> list[RenderableType]:
    """Return a line for each subject, the least coverage first; nothing where no row names one."""
    if not sets.subjects:
        return []
    shown = sorted(sets.subjects, key=lambda person: (math.isnan(person.coverage), person.coverage))[:MOST_SUBJECTS]
    is_labels = sets.predictions.kind == LABELS
    sizes = [[f"{person.size:.2f}"] if is_labels else [] for person in shown]
    rows = [
        (f"{person.rows:,}", percent_number(person.coverage), *size) for person, size in zip(shown, sizes, strict=True)
    ]
    headings = (f"{sets.predictions.by}s", "coverage", *(["set size"] if is_labels else []))
    table = name_table("subject", [person.subject for person in shown], headings, rows, width)
    left = len(sets.subjects) - len(shown)
    more = [Text(f"and {counted(left, 'subject')} more; --json has all", style="dim")] if left else []
    return [table, *more]
