"""What a cache holds."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import featcache
from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import CacheError
from featcache.heads.saved import MODEL_DOCUMENTS
from featcache.recipe import DataOptions
from featcache.store import (
    ExtractedListing,
    FeatureStore,
    Shard,
    find_broken_stores,
    find_stores,
)
from featcache.trunks import TrunkSource, WeightsMemo, architecture


@checked
def info(*, arch: str | None = None, weights: str | None = None, **where: Unpack[DataOptions]) -> dict[str, Any]:
    """The trunk that the recipe asks for, and every store in the cache; the document of `featcache info --json`.

    `head_parameters` is null while the cache holds no listing of this data set, which alone knows its classes.

    Raises:
        UsageError: the recipe, or its architecture.
    """
    asked = Asked(**where)
    recipe = asked.recipe.override("trunk", arch=arch, weights=weights)
    shape = architecture(recipe.trunk.arch)
    trunk = TrunkSource(recipe.trunk, WeightsMemo(asked.folder))
    crop = trunk.transform.crop
    stores = find_stores(asked.folder, asked.known)  # every one, whatever trunk the recipe asks for
    classes = next((len(found.listing.classes) for store in stores for found in _listings(asked, store)), None)
    return {
        "version": featcache.__version__,
        "cache": str(asked.folder),
        "data_set": recipe.name,
        "trunk": {
            "arch": shape.name,
            "weights": recipe.trunk.weights,
            "transform": trunk.sentence,
            "frozen_parameters": shape.frozen_parameters(crop),
            "dim": shape.dim,
            "classes": classes,
            "head_parameters": None if classes is None else shape.head_parameters(classes),
        },
        "stores": [_describe(store) for store in stores],
        "damaged": {name: str(error) for name, error in find_broken_stores(asked.folder, asked.known).items()},
    }


def _describe(store: FeatureStore) -> dict[str, Any]:
    spec = store.trunk.spec
    return {
        "name": store.name,
        "arch": spec.arch,
        "weights": store.trunk.weights_name,
        "compute": spec.compute,
        "stored": spec.stored,
        "rows": store.rows,
        "dim": store.dim,
        "shards": len(store.shards),
        "bytes": sum(part.bytes for part in store.shards),
        "listings": ["/".join(key) for key in sorted(store.listings)],
        "heads": len(_heads(store)),
        "made": [{**entry, **_part(store, place)} for place, entry in enumerate(store.trunk.provenance)],
        "made_by_unknown": sum(part.rows for part in store.shards if not _is_noted(store, part)),
    }


def _listings(asked: Asked, store: FeatureStore) -> Iterator[ExtractedListing]:
    """The listings of this data set in a store that can be read."""
    for key in asked.keys_of(store):
        with contextlib.suppress(CacheError):  # `verify` names it
            yield store.listing(key)


def _part(store: FeatureStore, place: int) -> dict[str, int]:
    """How much of the store one making has made."""
    parts = [part for part in store.shards if part.made == place]
    return {"rows": sum(part.rows for part in parts), "shards": len(parts)}


def _is_noted(store: FeatureStore, part: Shard) -> bool:
    return part.made is not None and part.made < len(store.trunk.provenance)


def _heads(store: FeatureStore) -> list[Path]:
    """The folders of its heads and classifiers; one without its document was never finished."""
    found = [path for name in MODEL_DOCUMENTS for path in (store.root / "heads").glob(f"*/*/*/{name}")]
    return sorted(path.parent for path in found)
