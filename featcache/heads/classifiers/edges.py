"""A note where the best value of a regularisation is the last of those that were tried, and how to go further."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from featcache.heads.classifiers.settings import value_as_typed
from featcache.heads.classifiers.trials import SearchResult

if TYPE_CHECKING:
    from featcache.heads.classifiers.target_search import TargetSearchResult

REGULARISATIONS = ("C", "alpha")  # settings of which any number above 0 may be tried
FURTHEST = 1e12  # beyond it, and below its inverse, a value changes nothing


def note_on_edges(
    result: "SearchResult | TargetSearchResult", command: Callable[..., str], choices: Mapping[str, Sequence[object]]
) -> list[str]:  # fmt: skip
    """Return a note for each regularisation whose best value is the smallest or the largest that was tried.

    Args:
        result: What was tried, and what was best.
        command: Returns the command that fits this classifier with the settings it gets, words as they are typed.
        choices: The settings that were given, which the command has too.
    """
    best, notes = result.trials[result.best].settings, []
    for name in REGULARISATIONS:
        values = sorted({float(value) for trial in result.trials if _is_number(value := trial.settings.get(name))})
        if len(values) < 2 or values[0] <= 0 or best[name] not in (values[0], values[-1]):
            continue
        is_largest = best[name] == values[-1]
        value, next_to_it = (values[-1], values[-2]) if is_largest else (values[0], values[1])
        further = [value * (value / next_to_it) ** steps for steps in (0, 1, 2)]
        if not 1 / FURTHEST < further[-1] < FURTHEST:
            continue
        others = [f"{key}={value_as_typed(best[key])}" for key in choices if key != name]
        typed = command(f"{name}={','.join(f'{number:.6g}' for number in further)}", *others)
        end = "largest" if is_largest else "smallest"
        notes.append(f"the best {name}, {value:g}, is the {end} that was tried; `{typed}` goes further")
    return notes


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
