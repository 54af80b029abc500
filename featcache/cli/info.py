"""`featcache info`."""

from pathlib import Path
from typing import Annotated

from featcache.cli.app import command
from featcache.cli.options import Arch, Json, Weights, WithFolder
from featcache.cli.output import echo, echo_json, relative_path
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
    from featcache.maintenance import info
    from featcache.report import describe_embeddings
    from featcache.text import counted

    inventory = info(arch=arch, weights=weights, **options)
    if as_json:
        echo_json(inventory)
        return
    trunk = inventory["trunk"]
    classes = trunk["classes"] or 34
    head = (trunk["dim"] + 1) * classes
    name = inventory["data_set"]
    absent = "this cache has no data set yet" if name is None else f"{name!r} is not in this cache"
    example = "" if trunk["classes"] else f" (an example: {absent})"
    echo(f"featcache {inventory['version']}, cache {relative_path(Path(inventory['cache']))}")
    echo(f"trunk {trunk['arch']}, weights {trunk['weights']}: {trunk['frozen_parameters']:,} frozen parameters")
    echo(trunk["transform"])
    echo(f"head of {classes} classes: {head:,} parameters{example}")
    for store in inventory["stores"]:
        echo(
            f"\n{store['name']}: {store['rows']:,} embeddings of {store['dim'] or 0} ({store['compute']}, stored as "
            f"{store['stored']}), {counted(store['shards'], 'shard')}, {store['bytes'] / 1e6:,.1f} MB, "
            f"{counted(store['heads'], 'head')}"
        )
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
    for problem in inventory["damaged"].values():
        echo(f"\ncannot be opened: {problem}")
    if not inventory["stores"]:
        echo("no store yet: `featcache extract FOLDER` creates one")
