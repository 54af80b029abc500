"""`featcache info`."""

import contextlib
import os
from typing import Annotated, Any

from featcache.cli.app import command
from featcache.cli.options import Arch, Json, Weights, WithFolder
from featcache.cli.output import echo, echo_json, relative_path
from featcache.errors import FeatcacheError
from featcache.recipe import DataOptions


@command()
def info(
    *,
    options: Annotated[DataOptions, WithFolder()],
    arch: Arch = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """List what the cache holds, and count the parameters of the trunk and of a head on it."""
    from featcache.files.objects import parse_path
    from featcache.maintenance import info
    from featcache.report import describe_embeddings
    from featcache.text import counted

    inventory = info(arch=arch, weights=weights, **options)
    if as_json:
        echo_json(inventory)
        return
    trunk = inventory["trunk"]
    echo(f"featcache {inventory['version']}, cache {relative_path(parse_path(inventory['cache']))}")
    stores, noun = inventory["stores"], _noun_of_outputs(options)
    is_held = any(store["arch"] == trunk["arch"] and _has_weights(store, trunk) for store in stores)
    has_trunk = is_held or not stores or arch is not None or weights is not None
    if has_trunk:
        _echo_trunk(trunk, inventory["data_set"], noun)
    for store in stores:
        view = "" if store["view"] is None else f", {store['view']}"
        echo(
            f"\n{store['name']}: {store['rows']:,} embeddings of {store['dim'] or 0} ({store['compute']}, stored as "
            f"{store['stored']}){view}, {counted(store['shards'], 'shard')}, {store['bytes'] / 1e6:,.1f} MB, "
            f"{counted(store['heads'], 'head')}"
        )
        if not has_trunk and trunk["classes"]:
            parameters = (store["dim"] + 1) * trunk["classes"]
            echo(f"  head of {counted(trunk['classes'], noun)}: {parameters:,} parameters")
        for listing in store["listings"]:
            echo(f"  {listing}")
        for made in store["made"]:
            echo(f"  {describe_embeddings(made)}")
        if store["made_by_unknown"]:
            echo(f"  {store['made_by_unknown']:,} embeddings: what made them was not recorded")
    for features in inventory["features"]:
        echo(
            f"\n{features['name']}: {features['dim'] or 0:,} columns, {features['features']} of "
            f"{' and '.join(features['stores'])}, {counted(features['heads'], 'head')}"
        )
    if not has_trunk:
        echo(f"\n{_absent_trunk(trunk)}")
    for problem in inventory["damaged"].values():
        echo(f"\ncannot be opened: {problem}")
    if not stores:
        echo("no store yet: `featcache extract FOLDER` creates one")


def _noun_of_outputs(options: DataOptions) -> str:
    """Return what a head of the data set has an output for: a class, a label or a number."""
    from featcache.dataset import DatasetRequest
    from featcache.recipe import LABELS, VALUE

    with contextlib.suppress(FeatcacheError):  # none is named
        return {LABELS: "label", VALUE: "number"}.get(DatasetRequest(**options).recipe.data.target_kind, "class")
    return "class"


def _echo_trunk(trunk: dict[str, Any], data_set: str | None, noun: str) -> None:
    """Print the trunk that the recipe or the options mean, and the size of a head on it."""
    from featcache.text import counted

    classes = trunk["classes"] or 34
    absent = "this cache has no data set yet" if data_set is None else f"{data_set!r} is not in this cache"
    example = "" if trunk["classes"] else f" (an example: {absent})"
    echo(f"trunk {trunk['arch']}, weights {trunk['weights']}: {trunk['frozen_parameters']:,} frozen parameters")
    echo(trunk["transform"])
    echo(f"head of {counted(classes, noun)}: {(trunk['dim'] + 1) * classes:,} parameters{example}")


def _has_weights(store: dict[str, Any], trunk: dict[str, Any]) -> bool:
    """Return whether a store's weights have the name that the recipe's have; of a file, without its folder."""
    return bool(store["weights"] in (trunk["weights"], os.path.basename(trunk["weights"])))


def _absent_trunk(trunk: dict[str, Any]) -> str:
    """Return that no store is of the trunk that the recipe names, or that an extract takes by default."""
    name = f"{trunk['arch']}, weights {trunk['weights']}"
    if trunk["is_stated"]:
        return f"the recipe's trunk is another, {name}: no store of this cache is of it"
    return f"no store is of {name}, which an extract takes where --arch and --weights name nothing else"
