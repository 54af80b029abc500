"""What is for rows of one class each refuses rows with several labels or numbers."""

from featcache.errors import UsageError
from featcache.recipe import LABEL, Recipe

_KNOWN = "fit, fit-head, search, report, predict, compare, data, export and export-model know these"


def targets_error(kind: str, what: str, instead: str = "") -> UsageError:
    """Return the error that something is for rows of one class each, where a recipe has other targets.

    Args:
        kind: LABELS or VALUE.
        what: what it is, as the sentence begins.
        instead: the function that is for such targets; "" where there is none.
    """
    known = f"{instead} is for these" if instead else _KNOWN
    return UsageError(f"{what} is for rows with one class each, and the recipe says targets = {kind!r}; {known}")


def refuse_targets(recipe: Recipe, what: str, instead: str = "") -> None:
    """Raise a UsageError where a recipe has other targets than one class a row.

    Args:
        recipe: names the data set.
        what: what is for one class a row, as the sentence begins.
        instead: as for `targets_error`.

    Raises:
        UsageError: its rows have several labels, or numbers.
    """
    if recipe.data.target_kind != LABEL:
        raise targets_error(recipe.data.target_kind, what, instead)
