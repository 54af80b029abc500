"""`featcache finetune`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli.app import command
from featcache.cli.next_command import say_next_after_finetune
from featcache.cli.options import HEAD, HeadName, Json, Only, Store, WithFolder, help_of
from featcache.cli.output import echo, echo_json, echo_parts, echo_stderr, open_console, relative_path
from featcache.recipe import DataOptions, FinetuneKeywords, TrunkKeywords

if TYPE_CHECKING:
    from featcache.finetuning import FinetuneProgress
    from featcache.report import ProgressBar


@command()
def finetune(
    *,
    options: Annotated[DataOptions, WithFolder()],
    store: Store = None,
    settings: FinetuneKeywords,
    select: Annotated[str | None, typer.Option("--select", help=help_of(HEAD["select"]))] = None,
    trunk: Annotated[
        TrunkKeywords,
        Only(("arch", "weights", "layer", "image_size", "interpolate_positions", "transform", "precision", "decode")),
    ],
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            help="What is done to training images, each with a strength or without: flip, vertical_flip, crop, color, "
            "rotation, randaugment, erase, mixup, cutmix, as in flip,crop=0.3; none is nothing.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="auto, all, cpu, cuda, cuda:N, cuda:N,cuda:M, cpu,cpu or mps; several train together.",
        ),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that read and decode; by default as many as cores.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None,
        typer.Option(
            "--checkpoint-minutes", help="Minutes between checkpoints within an epoch; by default one an epoch."
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Begin again, where an unfinished training would be continued, or a finished one shown."
        ),
    ] = False,
    logger: Annotated[
        str | None,
        typer.Option("--logger", help="Gets the scores of every epoch, too: csv, tensorboard, wandb or mlflow."),
    ] = None,
    log_folder: Annotated[
        str | None, typer.Option("--log-folder", help="Where the logger's files go; by default ./logs.")
    ] = None,
    head_name: HeadName = None,
    as_json: Json = False,
) -> None:
    """Train the network itself on the same splits: from scratch, from its weights, or from a trained head.

    The result is a head like any other, in a store of its own; stopped, the same command goes on where it was; done, it
    shows the result again.
    """
    from featcache.finetuning import finetune
    from featcache.report import ProgressBar, finetune_parts

    network: dict[str, Any] = {**trunk}
    with ProgressBar(open_console(stderr=True)) as bar:
        result = finetune(
            device=device, workers=workers, checkpoint_minutes=checkpoint_minutes, restart=restart, select=select,
            head_name=head_name, augment=augment, store=store, logger=logger, log_folder=log_folder,
            progress=lambda now: show_training(bar, now), **settings, **network, **options,
        )  # fmt: skip
    head = result.fit.heads[0]
    if as_json:
        echo_json(result.to_json())
    else:
        echo_parts(finetune_parts(result))
        echo(f"trunk: {relative_path(result.weights)}")
        if logger is not None and not result.was_finished:
            echo(f"log: by {logger}, below {log_folder or 'logs'}")
        echo(f"head {result.fit.handles.describe(head.name)}: saved in {relative_path(head.folder)}")
    if logger is not None and result.was_finished:
        echo_stderr("note: nothing was trained, so nothing was logged; --restart trains it again")
    for note in result.fit.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next_after_finetune(options, result)


def show_training(bar: "ProgressBar", now: "FinetuneProgress") -> None:
    """Show where the work is, with its pace and the time that is left; of a search, which trial it is.

    Args:
        bar: Where it is shown.
        now: Where the work stands.
    """
    from featcache.report import time_left

    done = now.done - now.begun_with
    pace = f"{done / now.seconds:,.1f} images/s  {time_left(done, now.total - now.begun_with, now.seconds)}"
    is_epoch = "epoch " in now.stage
    stage, detail = ("training", f"{now.stage}  {pace}") if is_epoch else (now.stage, pace)
    bar.show(stage, now.done, now.total, detail if done and now.seconds > 1 else "")
