"""Commands for a data set as one types them, for messages: with the options that were typed, so that they work."""

import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from featcache.containers import is_container_path, is_hub_name
from featcache.dataset.resolution import division_flags, is_flat_folder
from featcache.dataset.row_flags import pick_drive_act_settings
from featcache.errors import UsageError
from featcache.files import expand_home
from featcache.files.objects import is_remote
from featcache.recipe import has_local_recipe
from featcache.store import FeatureStore, find_stores, flags_that_name, trunk_flags

if TYPE_CHECKING:
    from featcache.dataset.request import DatasetRequest

Flag = tuple[str, object]  # its name and its value

_OF_A_TRUNK = ("extract", "fit-head", "fit", "search", "report", "compare", "predict", "export", "export-model")
_OF_A_HEAD = ("report", "compare", "predict", "export-model")
_WITH_FOLDER = ("data", "extract", "fit-head", "search", "compare", "info")  # commands whose argument is the data set


def type_command(request: "DatasetRequest", *words: str, store: str | None = None) -> str:
    """Return a command for a data set: the words, then the data set and the options that were typed.

    Where a store is named, its flags stand in place of those that were typed of the trunk. Shares and unit of the
    splits are left out where the cache has the data set divided so, and later commands find that.
    """
    names_head = words[0] == "report" and len(words) > 1 and not words[1].startswith("-")
    takes_folder = words[0] in _WITH_FOLDER or (
        words[0] == "report" and not names_head and _is_data_set(request.data or "")
    )
    is_of_heads = words[0] == "data" and "--label-issues" in words
    typed = (request.data, request.pipeline, request.cache)
    data, pipeline, cache = (None if path is None else expand_home(path) for path in typed)
    flags: list[Flag] = [("" if takes_folder else "--data", data), ("--pipeline", pipeline)]
    flags += [("--name", request.name), ("--cache", cache), *drive_act_flags(request)]
    if store is not None:
        flags += _flags_of_store(request, store)
    elif words[0] in _OF_A_TRUNK or is_of_heads:
        flags += [("--arch", request.arch), ("--layer", request.layer)]
        flags += [("--features", request.features)] if words[0] not in ("data", "extract") else []
    flags += [] if _is_divided_so(request) else split_flags(request)
    if words[0] == "extract":
        flags += _flags_of_cached_trunk(request, {*words, *(name for name, value in flags if value is not None)})
    if words[0] == "extract" and request.recipe.data.split is None and is_flat_folder(request.recipe):
        flags += [("--val", 0.15), ("--test", 0.15)]
    if words[0] not in ("data", "extract") or is_of_heads:  # these make a store, or look at none
        typed_store = (("store", request.store), ("weights", request.weights), ("precision", request.precision))
        flags += [(f"--{name}", value) for name, value in typed_store]
    flags += [("--head-class", request.head_class)] if words[0] in _OF_A_HEAD else []
    shown = [f"{name} {shlex.quote(str(value))}".lstrip() for name, value in flags if value is not None]
    return " ".join(["featcache", *map(shlex.quote, words), *shown])


def _is_data_set(path: str) -> bool:
    """Return whether `report` takes a word for a data set, and not for a head."""
    return os.path.isdir(path) or is_container_path(path) or is_hub_name(path) or is_remote(path)


def _flags_of_store(request: "DatasetRequest", name: str) -> list[Flag]:
    """Return the flags that choose a store of the data set where there are several; none where there is one."""
    if request.feature_parts:
        return [("--features", request.features)]
    stores = [
        store
        for store in find_stores(request.folder, request.stat_log)
        if request.keys_of(store) and (store.trunk.spec.view is None or store.name == name)
    ]
    return [flag for store in stores if store.name == name for flag in flags_that_name(store, stores)]


def _flags_of_cached_trunk(request: "DatasetRequest", given: Collection[str]) -> list[Flag]:
    """Return the flags of the trunk that the cache has the data set by: of the one that is typed, else of the first.

    An extract of another fold, division or part would else take the default trunk, and embed every image once more.

    Args:
        request: The data set, and what was typed of the trunk.
        given: Flags that the command has already.
    """
    if request.recipe.trunk.model_fields_set or not {"--weights", "--store"}.isdisjoint(given):
        return []
    wanted = request.store_request
    stores = [
        store
        for store in find_stores(request.folder, request.stat_log)
        if _holds(store, request.recipe.name) and wanted.may_mean(store) and wanted.is_met_by(store)
    ]
    usual, flags = request.recipe.trunk, [dict(trunk_flags(store)) for store in stores]
    is_typed = wanted.store is not None or bool(wanted.typed)
    if not stores or (not is_typed and any(_trunk(of) == (usual.arch, usual.weights) for of in flags)):
        return [("--weights", request.weights), ("--precision", request.precision)]
    first = flags[0]
    if os.path.splitext(first["--weights"])[1] and not os.path.isfile(expand_home(first["--weights"])):
        return []
    layers = [store.trunk.spec.layer for store, of in zip(stores, flags, strict=True) if of == first]
    named = [("--layer", layer) for layer in layers] if layers != ["cls"] else []
    return [(name, value) for name, value in (*first.items(), *named) if name not in given]


def _trunk(flags: Mapping[str, str]) -> tuple[str, str]:
    return flags["--arch"], flags["--weights"]


def _holds(store: FeatureStore, data_set: str) -> bool:
    """Return whether a store holds a listing of a data set, of whatever variant."""
    return any(key[0] == data_set for key in store.listings)


def drive_act_flags(request: "DatasetRequest") -> Iterator[Flag]:
    """Yield the flags that were typed of Drive&Act's fold, view, stride, level and target."""
    yield from ((f"--{name}", value) for name, value in pick_drive_act_settings(request).items())


def split_flags(request: "DatasetRequest") -> Iterator[Flag]:
    """Yield the flags that divide the data set as it is divided, where the recipe's file does not say it."""
    section = request.recipe.data.split
    is_in_file = request.pipeline is not None or has_local_recipe()
    is_typed = any(option is not None for option in (request.val, request.test, request.split_by, request.split_seed))
    if section is not None and (is_typed or not is_in_file):
        yield from division_flags(section)


def _is_divided_so(request: "DatasetRequest") -> bool:
    """Return whether the data set is divided in the same way where no flag says so."""
    try:
        plain = replace(request, val=None, test=None, split_by=None, split_seed=None)
        return plain.recipe.data.split == request.recipe.data.split
    except UsageError:  # the cache has it divided in several ways
        return False
