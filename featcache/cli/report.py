"""`featcache report`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import command, refuse_unused
from featcache.cli.folds import parse_folds
from featcache.cli.next_command import say_next, say_next_after_report
from featcache.cli.options import Json
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.cli.report_columns import UNUSED, report_columns
from featcache.cli.report_targets import report_targets
from featcache.cli.same_head import refuse_same_head
from featcache.cli.typed_data import remember_data_set
from featcache.cli.typed_folder import is_data_folder, refuse_misspelt_folder
from featcache.errors import UsageError
from featcache.recipe import KeptHeadOptions

if TYPE_CHECKING:
    from featcache.evaluation import Evaluation, HeadOnSplit, SplitOptions


@command()
def report(
    *,
    head: Annotated[
        str | None,
        typer.Argument(
            help="A head: its number (3), its name or the start of it; latest; or best, the default. The folder of a "
            "data set is taken for --data."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="The split; by default test if there is one, else val.")
    ] = None,
    options: KeptHeadOptions,
    by: Annotated[str, typer.Option("--by", help="What counts as one prediction.  [image or clip]")] = "image",
    clip_rule: Annotated[
        str | None,
        typer.Option(
            "--clip-rule",
            help="How a clip is predicted from its images.  [mean-probability, mean-logit or majority; default: "
            "mean-probability]",
        ),
    ] = None,
    test_views: Annotated[
        bool,
        typer.Option("--test-views", help="Average the probabilities over each image and its embedded views."),
    ] = False,
    augment: Annotated[
        str | None, typer.Option("--augment", help="With --test-views: which set of views, where there are several.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Another head to compare with (on plain images): what differs, and how certain that is.",
        ),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(
            "--conformal",
            help="Give each prediction a set of classes, calibrated on val, and report how many of the sets hold the "
            "true class and how large they are: 0.9 for 90 %.  [above 0 and below 1]",
        ),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option("--folds", help="Folds, such as 0,1,2: each with its own head, and the average."),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            help="Of Drive&Act: several levels or columns, each with its own head: midlevel,objectlevel:object.",
        ),
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
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            help="Write one row an image (.csv or .parquet): path, truth, prediction, clip, subject, probabilities.",
        ),
    ] = None,
    allow_shared_subjects: Annotated[
        bool, typer.Option("--allow-shared-subjects", help="Evaluate on people who are in train too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Report the recall of each class and the confusion matrix of a head, with intervals; by image and by clip."""
    from featcache.dataset import DatasetRequest
    from featcache.evaluation import pair_predictions, predict_on_split, without_views
    from featcache.report import print_evaluation, print_pair

    if head is not None and options["data"] is None and is_data_folder(head):
        head, options["data"] = None, head
        remember_data_set(options)
    refuse_misspelt_folder(head, options)
    if conformal is not None and against is not None:
        error = UsageError("--conformal: the sets are those of one head; leave it out, or leave out --against")
        raise error.correct("--conformal", None)
    if folds is not None and options["fold"] is not None:
        raise UsageError("--fold and --folds were both given; leave one out").correct("--fold", None)
    files = _ReportFiles(html, png, csv, predictions)
    files.check()
    choices: SplitOptions = {
        "split": split, "by": by, "clip_rule": clip_rule, "allow_shared_subjects": allow_shared_subjects,
        "conformal": conformal, "test_views": test_views, "augment": augment,
    }  # fmt: skip
    if targets is not None:
        refuse_unused(UNUSED, "with --targets: a page, a picture or sets are of one target, which --level names")
        report_columns(targets, head, choices, options, _typed(choices), csv, as_json=as_json)
        return
    if _has_targets(options):
        given = {**choices, "against": against, "folds": folds, "png": png}
        wanted = {"html": html, "csv": csv, "predictions": predictions}
        report_targets(DatasetRequest(**options), head, options, given, wanted, as_json=as_json)
        return
    if folds is not None:
        if png is not None or against is not None:
            error = UsageError(
                "--folds: an average has no picture, and --against compares single heads; leave --folds out, or have "
                "its page with --html"
            )
            raise error.correct("--png", None).correct("--against", None)
        _report_folds(parse_folds(folds), head, choices, options, files, as_json=as_json)
        return
    request = DatasetRequest(**options)
    examined = predict_on_split(request, head, **choices)
    evaluation = examined.evaluation(by)
    _write_files(examined, evaluation, files)
    compared = None
    if against is not None:
        other = predict_on_split(request, against, **without_views(choices))
        if other.head.folder == examined.head.folder and not test_views:
            refuse_same_head(examined.choice.handle, against)
        compared = pair_predictions(examined, other, by)
    if as_json:
        echo_json(evaluation.to_json() if compared is None else compared.to_json())
        return
    if compared is None:
        print_evaluation(evaluation, open_console(), written=any((html, png, csv)))
    else:
        print_pair(compared, open_console())
    _say_written(files, "" if compared is None else f", about {evaluation.handle or examined.head.name} alone")
    say_next_after_report(options, [*([] if head is None else [head]), *_typed(choices)], examined, html)


