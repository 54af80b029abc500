"""`featcache fit-head`."""

from typing import Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.options import (
    HEAD,
    CheckSeconds,
    Device,
    Folds,
    HeadName,
    Json,
    NoCheck,
    WithFolder,
    chosen_check_seconds,
    help_of,
    options_of_folds,
)
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path, say_next
from featcache.recipe import HeadKeywords, StoreOptions


@command("fit-head")
def fit_head(
    *,
    lr: Annotated[list[float] | None, typer.Option("--lr", help=help_of(HEAD["lr"]))] = None,
    options: Annotated[StoreOptions, WithFolder()],
    folds: Folds = None,
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
    head_name: HeadName = None,
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
        fits = [
            (
                fold,
                fit_head(
                    lr, grid=grid, device=device, check_seconds=chosen_check_seconds(check_seconds, no_check),
                    from_disk=from_disk, head_name=head_name,
                    progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"), **settings, **of_fold,
                ),
            )
            for fold, of_fold in options_of_folds(folds, options)
        ]  # fmt: skip
    if as_json:
        documents = [fit.to_json() if fold is None else {"fold": fold, **fit.to_json()} for fold, fit in fits]
        echo_json(documents[0] if folds is None else {"folds": documents})
    else:
        for fold, fit in fits:
            if fold is not None:
                echo(f"fold {fold}")
            for part in fit_parts(fit):
                open_console().print(part, crop=False)
            if fit.best is not None:
                echo(f"head {fit.handles.describe(fit.best.name)}: saved in {relative_path(fit.best.folder)}")
        if all(fit.best is not None for _, fit in fits):
            best = next(fit.best for _, fit in fits if fit.best is not None)
            words = [] if folds is None else ["--folds", folds]
            say_next("report", options, *words, store=best.folder.parents[3].name)
    for note in dict.fromkeys(note for _, fit in fits for note in fit.notes):
        echo_stderr(f"note: {note}")
