"""What pydantic finds wrong with a recipe, in a sentence each: where, what was found, what was expected."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from featcache.arguments import nearest_name, suggest_name
from featcache.errors import Correction
from featcache.recipe.augmentation import AugmentationSettings
from featcache.recipe.cnn import CnnSettings
from featcache.recipe.data import LAYOUTS, UNKNOWN_LAYOUT, DataSection, SplitSection
from featcache.recipe.finetune import FROM_SCRATCH, FROM_WEIGHTS, FinetuneSettings
from featcache.recipe.head import HeadSettings, SelectionSettings
from featcache.recipe.sections import AugmentationSection, CnnSection, FinetuneSection, HeadSection, TrunkSection
from featcache.recipe.settings import DeclaredSetting, declared_settings, option_of
from featcache.recipe.trunk import TrunkSettings
from featcache.text import value_text

Location = tuple[str | int, ...]
_DECLARED: Mapping[str, Mapping[str, DeclaredSetting]] = MappingProxyType(
    {
        "head": declared_settings(HeadSettings, SelectionSettings),
        "trunk": declared_settings(TrunkSettings),
        "trunk.cnn": declared_settings(CnnSettings),
        "augmentation": declared_settings(AugmentationSettings),
        "finetune": declared_settings(FinetuneSettings),
    }
)


def flag_sentence(problem: Mapping[str, Any], top_keys: Iterable[str]) -> str:
    """Return one of pydantic's errors about what flags say as "--epochs: found 0, expected a whole number from 1 up".

    Args:
        problem: an item of `ValidationError.errors()`.
        top_keys: the keys at the top of a recipe.
    """
    key, *_ = [part for part in problem["loc"][1:] if isinstance(part, str) and part not in LAYOUTS] or problem["loc"]
    place, colon, rest = problem_sentence(problem, top_keys).partition(": ")
    is_flag = problem["loc"][0] in (*_DECLARED, "name") or key in ("fold", "view", "stride", "level", "target")
    return f"{option_of(str(key))}{colon}{rest}" if is_flag else f"{place}{colon}{rest}"


def flag_correction(problem: Mapping[str, Any]) -> Correction | None:
    """Return a value that a setting's option takes, in the place of one that it does not; None for any other option.

    Args:
        problem: an item of `ValidationError.errors()`.
    """
    setting = _declared_at(problem["loc"])
    if setting is None:
        return None
    value = setting.default if setting.default is not None else setting.declaration.ge
    if setting.choices:
        value = nearest_name(str(problem["input"]), setting.choices) or setting.default
    elif _is_percent(problem["input"], setting):
        value = problem["input"] / 100
    elif setting.name == "start":
        near = nearest_name(str(problem["input"]), (FROM_SCRATCH, FROM_WEIGHTS, "head"))
        value = f"head {problem['input']}" if near is None else "head best" if near == "head" else near
    return Correction(setting.option, f"{value:g}" if isinstance(value, int | float) else str(value))


def _is_percent(value: object, setting: DeclaredSetting) -> bool:
    """Return whether a number is no share, and would be one as so many per cent."""
    most = setting.declaration.lt if setting.declaration.le is None else setting.declaration.le
    return most == 1 and isinstance(value, int | float) and 1 < value < 100


def problem_sentence(problem: Mapping[str, Any], top_keys: Iterable[str]) -> str:
    """Return one of pydantic's errors as "head.epochs: found 0, expected a whole number from 1 up".

    Args:
        problem: an item of `ValidationError.errors()`.
        top_keys: the keys at the top of a recipe.
    """
    location = problem["loc"]
    setting = _declared_at(location)
    if setting is not None and problem["type"] not in ("extra_forbidden", "missing"):
        return f"{_dotted(location)}: found {value_text(problem['input'])}, expected {setting.expected}"
    layout = location[1] if location[:1] == ("data",) and len(location) > 1 else ""
    if layout in {*LAYOUTS, UNKNOWN_LAYOUT}:  # which layout it was read as is no part of the place
        location = (location[0], *location[2:])
    place = _dotted(location)
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key; {_advice(location, layout, top_keys)}"
    if problem["type"] == "missing":
        return f"{place}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):  # of settings that do not go together
        return f"{place}: {message}"
    found = f"{place}: found {value_text(problem['input'])}"
    expected = _expected(problem)
    if expected:
        return f"{found}, expected {expected}"
    return f"{found}; {message[0].lower()}{message[1:]}"


def _declared_at(location: Location) -> DeclaredSetting | None:
    """Return the setting that a place is about, None where it is about none that is declared."""
    depth = 2 if _dotted(location[:2]) in _DECLARED else 1
    section, key = _dotted(location[:depth]), _dotted(location[depth : depth + 1])
    return _DECLARED.get(section, {}).get(key)


def _expected(problem: Mapping[str, Any]) -> str:
    """Return what was expected in our words, "" where pydantic's own have to do."""
    limits = problem.get("ctx", {})
    match problem["type"]:
        case "greater_than":
            return f"a number above {limits['gt']:g}"
        case "greater_than_equal":
            return f"a number from {limits['ge']:g} up"
        case "less_than":
            return f"a number below {limits['lt']:g}"
        case "less_than_equal":
            return f"a number up to {limits['le']:,}"
        case "literal_error":
            return str(limits["expected"]).replace("'", "")
        case "int_type" | "int_parsing" | "int_from_float":
            return "a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "a number"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "a section of settings"
        case "string_type":
            return "text"
        case "bool_type" | "bool_parsing":
            return "true or false"
        case _:
            return ""


def _advice(location: Location, layout: str, top_keys: Iterable[str]) -> str:
    """Return the nearest key of this section, else the section that has one of this name, else all keys."""
    key, section = str(location[-1]), location[:-1]
    known = list(top_keys if not section else _sections(layout)[_dotted(section)].model_fields)
    owners = dict.fromkeys(name for name, keys in _keys_of_sections() if key in keys and name != _dotted(section))
    if nearest_name(key, known) is None and owners:
        return f"it belongs to {' or '.join(f'[{name}]' for name in owners)}"
    layouts = [name for name in LAYOUTS if layout and name != layout and key in LAYOUTS[name].model_fields]
    elsewhere = f"; only the layout {' or '.join(layouts)} has it" if layouts and section == ("data",) else ""
    return f"{suggest_name(key, known)}{elsewhere}"


def _sections(layout: str) -> dict[str, type[BaseModel]]:
    return {
        "data": LAYOUTS.get(layout, DataSection),
        "data.split": SplitSection,
        "trunk": TrunkSection,
        "trunk.cnn": CnnSection,
        "head": HeadSection,
        "augmentation": AugmentationSection,
        "finetune": FinetuneSection,
    }


def _keys_of_sections() -> list[tuple[str, Iterable[str]]]:
    """Return each section with its keys; [data] once for each layout."""
    return [(name, section.model_fields) for layout in LAYOUTS for name, section in _sections(layout).items()]


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)
