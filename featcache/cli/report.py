"""`featcache report`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import Json, command, console, print_json, say, short
from featcache.errors import UsageError
from featcache.recipe import Stored

if TYPE_CHECKING:
    from featcache.evaluation import Examined


@command()
def report(
    *,
    head: Annotated[
        str | None,
        typer.Argument(help="A head's name, or how it starts; best (without it): the first of compare; or latest."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="test where there is one, else val.")] = None,
    where: Stored,
    by: Annotated[str, typer.Option("--by", help="image or clip: what one answer is about.")] = "image",
    clip_rule: Annotated[
        str | None,
        typer.Option("--clip-rule", help="mean-probability (without it), mean-logit or majority: of a clip's images."),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Another head: what differs, and how sure that is.")
    ] = None,
    folds: Annotated[
        str | None, typer.Option("--folds", help="0,1,2: each fold's own head, and the average (Drive&Act).")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page: matrix, images, curves, how made.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write matrix and recall bars as a picture.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write classes and matrix as a table.")] = None,
    allow_shared_subjects: Annotated[
        bool, typer.Option("--allow-shared-subjects", help="Evaluate on people who stand in train too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recall per class and the confusion matrix of a head, with intervals; by image and by clip."""
    from featcache.dataset import Asked
    from featcache.evaluation import evaluate_folds, evaluate_pair, examine, to_json
    from featcache.report import check_destination, render_evaluation, render_folds, render_paired, save_evaluation_csv

    files = [path for path in (html, png, csv) if path is not None]
    for path, suffix in ((html, ".html"), (png, ".png"), (csv, ".csv")):
        if path is not None:
            check_destination(path, suffix)
    if folds is not None and (files or against is not None):
        raise UsageError("--folds: an average has no page, picture or table of its own, and no --against; leave it out")
    options = {"split": split, "by": by, "clip_rule": clip_rule, "allow_shared_subjects": allow_shared_subjects}
    if folds is not None:
        averaged = evaluate_folds(_numbers(folds), head, **options, **where)  # type: ignore[arg-type]
        if as_json:
            print_json(averaged.to_json())
        else:
            render_folds(averaged, console())
        return
    asked = Asked(**where)
    found = examine(asked, head, **options)  # type: ignore[arg-type]
    evaluation = found.evaluation(by)
    if html is not None:
        _write_page(found, by, html)
    if png is not None:
        from featcache.report import save_png

        save_png(evaluation, png)
    if csv is not None:
        save_evaluation_csv(evaluation, csv)
    compared = None
    if against is not None:
        compared = evaluate_pair(found, examine(asked, against, **options), by)  # type: ignore[arg-type]
    if as_json:
        print_json(to_json(evaluation) if compared is None else compared.to_json())
        return
    if compared is None:
        render_evaluation(evaluation, console(), written=bool(files))
    else:
        render_paired(compared, console())
    for path in files:
        say(f"wrote {short(path)}")


def _write_page(found: "Examined", by: str, path: Path) -> None:
    from featcache.cli.app import complain
    from featcache.report import Bar, left
    from featcache.report.page import page_of, save_html

    page, begun = page_of(found, by), time.monotonic()
    what = "fetching frames" if page.videos else "thumbnails"

    def show(done: int, of: int) -> None:
        bar.show(what, done, of, left(done, of, time.monotonic() - begun))

    with Bar(console(stderr=True)) as bar:
        shown = save_html(page, path, progress=show)
    if page.videos:
        complain(f"note: thumbnails of {shown.wanted:,} frames took {time.monotonic() - begun:.0f} s")
    if shown.note:
        complain(f"note: {shown.note}")


def _numbers(folds: str) -> list[int]:
    try:
        return [int(number) for number in folds.split(",")]
    except ValueError:
        raise UsageError(f"--folds: found {folds!r}, expected numbers with commas between: 0,1,2") from None
