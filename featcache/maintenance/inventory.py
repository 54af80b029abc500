"""featcache info: what a cache holds, store by store."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import featcache
from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import CacheError, UsageError
from featcache.heads.saved import MODEL_DOCUMENTS
from featcache.recipe import DataOptions, NetworkName, check_recipe
from featcache.store import (
    ExtractedListing,
    FeatureStore,
    Shard,
    find_broken_stores,
    find_concatenations,
    find_stores,
    label_features,
)
from featcache.trunks import WeightsMemo, name_trunk

_DEFAULTS = check_recipe({"name": "data", "data": {"root": "."}}, where="the defaults")  # where no data set is named


@checked
def info(
    *, arch: NetworkName | None = None, weights: str | None = None, **options: Unpack[DataOptions]
) -> dict[str, Any]:
    """Return the trunk that the recipe asks for and every store in the cache: the document of `featcache info --json`.

    Where no data set is named, it is the only one of the cache; `data_set` is None where the cache has none or several.
    `head_parameters` is None while the cache holds no listing of this data set: only a listing knows its classes.

    Args:
        arch: the trunk's architecture; None is the recipe's.
        weights: the trunk's weights; None is the recipe's.
        **options: those of the command line that name a data set and a cache (`recipe.DataOptions`).

    Raises:
        UsageError: the recipe, its architecture, or its weights.
        CacheError: the cache cannot be read.
        MachineError: the weights are a file that cannot be read.
    """
    request = DatasetRequest(**options)
    named = _name_data_set(request)
    recipe = (_DEFAULTS if named is None else named.recipe).override("trunk", arch=arch, weights=weights)
    trunk = name_trunk(recipe.trunk, WeightsMemo(request.folder))
    stores = find_stores(request.folder, request.stat_log)  # every one, whatever trunk the recipe asks for
    held = () if named is None else (extracted for store in stores for extracted in _readable_listings(named, store))
    classes = next((len(extracted.listing.classes) for extracted in held), None)  # of the first that can be read
    return {
        "version": featcache.__version__,
        "cache": str(request.folder),
        "data_set": None if named is None else recipe.name,
        "trunk": {
            "arch": trunk.arch_name,
            "layer": list(trunk.layers),
            "weights": recipe.trunk.weights,
            "transform": trunk.sentence,
            "frozen_parameters": trunk.frozen_parameters,
            "dim": trunk.width,
            "classes": classes,
            "head_parameters": None if classes is None else (trunk.width + 1) * classes,
            "is_stated": bool(recipe.trunk.model_fields_set & {"arch", "weights"}),
            "stores": sum(store.trunk.spec.arch == trunk.arch_name for store in stores),
        },
        "stores": [_describe_store(store) for store in stores],
        "features": [
            {
                "name": store.name,
                "features": label_features(store.parts),
                "stores": [part.name for part in store.parts],
                "dim": store.dim,
                "heads": len(_head_folders(store)),
            }
            for store in find_concatenations(request.folder, request.stat_log)
        ],
        "damaged": {name: str(error) for name, error in find_broken_stores(request.folder, request.stat_log).items()},
    }


def _name_data_set(request: DatasetRequest) -> DatasetRequest | None:
    """Return a request for the data set that is named, else for the only one of the cache; None where neither is."""
    if request.is_named:
        return request
    data_sets = request.data_sets()
    if len(data_sets) == 1:
        ((name, root),) = data_sets.items()
        return replace(request, data=root, name=name)
    try:
        _ = request.recipe  # the standard one, where its data is here
    except UsageError:
        return None
    return request


def _describe_store(store: FeatureStore) -> dict[str, Any]:
    """Return an entry of `stores` in the document."""
    spec = store.trunk.spec
    return {
        "name": store.name,
        "arch": spec.arch,
        "layer": spec.layer,
        "view": None if spec.view is None else str(spec.view),
        "weights": store.trunk.weights_name,
        "compute": spec.compute,
        "stored": spec.stored,
        "rows": store.rows,
        "dim": store.dim,
        "shards": len(store.shards),
        "bytes": sum(shard.bytes for shard in store.shards),
        "listings": ["/".join(key) for key in sorted(store.listings)],
        "heads": len(_head_folders(store)),
        "made": [{**entry, **_count_made(store, place)} for place, entry in enumerate(store.trunk.provenance)],
        "made_by_unknown": sum(shard.rows for shard in store.shards if not _is_noted(store, shard)),
    }


def _readable_listings(request: DatasetRequest, store: FeatureStore) -> Iterator[ExtractedListing]:
    """Yield the listings of this data set in a store, those that can be read."""
    for key in request.keys_of(store):
        with contextlib.suppress(CacheError):  # `verify` names it
            yield store.listing(key)


def _count_made(store: FeatureStore, place: int) -> dict[str, int]:
    """Return how many rows and shards were embedded on one machine, the one at this place of the trunk's record."""
    shards = [shard for shard in store.shards if shard.made == place]
    return {"rows": sum(shard.rows for shard in shards), "shards": len(shards)}


def _is_noted(store: FeatureStore, shard: Shard) -> bool:
    """Return whether the trunk's record says on which machine a shard was embedded."""
    return shard.made is not None and shard.made < len(store.trunk.provenance)


def _head_folders(store: FeatureStore) -> list[Path]:
    """Return the folders of a store's heads and classifiers; one without its document was never finished."""
    documents = [path for name in MODEL_DOCUMENTS for path in (store.root / "heads").glob(f"*/*/*/{name}")]
    return sorted(path.parent for path in documents)
