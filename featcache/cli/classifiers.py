"""`featcache fit` and `featcache compare`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from featcache.cli.app import command
from featcache.cli.next_command import say_next_after_compare, say_next_after_fit
from featcache.cli.options import Device, HeadName, Json, WithFolder
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.cli.typed_folder import is_data_folder
from featcache.errors import UsageError
from featcache.recipe import KeptHeadOptions, StoreOptions


@command()
def fit(
    classifier: Annotated[
        str,
        typer.Argument(
            help="knn, ridge, logreg, linear-svm, lda, centroid, mlp, or an import path: sklearn.svm:SVC.",
        ),
    ],
    options: StoreOptions,
    settings: Annotated[
        list[str] | None, typer.Argument(help="KEY=VALUE; of several values the best is chosen: C=0.1,1,10.")
    ] = None,
    predict: Annotated[
        list[str] | None, typer.Option("--predict", help="Also save the predictions for this split.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="Try what a published evaluation tries: dinov2 is 45 values of C for logreg; for knn, k 10, 20, 100 "
            "and 200 with temperature 0.07.  [dinov2]",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Fits that run at a time; by default one per core.  [from 1 up]")
    ] = None,
    device: Device = "auto",
    head_name: HeadName = None,
    as_json: Json = False,
) -> None:
    """Fit any other classifier to the cached embeddings; its settings are chosen by macro recall on val.

    Several labels a row are learnt by knn and logreg, numbers by knn and ridge.
    """
    from featcache.heads import fit
    from featcache.heads.classifiers import parse_settings
    from featcache.report import ProgressBar, classifier_fit_parts

    _refuse_folders(classifier, settings or ())
    choices = {key: list(values) for key, values in parse_settings(settings or ()).items()}
    with ProgressBar(open_console(stderr=True)) as bar:
        fitted = fit(
            classifier, choices, predict=predict or (), foreign=True, jobs=jobs, device=device, progress=bar.show,
            head_name=head_name, protocol=protocol, **options,
        )  # fmt: skip
    if as_json:
        echo_json(fitted.to_json())
    else:
        for part in classifier_fit_parts(fitted):
            open_console().print(part, crop=False)
        echo(f"head {fitted.handles.describe(fitted.best.name)}: saved in {relative_path(fitted.best.folder)}")
    for note in fitted.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next_after_fit(options, fitted)


def _refuse_folders(classifier: str, settings: Sequence[str]) -> None:
    """Refuse the folder of a data set where a classifier or one of its settings stands."""
    if is_data_folder(classifier):
        error = UsageError(f"{classifier!r} is a folder, expected a classifier; --data names the data set")
        raise error.correct(classifier, f"logreg --data {shlex.quote(classifier)}")
    for word in settings:
        if "=" not in word and is_data_folder(word):
            error = UsageError(f"{word!r} is a folder, expected KEY=VALUE; --data names the data set")
            raise error.correct(word, f"--data {shlex.quote(word)}")


@command()
def compare(
    options: Annotated[KeptHeadOptions, WithFolder()],
    split: Annotated[
        str | None,
        typer.Option("--split", help="Evaluate every head on this split; by default, show the saved scores on val."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option("--sort", help="What to sort by.  [macro_recall, accuracy, loss, gap, seconds, name or newest]"),
    ] = "macro_recall",
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the table to this file (.csv).")] = None,
    as_json: Json = False,
) -> None:
    """List every head and classifier of the data set in one table, with its scores."""
    from featcache.evaluation import compare
    from featcache.report import check_destination, comparison_parts, save_comparison_csv

    if csv is not None:
        check_destination(csv, ".csv")
    comparison = compare(split=split, sort=sort, **options)
    if csv is not None:
        save_comparison_csv(comparison, csv)
    if as_json:
        echo_json(comparison.to_json())
        return
    for part in comparison_parts(comparison, open_console().width):
        open_console().print(part, crop=False)
    if csv is not None:
        echo(f"wrote {relative_path(csv)}")
    say_next_after_compare(options, comparison, split)
