"""A best value at the end of those that were tried is said to be one, with the command that goes further."""

import shlex

import pytest

from featcache.heads.classifiers import SearchResult, SearchTrial, note_on_edges, parse_settings


def notes(best: int, tried: list[dict[str, object]], **choices: list[object]) -> list[str]:
    """Return the notes on a search that tried these settings."""
    trials = tuple(SearchTrial(settings=settings, val=None, seconds=0.1) for settings in tried)
    result = SearchResult(trials, best, None, None, None)  # type: ignore[arg-type]
    return note_on_edges(result, lambda *words: shlex.join(["featcache", "fit", "logreg", *words]), choices)


@pytest.mark.parametrize(
    ("best", "end", "values"), [(0, "smallest", ("0.01", "0.001", "0.0001")), (2, "largest", ("1", "10", "100"))]
)
def test_the_command_tries_two_more_values_in_the_same_steps(best: int, end: str, values: tuple[str, ...]) -> None:
    """It has the best value too, and the other settings that were typed, as they are typed."""
    (note,) = notes(best, [{"C": c, "solver": "saga", "max_iter": 50} for c in (0.01, 0.1, 1.0)], solver=["saga"])
    command = f"featcache fit logreg C={','.join(values)} solver=saga"
    assert note == f"the best C, {values[0]}, is the {end} that was tried; `{command}` goes further"
    assert parse_settings(shlex.split(command)[3:])["C"] == tuple(float(value) for value in values)


@pytest.mark.parametrize(
    "tried",
    [
        [{"C": 0.1}, {"C": 1.0}, {"C": 10.0}],  # between two others
        [{"C": 1.0}, {"C": 1.0}],  # nothing was chosen among
        [{"k": 1}, {"k": 5}],  # no regularisation: 0 neighbours are none
        [{"alpha": 0.0}, {"alpha": 1.0}],  # no step leads away from 0
    ],
)
def test_elsewhere_nothing_is_said(tried: list[dict[str, object]]) -> None:
    """In the middle, of one value, and of what has an end, there is no note."""
    assert notes(1, tried) == []