def _has_targets(options: KeptHeadOptions) -> bool:
    """Return whether rows have several labels or numbers, and not one class each."""
    from featcache.dataset import DatasetRequest
    from featcache.recipe import LABEL

    return DatasetRequest(**options).recipe.data.target_kind != LABEL


@dataclass(frozen=True, slots=True)
class _ReportFiles:
    """The files that a report is to write; None where one is not asked for."""

    html: Path | None
    png: Path | None
    csv: Path | None
    predictions: Path | None

    def check(self) -> None:
        """Refuse a file that cannot be written, before anything is read."""
        from featcache.report import check_destination, check_table

        for path, suffix in ((self.html, ".html"), (self.png, ".png"), (self.csv, ".csv")):
            if path is not None:
                check_destination(path, suffix)
        if self.predictions is not None:
            check_table(self.predictions, "--predictions")


def _write_files(examined: "HeadOnSplit", evaluation: "Evaluation", files: _ReportFiles) -> None:
    from featcache.report import save_evaluation_csv, save_split_predictions

    if files.html is not None:
        _write_page(examined, evaluation.by, files.html)
    if files.png is not None:
        from featcache.report.pictures import save_evaluation_png

        save_evaluation_png(evaluation, files.png)
    if files.csv is not None:
        save_evaluation_csv(evaluation, files.csv)
    if files.predictions is not None:
        save_split_predictions(examined.predictions(evaluation.by), files.predictions)


def _report_folds(
    folds: list[int], head: str | None, choices: "SplitOptions", options: KeptHeadOptions, files: _ReportFiles, *,
    as_json: bool,
) -> None:  # fmt: skip
    """Print the average over folds, and write its files."""
    from featcache.evaluation import average_folds, predict_on_folds
    from featcache.report import print_folds, save_folds_csv, save_split_predictions

    heads, by = predict_on_folds(folds, head, **choices, **options), choices["by"]
    averaged = average_folds(heads, by)
    if files.html is not None:
        from featcache.report.page import save_folds_html

        save_folds_html(averaged, heads, files.html)
    if files.csv is not None:
        save_folds_csv(averaged, files.csv)
    if files.predictions is not None:
        save_split_predictions({fold: part.predictions(by) for fold, part in heads.items()}, files.predictions)
    if as_json:
        echo_json(averaged.to_json())
        return
    print_folds(averaged, open_console())
    _say_written(files)
    if files.html is None:
        words = [*([] if head is None else [head]), "--folds", ",".join(map(str, folds)), *_typed(choices)]
        say_next("report", options, *words, "--html", "folds.html")


def _typed(choices: Mapping[str, object]) -> list[str]:
    """Return the words of the choices that are not what they are where nobody types them."""
    words: list[str] = []
    for name, value in choices.items():
        if value is True:
            words += [f"--{name.replace('_', '-')}"]
        elif value not in (None, False) and (name, value) != ("by", "image"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def _say_written(files: _ReportFiles, about: str = "") -> None:
    for path in (files.html, files.png, files.csv, files.predictions):
        if path is not None:
            echo(f"wrote {relative_path(path)}{about}")


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
