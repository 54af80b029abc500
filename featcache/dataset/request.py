"""What a command or a function of the library is asked for: which data set, in which cache, in which store."""

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featcache.errors import CacheError, UsageError
from featcache.files import StatLog
from featcache.listing import differing_settings, root_of, variant
from featcache.recipe import DriveActData, Recipe, resolve_recipe
from featcache.store import (
    FeatureStore,
    ListingKey,
    StoreRequest,
    cache_folder,
    choose_store,
    find_stores,
    has_files,
    has_same_files,
    is_same_folder,
    refuse_other_stores,
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The flags of `featcache.recipe.options`, and what they mean; made where a function begins: `Asked(**where)`."""

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
        found = resolve_recipe(self.pipeline, data=self.data, name=self.name)
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

    def key(self, split: str) -> ListingKey:
        """The name of one split's listing."""
        return self.recipe.name, self.variant, split

    def key_of(self, store: FeatureStore, split: str) -> ListingKey:
        """The name of one split's listing, held against what the recipe says of the data.

        Raises:
            CacheError: the listing was made from another folder than the one that is asked for, or laid out
                otherwise.
        """
        key = self.key(split)
        if key not in store.listings:
            return key
        root, settings = store.origin(key)
        self._refuse_other_root(store, key, root)
        if differing := differing_settings(self.recipe, settings):
            raise CacheError(
                f"{self.folder}: {'/'.join(key)} was extracted with other data settings: the recipe says {differing}. "
                f"Use the recipe that it was extracted with, or run `featcache extract` with this one: what the cache "
                f"holds is not embedded again."
            )
        return key

    def _refuse_other_root(self, store: FeatureStore, key: ListingKey, root: str) -> None:
        wanted = root_of(self.recipe)
        if is_same_folder(root, wanted):
            return
        before = store.listing(key)
        left = has_files(before)
        if not left and os.path.isdir(wanted) and has_same_files(before, wanted, self.known):
            self.known.try_flush()
            warnings.warn(f"{root} has moved to {wanted}; `featcache extract` notes that", stacklevel=3)
            return
        if not left and not os.path.exists(wanted) and not os.path.isdir(root):
            warnings.warn(
                f"neither {wanted} nor {root}, which {'/'.join(key)} was extracted from, is on this machine: they are "
                f"taken for one data set by its name",
                stacklevel=3,
            )
            return
        back = f"Name {root} with --data" if os.path.isdir(root) else f"{root} is gone: put its images there again"
        raise CacheError(
            f"{self.folder}: {'/'.join(key)} was extracted from {root}, and {wanted} is asked for"
            f"{'' if left else ', which does not hold all of its images as they were'}. {back}, or "
            f"run `featcache extract --data {wanted} --name` with a name of its own, and type that name here too."
        )

    def keys_of(self, store: FeatureStore) -> list[ListingKey]:
        """The splits of this data set that a store holds."""
        return [key for key in store.listings if key[:2] == (self.recipe.name, self.variant)]

    @cached_property
    def request(self) -> StoreRequest:
        """What a store must be to be meant: what was typed, and what the recipe states of the trunk beside that.

        A store that is named outright stands for itself, whatever the recipe's [trunk] section says.
        """
        typed = {name: value for name in ("weights", "precision") if (value := getattr(self, name)) is not None}
        section = self.recipe.trunk
        stated = {} if self.store is not None else {name: getattr(section, name) for name in section.model_fields_set}
        return StoreRequest(
            store=self.store,
            typed=typed,
            stated={name: value for name, value in sorted(stated.items()) if name not in typed},
        )

    def stores(self) -> list[FeatureStore]:
        """The stores that hold this data set, or heads of it, and are what is asked for; none where no store does.

        Raises:
            CacheError: stores hold it, and none of them is what is asked for; or the one that is named cannot be
                opened.
        """
        place = Path("heads", self.recipe.name, self.variant)
        everywhere = find_stores(self.folder, self.known)
        holding = [found for found in everywhere if self.keys_of(found) or (found.root / place).is_dir()]
        fitting = [found for found in holding if self.request.is_met_by(found)]
        if not fitting:
            refuse_other_stores(self.folder, self.known, holding, self.request, f"{self.recipe.name}/{self.variant}")
        return fitting

    def store_of(self, split: str) -> FeatureStore:
        """The one store that holds this split.

        Raises:
            CacheError: no store does, or several do; the message says how to go on.
        """
        return choose_store(self.folder, self.known, self.key(split), self.request)
