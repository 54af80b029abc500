"""`featcache fit` and `featcache compare`."""

from pathlib import Path
from typing import Annotated

import typer

from featcache.cli.app import Device, Json, command, complain, console, print_json, say, short
from featcache.recipe import Stored


@command()
def fit(
    classifier: Annotated[
        str,
        typer.Argument(
            help="knn, ridge, logreg, linear-svm, lda, centroid, mlp, or an import path: sklearn.svm:SVC.",
        ),
    ],
    where: Stored,
    settings: Annotated[
        list[str] | None, typer.Argument(help="KEY=VALUE; several values are chosen among: C=0.1,1,10.")
    ] = None,
    predict: Annotated[
        list[str] | None, typer.Option("--predict", help="Keep the predictions for this split too.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Fits at a time; one a core without.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Any other classifier on the cached embeddings; its settings are chosen by macro recall on val."""
    from featcache.heads import fit
    from featcache.heads.classifiers import parse
    from featcache.report import Bar, fitted_parts

    choices = {key: list(values) for key, values in parse(settings or ()).items()}
    with Bar(console(stderr=True)) as bar:
        fitted = fit(
            classifier, choices, predict=predict or (), foreign=True, jobs=jobs, device=device, progress=bar.show,
            **where,
        )  # fmt: skip
    if as_json:
        print_json(fitted.to_json())
    else:
        for part in fitted_parts(fitted):
            console().print(part)
        say(f"saved in {short(fitted.best.folder)}")
    for note in fitted.notes:
        complain(f"note: {note}")


@command()
def compare(
    where: Stored,
    split: Annotated[
        str | None, typer.Option("--split", help="Ask every head about this split; without it, their scores on val.")
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="macro_recall, accuracy, loss, gap, seconds, name or newest.")
    ] = "macro_recall",
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the table.")] = None,
    as_json: Json = False,
) -> None:
    """Every head and classifier of the data set in one table."""
    from featcache.evaluation import compare
    from featcache.report import check_destination, comparison_table, save_comparison_csv

    if csv is not None:
        check_destination(csv, ".csv")
    found = compare(split=split, sort=sort, **where)
    if csv is not None:
        save_comparison_csv(found, csv)
    if as_json:
        print_json(found.to_json())
        return
    for part in comparison_table(found, console().width):
        console().print(part)
    if csv is not None:
        say(f"wrote {short(csv)}")
