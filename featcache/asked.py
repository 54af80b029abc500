"""What a command or a function of the library is asked for: which data set, in which cache, in which store."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featcache.errors import UsageError
from featcache.listing import variant
from featcache.recipe import DriveActData, Recipe, resolve
from featcache.store import FeatureStore, StatLog, broken, cache_folder, choose, find
from featcache.store.catalog import passes
from featcache.store.commits import Key


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The flags of `featcache.where`, and what they mean; made where a function begins: `Asked(**where)`."""

    pipeline: str | None = None
    data: str | None = None
    cache: str | Path | None = None
    name: str | None = None
    store: str | None = None
    weights: str | None = None
    precision: str | None = None
    fold: int | None = None  # of Drive&Act, where not the recipe's is meant

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that is meant.

        Raises:
            UsageError: no such recipe, or a faulty one; or a fold of a data set that has none.
        """
        found = resolve(self.pipeline, data=self.data, name=self.name)
        if self.fold is None:
            return found
        if not isinstance(found.data, DriveActData):
            raise UsageError(f"--folds: {found.name} has no folds; only the layout drive-act has them. Leave it out.")
        return found.override("data", fold=self.fold)

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
        """The stores of the cache that `store`, `weights` and `precision` let through.

        Raises:
            CacheError: the store that is named cannot be opened.
        """
        everywhere = find(self.folder, self.known)
        fitting = [found for found in everywhere if passes(found, self.store, self.weights, self.precision)]
        if not fitting and self.store in (damaged := broken(self.folder, self.known)):
            raise damaged[self.store]
        return fitting

    def store_of(self, split: str) -> FeatureStore:
        """The one store that holds this split.

        Raises:
            CacheError: no store does, or several do; the message says how to go on.
        """
        return choose(
            self.folder, self.known, self.key(split), store=self.store, weights=self.weights, precision=self.precision
        )
