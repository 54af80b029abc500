"""A cross-validation on the terminal: its folds, then the report of all rows."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.evaluation import CrossValidation
from featcache.heads import OutOfFold
from featcache.report.console import print_parts
from featcache.report.name_table import name_table
from featcache.report.terminal import evaluation_parts
from featcache.text import counted, percent_number, printable


def print_cross_validation(result: CrossValidation, console: Console) -> None:
    """Print the folds and the report of all rows, an empty line between the parts.

    Args:
        result: what is printed.
        console: where; its width decides what fits.
    """
    print_parts([*_folds(result, console.width), *evaluation_parts(result.evaluation, console.width)], console)


def _folds(result: CrossValidation, width: int) -> Iterator[RenderableType]:
    """Yield what was divided and how, and one row a fold."""
    unseen = result.unseen
    title, *key = division_lines(unseen)
    rows = [
        (f"{len(part.truth):,}", *groups_in_fold(unseen.by, part.subjects, part.clips),
         percent_number(float(part.right.mean())))
        for part in result.folds.values()
    ]  # fmt: skip
    headings = ("images", *([f"{unseen.by}s"] if unseen.by != "image" else []), "accuracy")
    table = name_table("fold", map(str, result.folds), headings, rows, width)
    yield Group(Text(title, style="bold"), table, *(Text(line, style="dim") for line in key))


def division_lines(unseen: OutOfFold) -> list[str]:
    """Return what was divided and by what, and which splits were left out, a line each.

    Args:
        unseen: the rows with their folds.
    """
    number = counted(len(unseen.fold), "image")
    lines = [f"{unseen.rows.split}: {number} in {unseen.folds} folds by {unseen.by}"]
    left = " and ".join(map(printable, unseen.left_out))
    return [*lines, *([f"{left} is left out: heads of `featcache fit-head` have not seen it"] if left else [])]


def groups_in_fold(by: str, subjects: Sequence[str], clips: Sequence[str]) -> list[str]:
    """Return how many subjects or clips a fold has; nothing by image.

    Args:
        by: what stands in one fold alone.
        subjects: (rows,) of the fold.
        clips: (rows,) of the fold.
    """
    if by == "image":
        return []
    return [f"{len(set(subjects if by == 'subject' else clips) - {''}):,}"]
