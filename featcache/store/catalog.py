"""Which store of a cache a question is about. Stage two computes no TrunkSpec: it takes what holds the listing."""

import os
from collections.abc import Sequence
from pathlib import Path

from featcache.errors import CacheError
from featcache.store.commits import Key
from featcache.store.stat_log import StatLog
from featcache.store.store import FeatureStore, broken, find

DEFAULT = "cache"
VARIABLE = "FEATCACHE_CACHE"


def cache_folder(cache: str | Path | None) -> Path:
    """The cache that is meant: as given, else FEATCACHE_CACHE, else ./cache; absolute."""
    return Path(cache or os.environ.get(VARIABLE) or DEFAULT).absolute()


def choose(
    cache: Path,
    known: StatLog,
    key: Key,
    *,
    store: str | None = None,
    weights: str | None = None,
    precision: str | None = None,
) -> FeatureStore:
    """The one store that holds a listing of (data set, variant, split) and passes the filters.

    `store` is a store's folder name or the start of its fingerprint; `weights` and `precision` are as they were
    typed for extract.

    Raises:
        CacheError: no store does, or several do; the message says how to go on.
    """
    everywhere = [found for found in find(cache, known) if key in found.listings]
    fitting = [found for found in everywhere if passes(found, store, weights, precision)]
    if len(fitting) == 1:
        return fitting[0]
    damaged = {} if fitting else broken(cache, known)  # one of these may be meant; where another fits, it is not
    if store in damaged:
        raise damaged[store]
    also = "".join(f"\nA store that cannot be opened: {error}" for error in damaged.values())
    data_set, variant, split = key
    if fitting:
        raise CacheError(
            f"{cache}: {len(fitting)} stores hold {data_set}/{variant}/{split}: {_names(fitting)}; "
            f"name one with --store (or tell them apart with --weights or --precision)"
        )
    if everywhere:
        asked = ", ".join(
            f"--{name} {value}"
            for name, value in (("store", store), ("weights", weights), ("precision", precision))
            if value
        )
        raise CacheError(
            f"{cache}: no store with {asked} holds {data_set}/{variant}/{split}; there are: {_names(everywhere)}{also}"
        )
    raise CacheError(
        f"{cache}: no embeddings of {data_set}, split {split!r}, are in this cache; "
        f"run `featcache extract --split {split}` first, or name another --cache{also}"
    )


def passes(found: FeatureStore, store: str | None, weights: str | None, precision: str | None) -> bool:
    """Whether a store is one that these filters mean; None means any."""
    computed = {"float32": "fp32", "bfloat16": "bf16"}[found.trunk.spec.compute]
    asked = found.trunk.asked
    return (
        (store is None or found.name == store or found.trunk.spec.fingerprint().startswith(store))
        and (weights is None or weights == asked or Path(weights).name == asked)
        and (precision in (None, "auto", computed))
    )


def _names(stores: Sequence[FeatureStore]) -> str:
    return ", ".join(found.name for found in stores)
