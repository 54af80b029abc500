"""`featcache search`."""

from typing import Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.next_command import say_next_after_search
from featcache.cli.options import CheckSeconds, Device, Json, NoCheck, Only, WithFolder, chosen_check_seconds
from featcache.cli.output import echo, echo_json, echo_parts, echo_stderr, open_console, relative_path
from featcache.recipe import HeadKeywords, StoreOptions


@command()
def search(
    *,
    trials: Annotated[
        int, typer.Option("--trials", help="How many the study holds in the end, old ones included.  [from 1 up]")
    ] = 50,
    options: Annotated[StoreOptions, WithFolder()],
    settings: Annotated[HeadKeywords, Only(("head", "optimizer", "batch_size", "epochs", "seed", "select"))],
    device: Device = "auto",
    check_seconds: CheckSeconds = None,
    no_check: NoCheck = False,
    as_json: Json = False,
) -> None:
    """Search a head's settings (Bayesian, pruned on val); the same command again continues the search.

    An optimizer that is given is held fixed; the seed is that of the search, too.
    """
    from featcache.heads import search
    from featcache.report import ProgressBar, search_parts

    if no_check:
        refuse_unused(["check_seconds"], "with --no-check")
    with ProgressBar(open_console(stderr=True)) as bar:
        result = search(
            trials, device=device, check_seconds=chosen_check_seconds(check_seconds, no_check),
            progress=lambda stage, done, total: bar.show(stage, done, total, "trials"), **settings, **options,
        )  # fmt: skip
    if as_json:
        echo_json(result.to_json())
    else:
        echo_parts(search_parts(result))
        if result.fit.best is not None:
            best = result.fit.best
            echo(f"head {result.fit.handles.describe(best.name)}: saved in {relative_path(best.folder)}")
    for note in result.fit.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next_after_search(options, result)
