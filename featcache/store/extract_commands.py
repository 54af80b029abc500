"""The extract commands that complete stores, as one types them: with the trunk and the layers of each."""

import shlex
from collections.abc import Sequence

from featcache.store.request import PRECISION_WORDS
from featcache.store.store import FeatureStore
from featcache.trunks import WeightsMemo

Flag = tuple[str, str]


def extract_commands(stores: Sequence[FeatureStore], split: str) -> str:
    """Return the commands that extract a split into stores, one for each trunk: "`featcache extract …` and `…`".

    They are bare: who knows how the data set was typed adds it.

    Args:
        stores: Of one cache.
        split: Its name.
    """
    of_trunk: dict[tuple[Flag, ...], list[str]] = {}
    for store in stores:
        of_trunk.setdefault(tuple(trunk_flags(store)), []).append(store.trunk.spec.layer)
    commands = []
    for flags, layers in of_trunk.items():
        every = [("--split", split), *flags, *(("--layer", layer) for layer in layers)]
        commands.append(" ".join(["featcache extract", *(f"{name} {shlex.quote(value)}" for name, value in every)]))
    return " and ".join(f"`{command}`" for command in commands)


def trunk_flags(store: FeatureStore) -> list[Flag]:
    """Return the flags that name a store's trunk for extract, as it was named when it was extracted, without the layer.

    Args:
        store: One with a trunk of its own.
    """
    spec, memo = store.trunk.spec, WeightsMemo(store.cache)
    settings = {"arch": spec.arch, "weights": store.trunk.weights_path or store.trunk.weights_name}
    for remembered in memo.settings_of(spec.arch, spec.weights_sha256)[:1]:
        settings |= {name: str(remembered[name]) for name in _NAMING if remembered.get(name)}
    settings["precision"] = PRECISION_WORDS[spec.compute]
    return [(f"--{name.replace('_', '-')}", value) for name, value in settings.items()]


_NAMING = ("arch", "weights", "image_size", "transform")  # settings of a trunk that name it
