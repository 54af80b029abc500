"""A grid of settings: `lr=0.003,0.03 weight_decay=0,1e-4`, or lists in a recipe, into one HeadConfig a combination."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, TypedDict, cast

from featcache.errors import UsageError
from featcache.heads.config import HeadConfig
from featcache.recipe import GRID, HeadSection, Stored


class HeadFlags(TypedDict, total=False):
    """Settings of the recipe's head section, as a command or a call gives them; None: as the recipe has it."""

    epochs: int | None
    batch_size: int | None
    momentum: float | None
    weight_decay: float | Sequence[float] | None
    clip_norm: float | None
    seed: int | Sequence[int] | None
    optimizer: str | Sequence[str] | None
    schedule: str | None
    warmup: float | None
    plateau_epochs: int | None
    patience: int | None
    class_weights: str | Sequence[str] | None
    sampler: str | Sequence[str] | None
    logit_adjustment: float | Sequence[float] | None
    label_smoothing: float | Sequence[float] | None
    standardize: bool | Sequence[bool] | None
    select: str | None


class HeadAsked(Stored, HeadFlags, total=False):
    """What a training is asked for: which features, and which settings."""


def parted(asked: HeadAsked) -> tuple[Stored, HeadFlags]:
    """The features' flags, and the head's."""
    items = list(asked.items())
    where = {name: value for name, value in items if name in Stored.__annotations__}
    flags = {name: value for name, value in items if name in HeadFlags.__annotations__}
    return cast("Stored", where), cast("HeadFlags", flags)


LARGEST = 10_000  # heads; a slip of the keyboard is not a grid


def parse(text: str) -> dict[str, list[Any]]:
    """What `--grid` says, as the recipe's head section has it.

    Raises:
        UsageError: a word without `=`, an unknown or repeated setting, or a value that cannot be read.
    """
    found: dict[str, list[Any]] = {}
    for word in text.split():
        name, equals, values = word.partition("=")
        name = name.replace("-", "_")
        if not equals or not values:
            raise UsageError(f'--grid: found {word!r}, expected setting=value,value as in "lr=0.003,0.03 seed=0,1"')
        if name not in GRID:
            raise UsageError(f"--grid: found {name!r}, expected {', '.join(GRID)}; other settings have one value each")
        if name in found:
            raise UsageError(f"--grid: {name} stands there twice; give its values in one list")
        found[name] = [_value(value) for value in values.split(",")]
    if not found:
        raise UsageError(
            '--grid: found nothing, expected setting=value,value as in "lr=0.003,0.03 weight_decay=0,1e-4"'
        )
    return found


def configs_of(section: HeadSection) -> list[HeadConfig]:
    """One config a combination of the section's lists, in their order, the last one fastest; a repeated one once.

    Raises:
        UsageError: the lists make more heads than anybody means.
    """
    settings = section.model_dump(exclude={"select"})
    lists = {name: settings.pop(name) for name in GRID}
    count = math.prod(map(len, lists.values()))
    if count > LARGEST:
        raise UsageError(f"the grid has {count:,} heads, expected at most {LARGEST:,}; shorten a list")
    combined = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    return list(dict.fromkeys(HeadConfig(**settings, **one) for one in combined))


def _value(text: str) -> Any:
    """A number, true or false, else the word itself; the recipe's own rules judge it."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
