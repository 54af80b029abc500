"""What pydantic finds wrong with a recipe, in a sentence each: where, what was found, what was expected."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from featcache.arguments import nearest_name, suggest_name
from featcache.recipe.data import LAYOUTS, UNKNOWN_LAYOUT, DataSection, SplitSection
from featcache.recipe.sections import HeadSection, TrunkSection
from featcache.text import value_text

Location = tuple[str | int, ...]


def problem_sentence(problem: Mapping[str, Any], top_keys: Iterable[str]) -> str:
    """Return one of pydantic's errors as "head.epochs: found 0; input should be greater than or equal to 1".

    Args:
        problem: an item of `ValidationError.errors()`.
        top_keys: the keys at the top of a recipe.
    """
    location = problem["loc"]
    layout = location[1] if location[:1] == ("data",) and len(location) > 1 else ""
    if layout in {*LAYOUTS, UNKNOWN_LAYOUT}:  # which layout it was read as is no part of the place
        location = (location[0], *location[2:])
    place = _dotted(location)
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key; {_advice(location, layout, top_keys)}"
    if problem["type"] == "missing":
        return f"{place}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: found {value_text(problem['input'])}; {message[0].lower()}{message[1:]}"


def _advice(location: Location, layout: str, top_keys: Iterable[str]) -> str:
    """Return the nearest key of this section, else the section that has one of this name, else all keys."""
    key, section = str(location[-1]), location[:-1]
    known = list(top_keys if not section else _sections(layout)[_dotted(section)].model_fields)
    owners = dict.fromkeys(name for name, keys in _keys_of_sections() if key in keys and name != _dotted(section))
    if nearest_name(key, known) is None and owners:
        return f"it belongs to {' or '.join(f'[{name}]' for name in owners)}"
    return suggest_name(key, known)


def _sections(layout: str) -> dict[str, type[BaseModel]]:
    return {
        "data": LAYOUTS.get(layout, DataSection),
        "data.split": SplitSection,
        "trunk": TrunkSection,
        "head": HeadSection,
    }


def _keys_of_sections() -> list[tuple[str, Iterable[str]]]:
    """Return each section with its keys; [data] once for each layout."""
    return [(name, section.model_fields) for layout in LAYOUTS for name, section in _sections(layout).items()]


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)
