"""The flags that every command and every function of the library takes. Nothing heavy is imported here."""

from pathlib import Path
from typing import TypedDict


class Where(TypedDict, total=False):
    """The flags that every command takes; what is left out is None."""

    pipeline: str | None  # a recipe: a path or a name, see `recipe.resolve`
    data: str | None  # the folder of the images
    cache: str | Path | None  # the cache folder; None: FEATCACHE_CACHE, else ./cache
    name: str | None  # the data set's name in the cache


class Stored(Where, total=False):
    """… and those that say which store is meant, where several hold the data set."""

    store: str | None  # a store's folder name, or the start of its fingerprint
    weights: str | None  # as it was typed for extract
    precision: str | None  # fp32, bf16 or auto
