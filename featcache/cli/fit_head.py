"""`featcache fit-head`."""

from typing import Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.options import HEAD, CheckSeconds, Device, Json, NoCheck, chosen_check_seconds, help_of
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.recipe import HeadKeywords, StoreOptions


@command("fit-head")
def fit_head(
    *,
    lr: Annotated[list[float] | None, typer.Option("--lr", help=help_of(HEAD["lr"]))] = None,
    options: StoreOptions,
    grid: Annotated[
        str | None,
        typer.Option("--grid", help='Train every combination: "lr=0.003,0.03 weight_decay=0,1e-4 seed=0,1".'),
    ] = None,
    settings: HeadKeywords,
    device: Device = "auto",
    check_seconds: CheckSeconds = None,
    from_disk: Annotated[
        bool | None,
        typer.Option(
            "--from-disk/--in-memory", help="Where the training rows are read from; by default memory, if they fit."
        ),
    ] = None,
    no_check: NoCheck = False,
    as_json: Json = False,
) -> None:
    """Stage two: train linear heads on the cached embeddings, and hold the best against the convex optimum.

    A setting that is left out comes from the recipe; where the recipe does not state it, its default holds.
    """
    from featcache.heads import fit_head
    from featcache.report import ProgressBar, fit_parts

    if no_check:
        refuse_unused(["check_seconds"], "with --no-check")
    with ProgressBar(open_console(stderr=True)) as bar:
        fit = fit_head(
            lr, grid=grid, device=device, check_seconds=chosen_check_seconds(check_seconds, no_check),
            from_disk=from_disk,
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"), **settings, **options,
        )  # fmt: skip
    if as_json:
        echo_json(fit.to_json())
    else:
        for part in fit_parts(fit):
            open_console().print(part)
        if fit.best is not None:
            echo(f"saved in {relative_path(fit.best.folder)}")
    for note in fit.notes:
        echo_stderr(f"note: {note}")
