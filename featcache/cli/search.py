"""`featcache search`."""

from typing import Annotated

import typer

from featcache.cli.app import Device, Json, command, complain, console, print_json, refuse_unused, say, short
from featcache.recipe import Stored


@command()
def search(
    *,
    trials: Annotated[int, typer.Option("--trials", help="How many the study shall hold, earlier ones included.")] = 50,
    where: Stored,
    select: Annotated[
        str | None, typer.Option("--select", help="What chooses, on val: macro_recall, accuracy or loss.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="Held fixed: sgd, adam or adamw.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the search and of the order of the rows.")] = None,
    device: Device = "auto",
    check_seconds: Annotated[float, typer.Option("--check-seconds", help="What the check may take.")] = 30.0,
    no_check: Annotated[bool, typer.Option("--no-check", help="Leave out the convex optimum.")] = False,
    as_json: Json = False,
) -> None:
    """Bayesian search over a head's settings, pruned on val; the same command again goes on where it was."""
    from featcache.heads import search
    from featcache.report import Bar, search_parts

    if no_check:
        refuse_unused(["check_seconds"], "with --no-check")
    with Bar(console(stderr=True)) as bar:
        found = search(
            trials, select=select, optimizer=optimizer, epochs=epochs, batch_size=batch_size, seed=seed,
            device=device, check_seconds=None if no_check else check_seconds,
            progress=lambda stage, done, total: bar.show(stage, done, total, "trials"), **where,
        )  # fmt: skip
    if as_json:
        print_json(found.to_json())
    else:
        for part in search_parts(found):
            console().print(part)
        if found.fit.best is not None:
            say(f"saved in {short(found.fit.best.folder)}")
    for note in found.fit.notes:
        complain(f"note: {note}")
