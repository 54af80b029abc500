"""What every command and every function of the library is asked for: which data set, in which cache, in which store."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

from featcache.listing import variant
from featcache.recipe import Recipe, resolve
from featcache.store import FeatureStore, StatLog, cache_folder, choose, find
from featcache.store.catalog import passes
from featcache.store.commits import Key


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


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Such flags, and what they mean; made where a function begins: `Asked(**where)`."""

    pipeline: str | None = None
    data: str | None = None
    cache: str | Path | None = None
    name: str | None = None
    store: str | None = None
    weights: str | None = None
    precision: str | None = None

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that is meant.

        Raises:
            UsageError: no such recipe, or a faulty one.
        """
        return resolve(self.pipeline, data=self.data, name=self.name)

    @cached_property
    def folder(self) -> Path:
        """The cache folder, absolute."""
        return cache_folder(self.cache)

    @cached_property
    def known(self) -> StatLog:
        """The memory of the cache."""
        return StatLog(self.folder)

    @cached_property
    def variant(self) -> str:
        """Which cut of the data set."""
        return variant(self.recipe)

    def key(self, split: str) -> Key:
        """The name of one split's listing."""
        return self.recipe.name, self.variant, split

    def keys_of(self, store: FeatureStore) -> list[Key]:
        """The splits of this data set that a store holds."""
        return [key for key in store.listings if key[:2] == (self.recipe.name, self.variant)]

    def stores(self) -> list[FeatureStore]:
        """The stores of the cache that `store`, `weights` and `precision` let through."""
        everywhere = find(self.folder, self.known)
        return [found for found in everywhere if passes(found, self.store, self.weights, self.precision)]

    def store_of(self, split: str) -> FeatureStore:
        """The one store that holds this split.

        Raises:
            CacheError: no store does, or several do; the message says how to go on.
        """
        return choose(
            self.folder, self.known, self.key(split), store=self.store, weights=self.weights, precision=self.precision
        )
