"""DatasetRequest: which data set a command or function works on, in which cache, and in which of its stores."""

import os
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featcache.dataset.meant_stores import find_feature_parts, find_meant_stores, find_store_of
from featcache.dataset.missing_folder import refuse_missing_folder
from featcache.dataset.other_root import refuse_other_root
from featcache.dataset.resolution import (
    describe_division,
    divide,
    list_data_sets,
    read_divisions,
    recognize_recipe,
    refuse_unnamed,
)  # fmt: skip
from featcache.dataset.row_flags import override_drive_act, pick_drive_act_settings, refuse_bad_flags
from featcache.dataset.split_names import describe_missing_split
from featcache.dataset.typed_command import Flag, drive_act_flags, split_flags, type_command
from featcache.errors import CacheError, FeatcacheError
from featcache.files import StatLog
from featcache.listing import describe_differences, name_variant, nearest_split, resolve_source
from featcache.recipe import Recipe, has_local_recipe
from featcache.store import (
    STORE_SETTINGS,
    FeaturePart,
    FeatureStore,
    ListingKey,
    StoreRequest,
    cache_folder,
    find_stores,
)


@dataclass(frozen=True, kw_only=True)
class DatasetRequest:
    """The options of `featcache.recipe.options`, and what they resolve to.

    Every function that takes them begins with `DatasetRequest(**options)`. Nothing is read before it is needed.
    """

    pipeline: str | None = None
    data: str | None = None
    cache: str | Path | None = None
    local_cache: str | Path | None = None
    name: str | None = None
    store: str | None = None
    arch: str | None = None
    layer: str | None = None
    weights: str | None = None
    precision: str | None = None
    features: str | None = None
    head_class: str | None = None  # of a kept head that is a module of one's own
    val: float | None = None  # shares of the rows; None is the recipe's
    test: float | None = None
    split_by: str | None = None
    split_seed: int | None = None
    fold: int | None = None  # of Drive&Act; None is the recipe's
    view: str | None = None
    stride: int | None = None
    level: str | None = None
    target: str | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe that the options name, with their overrides.

        Raises:
            UsageError: nothing names a data set; no such recipe, or a faulty one; a fold of a data set that has none;
                or a division into splits that cannot be told.
        """
        return self._resolved[0]

    @property
    def recipe_of_trunk(self) -> Recipe:
        """The recipe, for what it says of the trunk: where no data set is named, the standard recipe."""
        return self.recipe if self.is_named else recognize_recipe(self.pipeline, self.data, self.name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the data set is divided into splits, as sentences."""
        return (note,) if (note := self._resolved[1]) else ()

    @cached_property
    def _resolved(self) -> tuple[Recipe, str]:
        recipe = recognize_recipe(self.pipeline, self.data, self.name)
        if not self.is_named and not os.path.exists(recipe.data.root):  # the standard recipe, and not its data
            refuse_unnamed(recipe.name, self.data_sets())
        division = {"val": self.val, "test": self.test, "by": self.split_by, "seed": self.split_seed}
        typed = {name: value for name, value in division.items() if value is not None}
        of_drive_act = pick_drive_act_settings(self)
        refuse_bad_flags({**typed, **of_drive_act})
        recipe = override_drive_act(recipe, of_drive_act)
        return divide(recipe, typed, lambda: read_divisions(self.folder, self.stat_log, recipe.name))

    @property
    def is_named(self) -> bool:
        """Whether a data set is named: by a recipe, by a folder, or by the `featcache.toml` of this folder."""
        return self.pipeline is not None or self.data is not None or has_local_recipe()

    def data_sets(self) -> dict[str, str]:
        """Return the data sets that the cache holds: name -> the folder, or table, that it was extracted from."""
        return list_data_sets(self.folder, self.stat_log)

    def command_line(self, *words: str, store: str | None = None) -> str:
        """Return a command for this data set as one types it here: the words, then the options that were typed.

        Args:
            words: The command and its own arguments, such as "extract", "--split", "val".
            store: The name of the store that is meant; where several hold the data set, its flags are added.
        """
        return type_command(self, *words, store=store)

    def data_flags(self) -> list[Flag]:
        """Return the flags of how the data set is laid out, where the recipe's file does not say it."""
        return [*drive_act_flags(self), *split_flags(self)]

    @cached_property
    def folder(self) -> Path:
        """The cache folder, absolute. Raises as `cache_folder`."""
        return cache_folder(self.cache, self.local_cache)

    @cached_property
    def stat_log(self) -> StatLog:
        """The cache's memory of files that it has hashed."""
        return StatLog(self.folder)

    @cached_property
    def variant(self) -> str:
        """The name of the data set's variant; see `listing.name_variant`. Raises as `recipe`."""
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
        refuse_other_root(self, store, key, root)
        if differing := describe_differences(self.recipe, settings):
            raise CacheError(
                f"{self.folder}: {'/'.join(key)} was extracted with other data settings: the recipe says {differing}. "
                f"Use the recipe that it was extracted with, or run `featcache extract` with this one: what the cache "
                f"holds is not embedded again."
            )
        return key

    def require_key(self, store: FeatureStore, split: str) -> ListingKey:
        """Return the key of a split that a store holds, once its listing agrees with the recipe.

        Args:
            store: A store that should hold the split.
            split: The split's name.

        Raises:
            CacheError: the store does not hold it, the data set has no such split, or as `key_of`.
        """
        key = self.key_of(store, split)
        if key not in store.listings:
            self.refuse_unknown_split(split)
            raise CacheError(f"{store.root}: no embeddings of {'/'.join(key)}; {self.advise_extract(split)}")
        return key

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
        typed = {name: value for name in STORE_SETTINGS if (value := getattr(self, name)) is not None}
        section = self.recipe.trunk
        stated = {} if self.store is not None else {name: getattr(section, name) for name in section.model_fields_set}
        return StoreRequest(
            store=self.store,
            typed=typed,
            stated={name: value for name, value in sorted(stated.items()) if name not in typed},
        )

    @cached_property
    def feature_parts(self) -> tuple[FeaturePart, ...]:
        """What the features are made of: as typed, else as the recipe says; none where a layer or a store is typed.

        Raises:
            UsageError: as `recipe`; they are none; or a layer or a store is typed beside them.
        """
        return find_feature_parts(self)

    def stores(self) -> list[FeatureStore]:
        """Return the stores that match the request and hold this data set or heads of it; none where none holds it.

        Where features are named, it is one: their stores side by side. Else those of heads that were trained on several
        stores together are among them.

        Raises:
            UsageError: as `recipe`.
            CacheError: stores hold the data set, and none of them matches; the one that is named cannot be opened; or
                the cache cannot be read.
        """
        return find_meant_stores(self)

    def store_of(self, split: str) -> FeatureStore:
        """Return the one store that matches the request and holds this split; of several features, theirs together.

        Args:
            split: the split's name, such as "train".

        Raises:
            UsageError: as `recipe`.
            CacheError: no store does, or several do; the message says how to go on.
        """
        return find_store_of(self, split)

    @cached_property
    def cached_splits(self) -> frozenset[str]:
        """The splits of this data set that some store of the cache holds."""
        return frozenset(key[2] for store in find_stores(self.folder, self.stat_log) for key in self.keys_of(store))

    @cached_property
    def splits_on_disk(self) -> tuple[str, ...] | None:
        """The splits of the data set as it lies on disk; None where it is not here, or cannot be listed."""
        try:
            return tuple(resolve_source(self.recipe).splits())
        except FeatcacheError:
            return None

    def refuse_unknown_split(self, split: str) -> None:
        """Refuse a split that neither the cache nor the data set on disk has: it is misspelt, or there is none.

        Args:
            split: The split's name.

        Raises:
            CacheError: there is none; the message names the nearest one.
        """
        if split not in self.cached_splits and (missing := self._describe_missing(split)):
            close = nearest_split(split, {*self.cached_splits, *(self.splits_on_disk or ())})
            raise CacheError(missing) if close is None else CacheError(missing).correct(split, shlex.quote(close))

    def advise_extract(self, split: str) -> str:
        """Return what to do about a split that the cache lacks, as a sentence with a command to type.

        Args:
            split: The split's name.
        """
        if missing := self._describe_missing(split):
            return missing
        if not self.cached_splits:
            refuse_missing_folder(self)
        words = ("--split", split) if self.cached_splits else ()
        read = read_divisions(self.folder, self.stat_log, self.recipe.name)
        sections = () if self.cached_splits else read.sections
        ways = "; or ".join(describe_division(section) for section in sections)
        other = f" (the cache has {self.recipe.name} divided by {ways})" if ways else ""
        return f"run `{self.command_line('extract', *words)}` first{other}"

    def _describe_missing(self, split: str) -> str:
        """Return that the data set has no such split; "" where it has, or where that cannot be told here."""
        command = self.command_line("extract") if self.recipe.data.split is None else ""
        return describe_missing_split(self.recipe.name, split, self.cached_splits, self.splits_on_disk, command)
