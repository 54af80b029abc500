"""Conformal sets on the terminal, and in sentences for the page."""

from rich.console import Group, RenderableType
from rich.text import Text

from featcache.evaluation import ConformalSets
from featcache.report.name_table import name_table
from featcache.report.render_intervals import interval_text
from featcache.text import counted, percent, percent_number

MOST_SUBJECTS = 20  # that the terminal lists


def conformal_parts(sets: ConformalSets, width: int) -> RenderableType:
    """Return what the sets are and how often they hold the true class, and the same by subject where there are some.

    Args:
        sets: those of a split.
        width: columns that each line may take.
    """
    title = Text(f"conformal sets at {percent(sets.level, 0)}", style="bold")
    lines = [Text(f"  {sentence}") for sentence in conformal_sentences(sets)]
    if not sets.subjects:
        return Group(title, *lines)
    shown = sorted(sets.subjects, key=lambda person: person.coverage)[:MOST_SUBJECTS]
    rows = [(f"{person.rows:,}", percent_number(person.coverage), f"{person.mean_size:.2f}") for person in shown]
    headings = (f"{sets.predictions.by}s", "coverage", "set size")
    table = name_table("subject", [person.subject for person in shown], headings, rows, width)
    left = len(sets.subjects) - len(shown)
    more = [Text(f"and {counted(left, 'subject')} more; --json has all", style="dim")] if left else []
    return Group(title, *lines, table, *more)


def conformal_sentences(sets: ConformalSets) -> list[str]:
    """Return the threshold, the coverage, the sizes, and what the promise holds for, a sentence each.

    Args:
        sets: those of a split.
    """
    by, on = sets.predictions.by, counted(sets.calibrated_on, sets.predictions.by)
    rule = f"calibrated on {on} of val: a set holds every class with a probability of {sets.threshold:.3g} or more"
    if sets.threshold == 0:
        rule = f"{on} of val are too few for {percent(sets.level, 0)}: every set holds every class"
    sizes = ", ".join(f"{percent(rows / len(sets.sizes), 0)} hold {_classes(size)}" for size, rows in _sizes(sets))
    return [
        rule,
        f"coverage {percent(sets.coverage)} ({interval_text(sets.coverage, sets.interval)}): so many of "
        f"{counted(len(sets.sizes), by)} have their true class in their set",
        f"set size {sets.mean_size:.2f} on average: {sizes}",
        f"{percent(sets.level, 0)} is what new {by}s of the kind of val's would have; other subjects, cameras or "
        f"classes may have less",
    ]


def _sizes(sets: ConformalSets) -> list[tuple[int, int]]:
    """Return the sizes that most sets have, at most four, the smallest first."""
    most = sorted(sets.counts.items(), key=lambda pair: -pair[1])[:4]
    return sorted(most)


def _classes(size: int) -> str:
    return "no class" if size == 0 else counted(size, "class")
