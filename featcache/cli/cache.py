"""`featcache info` and `featcache verify`."""

from pathlib import Path
from typing import Annotated

import typer

from featcache.cli.app import Cache, Json, Weights, command, console, print_json, say, short
from featcache.where import Where


@command()
def info(
    *,
    where: Where,
    arch: Annotated[str | None, typer.Option("--arch")] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """What the cache holds, and what the trunk and a head on it weigh."""
    from featcache.inspect import info
    from featcache.report.stages import many

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
            versions = ", ".join(f"{package} {number}" for package, number in made["versions"].items())
            say(f"  made on {made['device']}, batches of {made['batch_size']}, with {versions}")
    if not found["stores"]:
        say("no store yet: `featcache extract` makes one")


@command()
def verify(cache: Cache = None, as_json: Json = False) -> None:
    """Every problem in the cache, not the first one: the logs, all hashes, the heads."""
    from dataclasses import asdict

    from featcache.inspect import verify
    from featcache.report.progress import Bar
    from featcache.report.stages import many

    with Bar(console(stderr=True)) as bar:
        problems = verify(
            cache=cache,
            progress=lambda done, total: bar.show("hashing", done // 10**6, total // 10**6, "MB"),
        )
    if as_json:
        print_json({"problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            say(f"{problem.kind}: {problem.message}")
        say(many(len(problems), "problem"))
    if problems:
        raise typer.Exit(3)
