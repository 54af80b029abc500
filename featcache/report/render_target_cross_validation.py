"""A cross-validation on several labels or numbers on the terminal: its folds, then the report of all rows."""

from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.evaluation import TargetCrossValidation
from featcache.report.console import print_parts
from featcache.report.name_table import name_table
from featcache.report.render_cross_validation import division_lines, groups_in_fold
from featcache.report.render_targets import target_evaluation_parts


def print_target_cross_validation(result: TargetCrossValidation, console: Console) -> None:
    """Print the folds and the report of all rows, an empty line between the parts.

    Args:
        result: what is printed.
        console: where; its width decides what fits.
    """
    print_parts([_folds(result, console.width), *target_evaluation_parts(result.evaluation, console.width)], console)


def _folds(result: TargetCrossValidation, width: int) -> RenderableType:
    """Return what was divided and how, and one row a fold."""
    unseen = result.unseen
    title, *key = division_lines(unseen)
    rows = [
        (f"{len(part.truth):,}", *groups_in_fold(unseen.by, part.subjects, part.clips))
        for part in result.folds.values()
    ]
    headings = ("images", *([f"{unseen.by}s"] if unseen.by != "image" else []))
    table = name_table("fold", map(str, result.folds), headings, rows, width)
    return Group(Text(title, style="bold"), table, *(Text(line, style="dim") for line in key))
