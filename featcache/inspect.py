"""What a cache holds."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import featcache
from featcache.errors import CacheError
from featcache.listing import variant
from featcache.recipe import resolve
from featcache.store import Extracted, FeatureStore, StatLog, broken, cache_folder, find
from featcache.store.commits import Key
from featcache.store.shard import Shard
from featcache.trunks import weights as trunk_weights
from featcache.trunks.architectures import architecture


def info(
    *,
    pipeline: str | None = None,
    data: str | None = None,
    cache: str | Path | None = None,
    name: str | None = None,
    arch: str | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    """The trunk that the recipe asks for, and every store in the cache; the document of `featcache info --json`.

    `head_parameters` is null while the cache holds no listing of this data set, which alone knows its classes.

    Raises:
        UsageError: the recipe, or its architecture.
    """
    recipe = resolve(pipeline, data=data, name=name).override("trunk", arch=arch, weights=weights)
    shape = architecture(recipe.trunk.arch)
    crop = trunk_weights.transform_of(shape, recipe.trunk.weights).crop
    folder = cache_folder(cache)
    stores = find(folder, StatLog(folder))
    keys = [(store, key) for store in stores for key in store.listings if key[:2] == (recipe.name, variant(recipe))]
    classes = next((len(found.listing.classes) for store in stores for found in _listings(store, keys)), None)
    return {
        "version": featcache.__version__,
        "cache": str(folder),
        "data_set": recipe.name,
        "trunk": {
            "arch": shape.name,
            "weights": recipe.trunk.weights,
            "frozen_parameters": shape.frozen_parameters(crop),
            "dim": shape.dim,
            "classes": classes,
            "head_parameters": None if classes is None else shape.head_parameters(classes),
        },
        "stores": [_describe(store) for store in stores],
        "damaged": {name: str(error) for name, error in broken(folder, StatLog(folder)).items()},
    }


def _describe(store: FeatureStore) -> dict[str, Any]:
    spec = store.trunk.spec
    return {
        "name": store.name,
        "arch": spec.arch,
        "weights": store.trunk.asked,
        "compute": spec.compute,
        "stored": spec.stored,
        "rows": store.rows,
        "dim": store.dim,
        "shards": len(store.shards),
        "bytes": sum(part.bytes for part in store.shards),
        "listings": ["/".join(key) for key in sorted(store.listings)],
        "heads": len(list((store.root / "heads").glob("*/*/*/head.json"))),
        "made": [{**entry, **_part(store, place)} for place, entry in enumerate(store.trunk.made)],
        "made_by_unknown": sum(part.rows for part in store.shards if not _is_noted(store, part)),
    }


def _listings(store: FeatureStore, keys: list[tuple[FeatureStore, Key]]) -> Iterator[Extracted]:
    """The listings of this data set in a store that can be read."""
    for holder, key in keys:
        if holder is store:
            with contextlib.suppress(CacheError):  # `verify` names it
                yield store.listing(key)


def _part(store: FeatureStore, place: int) -> dict[str, int]:
    """How much of the store one making has made."""
    parts = [part for part in store.shards if part.made == place]
    return {"rows": sum(part.rows for part in parts), "shards": len(parts)}


def _is_noted(store: FeatureStore, part: Shard) -> bool:
    return part.made is not None and part.made < len(store.trunk.made)
