"""A cross-validation on the terminal: its folds, then the report of all rows."""

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from featcache.evaluation import CrossValidation, SplitPredictions
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
    title = Text(
        f"{unseen.rows.split}: {counted(len(unseen.fold), 'image')} in {len(result.folds)} folds by {unseen.by}",
        style="bold",
    )
    left = " and ".join(map(printable, unseen.left_out))
    key = [Text(f"{left} is left out: heads of `featcache fit-head` have not seen it", style="dim")] if left else []
    rows = [
        (f"{len(part.truth):,}", *_groups(unseen.by, part), percent_number(float(part.right.mean())))
        for part in result.folds.values()
    ]
    headings = ("images", *([f"{unseen.by}s"] if unseen.by != "image" else []), "accuracy")
    yield Group(title, name_table("fold", map(str, result.folds), headings, rows, width), *key)


def _groups(by: str, part: SplitPredictions) -> list[str]:
    """Return how many subjects or clips a fold has; nothing by image."""
    if by == "image":
        return []
    return [f"{len(set(part.subjects if by == 'subject' else part.clips) - {''}):,}"]
