"""`featcache fit-head`."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.cross_validation import run_cross_validation
from featcache.cli.few_shots import run_few_shots
from featcache.cli.folds import options_of_folds
from featcache.cli.next_command import say_next_after_fit_head
from featcache.cli.options import (
    HEAD,
    CheckSeconds,
    Device,
    Folds,
    HeadName,
    Json,
    NoCheck,
    Ray,
    RayCpus,
    RayGpus,
    RayWorkers,
    WithFolder,
    chosen_check_seconds,
    help_of,
)
from featcache.cli.output import echo_json, echo_stderr, open_console
from featcache.cli.several_targets import run_targets, show_fit
from featcache.errors import UsageError, name_fold_in_errors
from featcache.recipe import HeadKeywords, StoreOptions

if TYPE_CHECKING:
    from featcache.heads import Fit
    from featcache.report import ProgressBar

_OF_RAY = ("ray", "ray_gpus", "ray_cpus", "ray_workers")
_ONLY_OF_KEPT_HEADS = (*_OF_RAY, "folds", "targets", "check_seconds", "no_check", "from_disk", "head_name")


@command("fit-head")
def fit_head(
    *,
    lr: Annotated[list[float] | None, typer.Option("--lr", help=help_of(HEAD["lr"]))] = None,
    options: Annotated[StoreOptions, WithFolder()],
    folds: Folds = None,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            help="Of Drive&Act: several levels or columns, whose heads are trained on embeddings that are read once: "
            "midlevel,tasklevel,objectlevel:object.",
        ),
    ] = None,
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
    cross_validate: Annotated[
        int | None,
        typer.Option(
            "--cross-validate",
            help="Instead of keeping heads, divide the rows of train and val into so many folds, by subject, clip or "
            "image, and predict each fold by heads that were trained on the others.  [from 2 to 100]",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            help="With --cross-validate, write one row an image (.csv or .parquet): fold, path, truth, prediction, "
            "clip, subject, probabilities.",
        ),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            "--shots",
            help="Instead of keeping heads, train them on so many labels of each class, and show macro recall against "
            "the number of labels: 1,2,4,8,16,all. Of rows with several labels or numbers: on so many images.",
        ),
    ] = None,
    tries: Annotated[
        int | None,
        typer.Option("--tries", help="With --shots, draws of each number of labels.  [from 1 to 40; default: 10]"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="With --shots, write the curve as a page (.html).")
    ] = None,
    ray: Ray = None,
    ray_gpus: RayGpus = None,
    ray_cpus: RayCpus = None,
    ray_workers: RayWorkers = None,
    as_json: Json = False,
) -> None:
    """Stage two: train heads on the cached embeddings, and hold the best linear one against the convex optimum.

    A setting that is left out comes from the recipe; where the recipe does not state it, its default holds.
    """
    from featcache.cluster import chosen_cluster
    from featcache.heads import fit_head
    from featcache.report import ProgressBar

    if shots is not None:
        refuse_unused([*_ONLY_OF_KEPT_HEADS, "cross_validate", "predictions"], "with --shots")
        run_few_shots(shots, tries, lr, grid, settings, options, device=device, html=html, as_json=as_json)
        return
    refuse_unused(["tries", "html"], "without --shots")
    if cross_validate is not None:
        refuse_unused(_ONLY_OF_KEPT_HEADS, "with --cross-validate")
        run_cross_validation(
            cross_validate, lr, grid, settings, options, device=device, predictions=predictions, as_json=as_json
        )
        return
    if predictions is not None:
        error = UsageError("--predictions belongs to --cross-validate; of a head, `featcache report` writes them")
        raise error.correct("--predictions", None)
    if no_check:
        refuse_unused(["check_seconds"], "with --no-check")
    if targets is not None:
        refuse_unused(["folds", "from_disk", "head_name"], "with --targets")
        budget = chosen_check_seconds(check_seconds, no_check)
        run_targets(targets.split(","), lr, grid, settings, options, device, budget, as_json=as_json)
        return
    fits: list[tuple[int | None, Fit]] = []
    for fold, of_fold in options_of_folds(folds, options):
        with name_fold_in_errors(fold), ProgressBar(open_console(stderr=True)) as bar:
            show = functools.partial(_show_progress, bar)
            fit = fit_head(
                lr, grid=grid, device=device, check_seconds=chosen_check_seconds(check_seconds, no_check),
                from_disk=from_disk, head_name=head_name, progress=show,
                cluster=chosen_cluster(ray, gpus=ray_gpus, cpus=ray_cpus, workers=ray_workers), **settings, **of_fold,
            )  # fmt: skip
        fits.append((fold, fit))
        if not as_json:
            show_fit(fit, "" if fold is None else f"fold {fold}")
    if as_json:
        documents = [fit.to_json() if fold is None else {"fold": fold, **fit.to_json()} for fold, fit in fits]
        echo_json(documents[0] if folds is None else {"folds": documents})
    for note in dict.fromkeys(note for _, fit in fits for note in fit.notes):
        echo_stderr(f"note: {note}")
    if not as_json and all(fit.best is not None for _, fit in fits):
        say_next_after_fit_head(options, fits, folds)


def _show_progress(bar: "ProgressBar", stage: str, done: int, total: int) -> None:
    bar.show(stage, done, total, "epochs")
