"""DatasetRequest: which data set a command or function works on, in which cache, and in which of its stores."""

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featcache.errors import CacheError, UsageError
from featcache.files import StatLog
from featcache.listing import describe_differences, locate_root, name_variant
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
class DatasetRequest:
    """The options of `featcache.recipe.options`, and what they resolve to.

    Every function that takes them begins with `DatasetRequest(**options)`. Nothing is read before it is needed.
    """

    pipeline: str | None = None
    data: str | None = None
    cache: str | Path | None = None
    name: str | None = None
    store: str | None = None
    weights: str | None = None
    precision: str | None = None
    fold: int | None = None  # of Drive&Act; None is the recipe's

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the options name, with their overrides.

        Raises:
            UsageError: no such recipe, or a faulty one; or a fold of a data set that has none.
        """
        recipe = resolve_recipe(self.pipeline, data=self.data, name=self.name)
        if self.fold is None:
            return recipe
        if not isinstance(recipe.data, DriveActData):
            raise UsageError(f"--folds: {recipe.name} has no folds; only the layout drive-act has them. Leave it out.")
        return recipe.override("data", fold=self.fold)

    @cached_property
    def folder(self) -> Path:
        """The cache folder, absolute.

        Raises:
            UsageError: it begins with the tilde of a user who has no home folder.
        """
        return cache_folder(self.cache)

    @cached_property
    def stat_log(self) -> StatLog:
        """The cache's memory of files that it has hashed."""
        return StatLog(self.folder)

    @cached_property
    def variant(self) -> str:
        """The name of the data set's variant: fold, view, cap, stride, assigned splits.

        Raises:
            UsageError: as `recipe`.
        """
        return name_variant(self.recipe)

    def key(self, split: str) -> ListingKey:
        """Return (data set, variant, split), which names one split's listing.

        Args:
            split: the split's name, such as "train"; no store need hold it.

        Raises:
            UsageError: as `recipe`.
        """
        return self.recipe.name, self.variant, split

    def key_of(self, store: FeatureStore, split: str) -> ListingKey:
        """Return the key of one split's listing, once a store's listing agrees with the recipe.

        Args:
            store: a store that may hold the split; where it does not, there is nothing to compare.
            split: the split's name.

        Raises:
            UsageError: as `recipe`.
            CacheError: the listing is damaged, or was made from another folder than the recipe's, or with other data
                settings.
        """
        key = self.key(split)
        if key not in store.listings:
            return key
        root, settings = store.origin(key)
        self._refuse_other_root(store, key, root)
        if differing := describe_differences(self.recipe, settings):
            raise CacheError(
                f"{self.folder}: {'/'.join(key)} was extracted with other data settings: the recipe says {differing}. "
                f"Use the recipe that it was extracted with, or run `featcache extract` with this one: what the cache "
                f"holds is not embedded again."
            )
        return key

    def _refuse_other_root(self, store: FeatureStore, key: ListingKey, root: str) -> None:
        """Accept a listing's root that the data set has moved away from, with a warning; refuse any other folder."""
        wanted = locate_root(self.recipe)
        if is_same_folder(root, wanted):
            return
        before = store.listing(key)
        left = has_files(before)
        if not left and os.path.isdir(wanted) and has_same_files(before, wanted, self.stat_log):
            self.stat_log.try_flush()
            warnings.warn(f"{root} has moved to {wanted}; `featcache extract` records the new place", stacklevel=3)
            return
        if not left and not os.path.exists(wanted) and not os.path.isdir(root):
            warnings.warn(
                f"neither {wanted} nor {root}, which {'/'.join(key)} was extracted from, is on this machine: they are "
                f"assumed to be the same data set, since its name is the same",
                stacklevel=3,
            )
            return
        back = f"Name {root} with --data" if os.path.isdir(root) else f"{root} is gone: put its images there again"
        raise CacheError(
            f"{self.folder}: {'/'.join(key)} was extracted from {root}, and you asked for {wanted}"
            f"{'' if left else ', which does not hold all of its images as they were'}. {back}, or "
            f"run `featcache extract --data {wanted} --name` with a name of its own, and type that name here too."
        )

    def keys_of(self, store: FeatureStore) -> list[ListingKey]:
        """Return the keys of the splits of this data set that a store holds; none where it holds none.

        Args:
            store: any store of the cache, whatever trunk it is of.

        Raises:
            UsageError: as `recipe`.
        """
        return [key for key in store.listings if key[:2] == (self.recipe.name, self.variant)]

    @cached_property
    def store_request(self) -> StoreRequest:
        """What a store must match: the options that were typed, and what else the recipe states of the trunk.

        A store that is named outright stands for itself, whatever the recipe's [trunk] section says.

        Raises:
            UsageError: as `recipe`.
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
        """Return the stores that match the request and hold this data set or heads of it; none where none holds it.

        Raises:
            UsageError: as `recipe`.
            CacheError: stores hold the data set, and none of them matches; the one that is named cannot be opened; or
                the cache cannot be read.
        """
        heads = Path("heads", self.recipe.name, self.variant)
        holding = [
            store
            for store in find_stores(self.folder, self.stat_log)
            if self.keys_of(store) or (store.root / heads).is_dir()
        ]
        matching = [store for store in holding if self.store_request.is_met_by(store)]
        if not matching:
            refuse_other_stores(
                self.folder, self.stat_log, holding, self.store_request, f"{self.recipe.name}/{self.variant}"
            )
        return matching

    def store_of(self, split: str) -> FeatureStore:
        """Return the one store that matches the request and holds this split.

        Args:
            split: the split's name, such as "train".

        Raises:
            UsageError: as `recipe`.
            CacheError: no store does, or several do; the message says how to go on.
        """
        return choose_store(self.folder, self.stat_log, self.key(split), self.store_request)
