"""`featcache fit-head`."""

from typing import Annotated

import typer

from featcache.cli.app import Device, Json, command, complain, console, print_json, refuse_unused, say, short
from featcache.recipe import Stored


@command("fit-head")
def fit_head(
    *,
    lr: Annotated[list[float] | None, typer.Option("--lr", help="A learning rate; several train side by side.")] = None,
    where: Stored,
    grid: Annotated[
        str | None, typer.Option("--grid", help='Every combination: "lr=0.003,0.03 weight_decay=0,1e-4 seed=0,1".')
    ] = None,
    select: Annotated[
        str | None, typer.Option("--select", help="What chooses, on val: macro_recall, accuracy or loss.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="sgd, adam or adamw.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size")] = None,
    momentum: Annotated[float | None, typer.Option("--momentum")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay")] = None,
    clip_norm: Annotated[float | None, typer.Option("--clip-norm", help="Of each head's whole gradient.")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", help="cosine, constant or plateau.")] = None,
    warmup: Annotated[float | None, typer.Option("--warmup", help="Epochs over which the learning rate rises.")] = None,
    plateau_epochs: Annotated[
        int | None, typer.Option("--plateau-epochs", help="Of --schedule plateau: epochs without a lower loss on val.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Stop after so many epochs without a better val score.")
    ] = None,
    class_weights: Annotated[str | None, typer.Option("--class-weights", help="none or balanced.")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="uniform or balanced: a class, then a row.")] = None,
    logit_adjustment: Annotated[
        float | None, typer.Option("--logit-adjustment", help="tau, 1 for the Bayes rule of macro recall.")
    ] = None,
    label_smoothing: Annotated[float | None, typer.Option("--label-smoothing")] = None,
    standardize: Annotated[
        bool | None, typer.Option("--standardize/--no-standardize", help="Each dimension to mean 0 and deviation 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the order of the rows.")] = None,
    device: Device = "auto",
    check_seconds: Annotated[float, typer.Option("--check-seconds", help="What the check may take.")] = 30.0,
    from_disk: Annotated[
        bool | None,
        typer.Option("--from-disk/--in-memory", help="Where training rows are read from; what fits is held in memory."),
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Leave out the convex optimum.")] = False,
    as_json: Json = False,
) -> None:
    """Stage two: train linear heads on the cached embeddings, and hold the best against the convex optimum."""
    from featcache.heads import fit_head
    from featcache.report import Bar, fit_parts

    if no_check:
        refuse_unused(["check_seconds"], "with --no-check")
    with Bar(console(stderr=True)) as bar:
        fit = fit_head(
            lr, grid=grid, epochs=epochs, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay,
            clip_norm=clip_norm, seed=seed, select=select, optimizer=optimizer, schedule=schedule, warmup=warmup,
            plateau_epochs=plateau_epochs, patience=patience, class_weights=class_weights, sampler=sampler,
            logit_adjustment=logit_adjustment, label_smoothing=label_smoothing, standardize=standardize, device=device,
            check_seconds=None if no_check else check_seconds, from_disk=from_disk,
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"), **where,
        )  # fmt: skip
    if as_json:
        print_json(fit.to_json())
    else:
        for part in fit_parts(fit):
            console().print(part)
        if fit.best is not None:
            say(f"saved in {short(fit.best.folder)}")
    for note in fit.notes:
        complain(f"note: {note}")
