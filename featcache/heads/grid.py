"""A grid of settings: `lr=0.003,0.03 weight_decay=0,1e-4`, or lists in a recipe, into one HeadConfig a combination."""

import math
from itertools import product
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.heads.config import SETTINGS, HeadConfig
from featcache.recipe import HeadKeywords, HeadSection, StoreOptions

GRID_KEYS = tuple(name for name, setting in SETTINGS.items() if setting.declaration.several)
MOST_HEADS = 10_000  # a slip of the keyboard is not a grid


class HeadOptions(StoreOptions, HeadKeywords, total=False):
    """What fit_head and search take: which features, and which settings of the head."""


def parse_grid(text: str) -> dict[str, list[Any]]:
    """Return what `--grid` says: the values of each setting, as a recipe's head section has them.

    Raises:
        UsageError: a word without `=`, an unknown or repeated setting, or a value that cannot be read.
    """
    values_of: dict[str, list[Any]] = {}
    for word in text.split():
        name, equals, values = word.partition("=")
        name = name.replace("-", "_")
        if not equals or not values:
            error = UsageError(f'--grid: found {word!r}, expected setting=value,value as in "lr=0.003,0.03 seed=0,1"')
            raise error.correct("--grid", "lr=0.003,0.03")
        if name not in GRID_KEYS:
            close = nearest_name(name, GRID_KEYS)
            meant = f"did you mean {close}? " if close else ""
            error = UsageError(
                f"--grid: found {name!r}; {meant}expected {', '.join(GRID_KEYS)}; other settings have one value each"
            )
            raise error.correct("--grid", text.replace(word, f"{close}={values}") if close else "lr=0.003,0.03")
        if name in values_of:
            raise UsageError(f"--grid: {name} was given twice; give its values in one list")
        is_numbers = SETTINGS[name].declaration.is_numbers
        values_of[name] = [
            value.replace("x", ",") if is_numbers else _parse_value(value) for value in values.split(",")
        ]
    if not values_of:
        raise UsageError(
            '--grid: found nothing, expected setting=value,value as in "lr=0.003,0.03 weight_decay=0,1e-4"'
        )
    return values_of


def head_configs(section: HeadSection) -> list[HeadConfig]:
    """Return one config for each combination of the section's lists, the last list fastest; equal ones once.

    A setting that the head does not have is left at its default, whatever the recipe says.

    Raises:
        UsageError: the lists make more heads than anybody means.
    """
    settings = section.model_dump(include={name for name in SETTINGS if SETTINGS[name].applies_to(section.head)})
    lists = {name: settings.pop(name) for name in GRID_KEYS if name in settings}
    count = math.prod(map(len, lists.values()))
    if count > MOST_HEADS:
        raise UsageError(f"the grid has {count:,} heads, expected at most {MOST_HEADS:,}; shorten a list")
    combinations = (dict(zip(lists, values, strict=True)) for values in product(*lists.values()))
    return list(dict.fromkeys(HeadConfig(**settings, **combination) for combination in combinations))


def _parse_value(text: str) -> Any:
    """Return a number, True or False, else the word itself; the recipe's own rules judge it."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
