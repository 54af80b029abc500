"""The options that every command, and every function of the library, takes. Nothing heavy is imported here."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, TypeVar, cast

from featcache.recipe.network_object import NetworkName
from featcache.recipe.own_head import HeadWord

Options = TypeVar("Options")

SPLIT_SEEDS = range(10**9)  # of a division into splits; the first is the default


class DataOptions(TypedDict, total=False):
    """Which data set, and which cache; what is left out is None."""

    pipeline: str | None  # a recipe: a path or a name, see `resolve_recipe`
    data: str | None  # the folder of the images
    cache: str | Path | None  # the cache's folder or URL; None: FEATCACHE_CACHE, else ./cache
    local_cache: str | Path | None  # of a cache in an object store: a folder for copies of what is read
    name: str | None  # the data set's name in the cache
    val: float | None  # the share of the rows that becomes val, where the data set has no such split
    test: float | None  # … and test
    split_by: str | None  # what is never divided: subject, clip or image
    split_seed: int | None  # of the division: one of SPLIT_SEEDS; another seed, another division
    fold: int | None  # of Drive&Act: the published fold
    view: str | None  # of Drive&Act: the camera
    stride: int | None  # of Drive&Act: frames from one row of a chunk to the next
    level: str | None  # of Drive&Act: midlevel, tasklevel or objectlevel
    target: str | None  # of Drive&Act: the column that is predicted, where a level has several


class StoreOptions(DataOptions, total=False):
    """… and which store, where several hold the data set."""

    store: str | None  # a store's folder name, or the start of its fingerprint
    arch: NetworkName | None  # as for extract; a module of one's own is imported only where this says so
    layer: str | None  # such as cls
    weights: str | None  # as they were named for extract
    precision: str | None  # fp32, bf16 or auto
    features: str | None  # several layers side by side, of one trunk or of several: "cls+mean"


class KeptHeadOptions(StoreOptions, total=False):
    """… and what makes a kept head that is a module of one's own."""

    head_class: HeadWord | None  # package.module:Class, or the class itself; it is imported only where this says so


def pick_options(options: Mapping[str, object], kind: type[Options]) -> Options:
    """Return those of the options that are keys of one kind.

    Args:
        options: by name, those of several kinds.
        kind: a TypedDict whose keys are picked: `DataOptions`, `StoreOptions`, or a section's keywords.
    """
    return cast("Options", {name: value for name, value in options.items() if name in kind.__annotations__})
