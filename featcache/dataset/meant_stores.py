"""Which stores of a cache a request means: by what was typed and what the recipe says, of the trunk or of features."""

from pathlib import Path
from typing import TYPE_CHECKING

from featcache.dataset.chosen_features import choose_features
from featcache.dataset.other_divisions import correct_undivided
from featcache.errors import CacheError, UsageError
from featcache.store import (
    FeaturePart,
    FeatureStore,
    choose_store,
    find_concatenations,
    find_stores,
    parse_features,
    refuse_other_stores,
)
from featcache.trunks import FINETUNED_FOLDER

if TYPE_CHECKING:
    from featcache.dataset.request import DatasetRequest


def find_feature_parts(request: "DatasetRequest") -> tuple[FeaturePart, ...]:
    """Return what `DatasetRequest.feature_parts` is."""
    if request.features is not None:
        for name in ("layer", "store"):
            if (value := getattr(request, name)) is not None:
                error = UsageError(f"--{name} {value} and --features were both given; leave one out")
                raise error.correct(f"--{name}", None)
        return parse_features(request.features)
    if request.layer is not None or request.store is not None or not request.recipe.features:
        return ()
    return parse_features(request.recipe.features)


def find_meant_stores(request: "DatasetRequest") -> list[FeatureStore]:
    """Return what `DatasetRequest.stores` does."""
    heads = Path("heads", request.recipe.name, request.variant)
    holding = [
        store
        for store in find_stores(request.folder, request.stat_log)
        if request.store_request.may_mean(store) and (request.keys_of(store) or (store.root / heads).is_dir())
    ]
    if request.feature_parts:
        return [choose_features(request, request.feature_parts, holding)] if holding else []
    together = find_concatenations(request.folder, request.stat_log)
    every = [*holding, *(store for store in together if (store.root / heads).is_dir())]
    matching = [store for store in every if _is_meant(request, store)]
    if not matching:
        name = f"{request.recipe.name}/{request.variant}"
        refuse_other_stores(request.folder, request.stat_log, holding, request.store_request, name)
    return matching


def _is_meant(request: "DatasetRequest", store: FeatureStore) -> bool:
    """Return whether a store is one that is asked for, or that of a trunk which was fine-tuned in this cache.

    The recipe's weights are those that a fine-tuning starts from: its heads are the recipe's too.
    """
    differing = request.store_request.differences(store).keys()
    if differing != {"weights"} or "weights" in request.store_request.typed:
        return not differing
    return (request.folder / FINETUNED_FOLDER / store.trunk.weights_name).is_file()


def find_store_of(request: "DatasetRequest", split: str) -> FeatureStore:
    """Return what `DatasetRequest.store_of` does."""

    def advise() -> str:
        request.refuse_unknown_split(split)
        return request.advise_extract(split)

    key = request.key(split)
    chosen = request.stores() if request.feature_parts else []
    if not chosen:
        try:
            return choose_store(request.folder, request.stat_log, key, request.store_request, advise=advise)
        except CacheError as error:
            raise correct_undivided(error, request) from None
    if key not in chosen[0].listings:
        raise CacheError(f"{request.folder}: no embeddings of {'/'.join(key)}; {advise()}")
    return chosen[0]
