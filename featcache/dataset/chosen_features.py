"""Which stores `--features` means: one for each of its parts, and side by side they are what stage two works on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from featcache.errors import CacheError, UsageError
from featcache.store import (
    FeaturePart,
    FeatureStore,
    StoreRequest,
    concatenate,
    describe_broken_stores,
    is_named,
    trunk_flags,
    trunk_without_layer,
)
from featcache.trunks import TrunkSpec

if TYPE_CHECKING:
    from featcache.dataset.request import DatasetRequest


def choose_features(
    request: "DatasetRequest", parts: Sequence[FeaturePart], stores: Sequence[FeatureStore]
) -> FeatureStore:
    """Return the stores of the parts as one, in their order.

    Parts that name no trunk are layers of one trunk: of the one that has all of them.

    Args:
        request: The data set, and what else was typed of the trunk.
        parts: What `--features` says.
        stores: Those that hold the data set; at least one.

    Raises:
        CacheError: no store fits a part, or several do; the message says how to go on.
        UsageError: two parts are the same store.
    """
    unnamed = [part for part in parts if not part.trunk]
    chosen = dict(zip(unnamed, _choose_of_one_trunk(request, unnamed, stores), strict=True)) if unnamed else {}
    for part in parts:
        if part not in chosen:
            chosen[part] = _choose_named(request, part, stores)
    in_order = [chosen[part] for part in parts]
    _refuse_twice(parts, in_order)
    _refuse_unused(request, parts, in_order)
    return concatenate(in_order)


def _choose_of_one_trunk(
    request: "DatasetRequest", parts: Sequence[FeaturePart], stores: Sequence[FeatureStore]
) -> list[FeatureStore]:
    """Return a store for each layer, all of the one trunk that has all of these layers."""
    any_layer = _without(request.store_request, "layer")
    meant = [store for store in stores if any_layer.is_met_by(store)]
    if not meant:
        any_layer.refuse(str(request.folder), _name(request), stores)
    trunks: dict[TrunkSpec, list[FeatureStore]] = {}
    for store in meant:
        trunks.setdefault(trunk_without_layer(store.trunk.spec), []).append(store)
    layers = [part.layer for part in parts]
    complete = [of_trunk for of_trunk in trunks.values() if {*layers} <= _layers_of(of_trunk)]
    if not complete:
        _refuse_missing_layer(request, parts, list(trunks.values()))
    fitting = [[store for of in complete for store in of if store.trunk.spec.layer == layer] for layer in layers]
    for part, fit in zip(parts, fitting, strict=True):
        if len(fit) > 1:
            _refuse_ambiguous(request, part, fit)
    return [fit[0] for fit in fitting]


def _choose_named(request: "DatasetRequest", part: FeaturePart, stores: Sequence[FeatureStore]) -> FeatureStore:
    """Return the store of a part that names its trunk, or the store itself."""
    by_name = [store for store in stores if is_named(store.name, store.fingerprint, part.trunk)]
    if by_name:
        if len(by_name) > 1:
            _refuse_ambiguous(request, part, by_name)
        if by_name[0].trunk.spec.layer != part.layer:
            raise CacheError(
                f"{request.folder}: store {by_name[0].name} holds layer {by_name[0].trunk.spec.layer}, --features asks "
                f"for {part}"
            )
        return by_name[0]
    base = request.store_request
    of_trunk = [store for store in stores if StoreRequest(typed={"arch": part.trunk}).is_met_by(store)]
    if not of_trunk:
        held = ", ".join(dict.fromkeys(store.trunk.spec.arch for store in stores))
        extract = _extract(request, "--arch", part.trunk, "--layer", part.layer)
        raise CacheError(
            f"{request.folder}: no store that holds {_name(request)} is of trunk {part.trunk}, of --features {part}; "
            f"there is {held}; run `{extract}` to add it{describe_broken_stores(request.folder, request.stat_log)}"
        )
    others = ("arch", "layer") if base.stated.get("arch", part.trunk) == part.trunk else ("arch", "layer", "weights")
    settings = _without(replace(base, typed=_but(base.typed, "weights")), *others)  # typed weights are of one trunk
    fitting = [store for store in of_trunk if store.trunk.spec.layer == part.layer and settings.is_met_by(store)]
    if not fitting:
        _refuse_missing_layer(request, [part], [of_trunk])
    if len(fitting) > 1:
        _refuse_ambiguous(request, part, fitting)
    return fitting[0]


def _without(base: StoreRequest, *names: str) -> StoreRequest:
    """Return a store request that does not hold these settings."""
    return replace(base, typed=_but(base.typed, *names), stated=_but(base.stated, *names))


def _but(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _layers_of(stores: Sequence[FeatureStore]) -> set[str]:
    return {store.trunk.spec.layer for store in stores}


def _refuse_missing_layer(
    request: "DatasetRequest", parts: Sequence[FeaturePart], trunks: Sequence[Sequence[FeatureStore]]
) -> NoReturn:  # fmt: skip
    """Refuse parts that no store holds, with the extract that adds them to the trunk that has most of them."""
    layers = list(dict.fromkeys(part.layer for part in parts))
    nearest = max(trunks, key=lambda stores: len(_layers_of(stores) & {*layers}))
    missing = [layer for layer in layers if layer not in _layers_of(nearest)]
    held = ", ".join(dict.fromkeys(store.trunk.spec.layer for store in nearest))
    spec = nearest[0].trunk.spec
    if not missing:  # it is there, and not as the recipe or a flag wants it
        request.store_request.refuse(str(request.folder), _name(request), nearest)
    flags = [word for flag in trunk_flags(nearest[0]) for word in flag]
    extract = _extract(request, *flags, *(word for layer in missing for word in ("--layer", layer)))
    elsewhere = [
        store.name
        for stores in trunks
        if stores is not nearest
        for store in stores
        if missing[0] in _layers_of([store])
    ]
    other = f" (of another trunk it is in {', '.join(elsewhere)}: name it as TRUNK/LAYER)" if elsewhere else ""
    raise CacheError(
        f"{request.folder}: no store that holds {_name(request)} has layer {' and '.join(missing)} of {spec.arch}; "
        f"there is {held}{other}; run `{extract}` to add it"
    )


def _refuse_ambiguous(request: "DatasetRequest", part: FeaturePart, fitting: Sequence[FeatureStore]) -> NoReturn:
    names = " and ".join(store.name for store in fitting)
    choice = " or ".join(f"{store.name}/{part.layer}" for store in fitting)
    raise CacheError(
        f"{request.folder}: {len(fitting)} stores hold {part} of --features for {_name(request)}: {names}; name one of "
        f"them in its place, as {choice}"
    )


def _refuse_twice(parts: Sequence[FeaturePart], stores: Sequence[FeatureStore]) -> None:
    for number, store in enumerate(stores):
        for earlier in range(number):
            if stores[earlier].name == store.name:
                raise UsageError(
                    f"--features: {parts[earlier]} and {parts[number]} are the same store, {store.name}; name each "
                    f"store once"
                )


def _refuse_unused(request: "DatasetRequest", parts: Sequence[FeaturePart], stores: Sequence[FeatureStore]) -> None:
    """Refuse a trunk or weights that were typed beside parts that all name theirs, where none of them is meant."""
    if not all(part.trunk for part in parts):
        return
    for name in ("arch", "weights"):
        value = request.store_request.typed.get(name)
        if value is not None and not any(StoreRequest(typed={name: value}).is_met_by(store) for store in stores):
            error = UsageError(
                f"--{name} {value} has no effect: each part of --features names its trunk, and none is that"
            )
            raise error.correct(f"--{name}", None)


def _extract(request: "DatasetRequest", *words: str) -> str:
    plain = replace(request, arch=None, layer=None, features=None, store=None, weights=None, precision=None)
    return plain.command_line("extract", *words)


def _name(request: "DatasetRequest") -> str:
    return f"{request.recipe.name}/{request.variant}"
