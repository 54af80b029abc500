"""`featcache search`: over the settings of a head; with --finetune, over those of the network's own training."""

from typing import Annotated, Any

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.finetune import show_training
from featcache.cli.next_command import say_next_after_finetune, say_next_after_search
from featcache.cli.options import (
    CheckSeconds,
    Device,
    Json,
    NoCheck,
    Only,
    Ray,
    RayCpus,
    RayGpus,
    RayWorkers,
    WithFolder,
    chosen_check_seconds,
)
from featcache.cli.output import echo, echo_json, echo_parts, echo_stderr, open_console, relative_path
from featcache.recipe import FinetuneKeywords, HeadKeywords, StoreOptions

_OF_FINETUNE = ("start", "unfreeze", "workers", "checkpoint_minutes")  # that mean nothing to the search of a head
_OF_RAY = ("ray", "ray_gpus", "ray_cpus", "ray_workers")
_OF_HEADS = ("head", "features", "check_seconds", "no_check", *_OF_RAY)  # … and to that of a network
_TRIALS, _NETWORK_TRIALS = 50, 20


@command()
def search(
    *,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            help=f"How many the study holds in the end, old ones included: {_TRIALS}, with --finetune "
            f"{_NETWORK_TRIALS}.  [from 1 up]",
        ),
    ] = None,
    options: Annotated[StoreOptions, WithFolder()],
    settings: Annotated[HeadKeywords, Only(("head", "optimizer", "batch_size", "epochs", "seed", "select"))],
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Search the settings of finetune; of arch cnn, from scratch, its shape.")
    ] = False,
    training: Annotated[FinetuneKeywords, Only(("start", "unfreeze"))],
    workers: Annotated[
        int | None, typer.Option("--workers", help="With --finetune: processes that read and decode; by default cores.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None,
        typer.Option("--checkpoint-minutes", help="With --finetune: minutes between checkpoints within an epoch."),
    ] = None,
    device: Device = "auto",
    check_seconds: CheckSeconds = None,
    no_check: NoCheck = False,
    ray: Ray = None,
    ray_gpus: RayGpus = None,
    ray_cpus: RayCpus = None,
    ray_workers: RayWorkers = None,
    as_json: Json = False,
) -> None:
    """Search a head's settings (Bayesian, pruned on val); the same command again continues the search.

    An optimizer that is given is held fixed; the seed is that of the search, too. With --finetune, it is the network
    that is trained, as by finetune.
    """
    if finetune:
        refuse_unused(_OF_HEADS, "with --finetune")
        given: dict[str, Any] = {**options, **settings, **training}
        left_out = {"head", "features"}
        _search_network(
            _NETWORK_TRIALS if trials is None else trials, options, as_json=as_json, device=device, workers=workers,
            checkpoint_minutes=checkpoint_minutes,
            **{name: value for name, value in given.items() if name not in left_out},
        )  # fmt: skip
        return
    from featcache.cluster import chosen_cluster

    refuse_unused(_OF_FINETUNE, "without --finetune")
    if no_check:
        refuse_unused(["check_seconds"], "with --no-check")
    _search_head(
        _TRIALS if trials is None else trials, options, as_json=as_json, device=device,
        check_seconds=chosen_check_seconds(check_seconds, no_check),
        cluster=chosen_cluster(ray, gpus=ray_gpus, cpus=ray_cpus, workers=ray_workers), **settings,
    )  # fmt: skip


def _search_head(trials: int, options: StoreOptions, *, as_json: bool, **settings: Any) -> None:
    """Search a head's settings, and print the best."""
    from featcache.heads import search
    from featcache.report import ProgressBar, search_parts

    with ProgressBar(open_console(stderr=True)) as bar:
        result = search(
            trials, progress=lambda stage, done, total: bar.show(stage, done, total, "trials"), **settings, **options
        )
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


def _search_network(trials: int, options: StoreOptions, *, as_json: bool, **settings: Any) -> None:
    """Search the settings of a network's own training, and print the best."""
    from featcache.finetuning import search_finetune
    from featcache.report import ProgressBar, finetune_search_parts

    with ProgressBar(open_console(stderr=True)) as bar:
        result = search_finetune(trials, progress=lambda now: show_training(bar, now), **settings)
    head, fit = result.tuned.fit.heads[0], result.tuned.fit
    if as_json:
        echo_json(result.to_json())
    else:
        echo_parts(finetune_search_parts(result))
        echo(f"trunk: {relative_path(result.tuned.weights)}")
        echo(f"head {fit.handles.describe(head.name)}: saved in {relative_path(head.folder)}")
    for note in fit.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next_after_finetune(options, result.tuned)
