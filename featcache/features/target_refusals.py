"""What is for rows of one class each refuses rows with several labels or numbers."""

from featcache.errors import UsageError
from featcache.recipe import LABEL, Recipe


def targets_error(kind: str, what: str) -> UsageError:
    """Return the error that something is for rows of one class each, where a recipe has other targets.

    Args:
        kind: LABELS or VALUE.
        what: what it is, as the sentence begins.
    """
    return UsageError(
        f"{what} is for rows with one class each, and the recipe says targets = {kind!r}; fit-head (with "
        f"--cross-validate), search, report, predict, compare, data, export and export-model know these"
    )


def refuse_targets(recipe: Recipe, what: str) -> None:
    """Raise a UsageError where a recipe has other targets than one class a row.

    Args:
        recipe: names the data set.
        what: what is for one class a row, as the sentence begins.

    Raises:
        UsageError: its rows have several labels, or numbers.
    """
    if recipe.data.target_kind != LABEL:
        raise targets_error(recipe.data.target_kind, what)
