"""`featcache info`."""

from pathlib import Path
from typing import Annotated

import typer

from featcache.cli.app import Json, Weights, command, print_json, say, short
from featcache.recipe import Where


@command()
def info(
    *,
    where: Where,
    arch: Annotated[str | None, typer.Option("--arch")] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """What the cache holds, and what the trunk and a head on it weigh."""
    from featcache.maintenance import info
    from featcache.report import made_with, many

    found = info(arch=arch, weights=weights, **where)
    if as_json:
        print_json(found)
        return
    trunk = found["trunk"]
    classes = trunk["classes"] or 34
    head = (trunk["dim"] + 1) * classes
    example = "" if trunk["classes"] else f" (an example: {found['data_set']!r} is not in this cache)"
    say(f"featcache {found['version']}, cache {short(Path(found['cache']))}")
    say(f"trunk {trunk['arch']}, weights {trunk['weights']}: {trunk['frozen_parameters']:,} frozen parameters")
    say(trunk["transform"])
    say(f"head of {classes} classes: {head:,} parameters{example}")
    for store in found["stores"]:
        say(
            f"\n{store['name']}: {store['rows']:,} embeddings of {store['dim'] or 0} ({store['compute']}, stored as "
            f"{store['stored']}), {many(store['shards'], 'shard')}, {store['bytes'] / 1e6:,.1f} MB, "
            f"{many(store['heads'], 'head')}"
        )
        for listing in store["listings"]:
            say(f"  {listing}")
        for made in store["made"]:
            say(f"  {made_with(made)}")
        if store["made_by_unknown"]:
            say(f"  {store['made_by_unknown']:,} embeddings: nobody noted what made them")
    for problem in found["damaged"].values():
        say(f"\ncannot be opened: {problem}")
    if not found["stores"]:
        say("no store yet: `featcache extract` makes one")
