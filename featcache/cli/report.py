"""`featcache report`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import command
from featcache.cli.options import Json
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.errors import UsageError
from featcache.recipe import StoreOptions

if TYPE_CHECKING:
    from featcache.evaluation import HeadOnSplit


@command()
def report(
    *,
    head: Annotated[
        str | None,
        typer.Argument(help="A head: its number (3), its name or the start of it; latest; or best, the default."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="The split; by default test if there is one, else val.")
    ] = None,
    options: StoreOptions,
    by: Annotated[str, typer.Option("--by", help="What counts as one prediction.  [image or clip]")] = "image",
    clip_rule: Annotated[
        str | None,
        typer.Option(
            "--clip-rule",
            help="How a clip is predicted from its images.  [mean-probability, mean-logit or majority; default: "
            "mean-probability]",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Another head to compare with: what differs, and how certain that is."),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option("--folds", help="Folds, such as 0,1,2: each with its own head, and the average (Drive&Act)."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page (.html): matrix, images, curves, and how the head was made."),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Write the matrix and the recall of each class as a picture (.png).")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write the classes and the matrix as a table (.csv).")
    ] = None,
    allow_shared_subjects: Annotated[
        bool, typer.Option("--allow-shared-subjects", help="Evaluate on people who are in train too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Report the recall of each class and the confusion matrix of a head, with intervals; by image and by clip."""
    from featcache.dataset import DatasetRequest
    from featcache.evaluation import evaluate_folds, pair_predictions, predict_on_split
    from featcache.report import check_destination, print_evaluation, print_folds, print_pair, save_evaluation_csv

    files = [path for path in (html, png, csv) if path is not None]
    for path, suffix in ((html, ".html"), (png, ".png"), (csv, ".csv")):
        if path is not None:
            check_destination(path, suffix)
    if folds is not None and (files or against is not None):
        raise UsageError(
            "--folds: an average has no page, picture or table, and --against compares single heads; leave --folds out"
        )
    choices = {"split": split, "by": by, "clip_rule": clip_rule, "allow_shared_subjects": allow_shared_subjects}
    if folds is not None:
        averaged = evaluate_folds(_numbers(folds), head, **choices, **options)  # type: ignore[arg-type]
        if as_json:
            echo_json(averaged.to_json())
        else:
            print_folds(averaged, open_console())
        return
    request = DatasetRequest(**options)
    examined = predict_on_split(request, head, **choices)  # type: ignore[arg-type]
    evaluation = examined.evaluation(by)
    if html is not None:
        _write_page(examined, by, html)
    if png is not None:
        from featcache.report.pictures import save_evaluation_png

        save_evaluation_png(evaluation, png)
    if csv is not None:
        save_evaluation_csv(evaluation, csv)
    compared = None
    if against is not None:
        compared = pair_predictions(examined, predict_on_split(request, against, **choices), by)  # type: ignore[arg-type]
    if as_json:
        echo_json(evaluation.to_json() if compared is None else compared.to_json())
        return
    if compared is None:
        print_evaluation(evaluation, open_console(), written=bool(files))
    else:
        print_pair(compared, open_console())
    for path in files:
        echo(f"wrote {relative_path(path)}")


def _write_page(examined: "HeadOnSplit", by: str, path: Path) -> None:
    from featcache.report import ProgressBar, time_left
    from featcache.report.page import build_page, save_html

    page, begun = build_page(examined, by), time.monotonic()
    what = "fetching frames" if page.videos else "thumbnails"

    def show(done: int, of: int) -> None:
        bar.show(what, done, of, time_left(done, of, time.monotonic() - begun))

    with ProgressBar(open_console(stderr=True)) as bar:
        shown = save_html(page, path, progress=show)
    if page.videos:
        echo_stderr(f"note: thumbnails of {shown.wanted:,} frames took {time.monotonic() - begun:.0f} s")
    if shown.note:
        echo_stderr(f"note: {shown.note}")


def _numbers(folds: str) -> list[int]:
    try:
        return [int(number) for number in folds.split(",")]
    except ValueError:
        raise UsageError(f"--folds: found {folds!r}, expected numbers separated by commas: 0,1,2") from None
