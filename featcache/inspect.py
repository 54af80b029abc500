"""What a cache holds, and what is wrong in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import featcache
from featcache.asked import Asked
from featcache.errors import CacheError, FeatcacheError
from featcache.heads import saved
from featcache.store import FeatureStore, Problem, StatLog, cache_folder
from featcache.trunks import weights as trunk_weights
from featcache.trunks.architectures import architecture
from featcache.where import Where


def info(*, arch: str | None = None, weights: str | None = None, **where: Unpack[Where]) -> dict[str, Any]:
    """The trunk that the recipe asks for, and every store in the cache; the document of `featcache info --json`.

    `head_parameters` is null while the cache holds no listing of this data set, which alone knows its classes.

    Raises:
        UsageError: the recipe, or its architecture.
        CacheError: a store cannot be read.
    """
    asked = Asked(**where)
    recipe = asked.recipe.override("trunk", arch=arch, weights=weights)
    shape = architecture(recipe.trunk.arch)
    crop = trunk_weights.transform_of(shape, recipe.trunk.weights).crop
    stores = asked.stores()
    keys = [(store, key) for store in stores for key in asked.keys_of(store)]
    classes = len(keys[0][0].listing(keys[0][1]).listing.classes) if keys else None
    return {
        "version": featcache.__version__,
        "cache": str(asked.folder),
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
    }


def verify(*, cache: str | Path | None = None, progress: Callable[[int, int], None] = lambda *_: None) -> list[Problem]:
    """Every problem in every store of a cache, with all hashes; an empty list is a clean bill.

    `progress` gets the bytes that were checked and the bytes there are.

    Raises:
        CacheError: there is no cache at this place.
    """
    folder = cache_folder(cache)
    if not folder.is_dir():
        raise CacheError(f"{folder}: no cache here; name one with --cache")
    problems: list[Problem] = []
    stores: list[FeatureStore] = []
    for root in sorted(path for path in (folder / "stores").glob("*") if path.is_dir()):
        if not (root / "trunk.json").exists() and not any((root / "shards").glob("*.h5")):
            continue  # a run was killed while it made this store: nothing was lost
        try:
            stores.append(FeatureStore.open(root, StatLog(folder)))
        except FeatcacheError as error:
            problems.append(Problem(str(root), "log", str(error)))
    total, done = sum(part.bytes for store in stores for part in store.shards), 0

    def more(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    for store in stores:
        problems += store.verify(more)
        for path in sorted((store.root / "heads").glob("*/*/*/head.json")):
            try:
                saved.load(path.parent)
            except CacheError as error:
                problems.append(Problem(str(path.parent), "head", str(error)))
    return problems


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
        "made": [dict(entry) for entry in store.trunk.made],
    }
