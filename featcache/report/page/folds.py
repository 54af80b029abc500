"""The page of an average over folds: figures, fold by fold, recall by class, the matrix of all folds together."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

import featcache
from featcache.evaluation import UNITS, Evaluation, FoldsEvaluation, HeadOnSplit
from featcache.files import contract_home
from featcache.listing import title_data_set
from featcache.recipe import absolute_pipeline
from featcache.report import check_destination, interval_text, save_bytes
from featcache.report.page import charts
from featcache.report.page.commands import command_line
from featcache.report.page.page import hash_source, make_environment, matrix_rows, read_style
from featcache.report.page.trunk_flags import Flag


def save_folds_html(folds: FoldsEvaluation, heads: Mapping[int, HeadOnSplit], path: Path) -> None:
    """Write the page of an average over folds as one HTML file, which needs no network and no server.

    Args:
        folds: what it shows.
        heads: by the fold's number, each fold's own head, for how the page was made.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    first = folds.folds[0]
    style = read_style(first.classes)
    page = make_environment().get_template("folds.html")
    html = page.render(
        folds=folds,
        first=first,
        data_title=title_data_set(first.data_set, first.variant, all_folds=True),
        rows=[_row(number, fold) for number, fold in zip(folds.numbers, folds.folds, strict=True)],
        classes=_classes(folds),
        matrix=matrix_rows(_together(folds), {}),
        commands=[_command(folds, heads)],
        provenance=list(_provenance(heads)),
        policy=f"default-src 'none'; style-src {hash_source(style)}; img-src data:; base-uri 'none'; "
        f"form-action 'none'",
        style=Markup(style),  # noqa: S704 (ours)
    )
    save_bytes(path, contract_home(html, escape=escape).encode())


def _row(number: int, fold: Evaluation) -> dict[str, Any]:
    """Return what is shown of one fold."""
    interval = fold.intervals.macro_recall if fold.intervals else None
    return {"number": number, "fold": fold, "interval": interval_text(fold.macro_recall, interval)}


def _classes(folds: FoldsEvaluation) -> list[dict[str, Any]]:
    """Return what is shown of each class, lowest average recall first, those without support last."""
    return [
        {
            "name": folds.folds[0].classes[label],
            "recall": float(folds.recall[label]),
            "interval": folds.intervals.recall[label],
            "bar": charts.recall_bar(float(folds.recall[label]), folds.intervals.recall[label]),
            "each": [float(fold.recall[label]) for fold in folds.folds],
        }
        for label in np.argsort(folds.recall, kind="stable").tolist()
    ]


def _together(folds: FoldsEvaluation) -> Evaluation:
    """Return the rows of all folds as one evaluation, for its matrix."""
    first = folds.folds[0]
    return Evaluation(
        head=first.head, data_set=first.data_set, split=first.split, by=first.by, classes=first.classes,
        confusion=folds.confusion,
    )  # fmt: skip


def _command(folds: FoldsEvaluation, heads: Mapping[int, HeadOnSplit]) -> str:
    """Return the command that makes the page again, once each fold has its head."""
    head_on_fold, first = next(iter(heads.values())), folds.folds[0]
    request = head_on_fold.request
    recipe, root = absolute_pipeline(request.pipeline, data=request.data), os.path.abspath(request.recipe.data.root)
    where: list[Flag] = [("--pipeline", recipe), ("--data", root), ("--name", request.name), ("--cache", request.cache)]
    where += [("--store", request.store), ("--arch", request.arch), ("--layer", request.layer)]
    where += [("--weights", request.weights), ("--precision", request.precision)]
    where += [flag for flag in request.data_flags() if flag[0] != "--fold"]
    options: list[Flag] = [("--folds", ",".join(map(str, folds.numbers))), ("--split", first.split)]
    options += [("--by", first.by)] if first.by != UNITS[0] else []
    options += [("--clip-rule", first.rule)] if first.rule else []
    options += [("--allow-shared-subjects", "")] if head_on_fold.shared_subjects_allowed else []
    return command_line("report", where, options, [("--html", "folds.html")])


def _provenance(heads: Mapping[int, HeadOnSplit]) -> Iterator[tuple[str, str]]:
    """Yield what must be the same for the same figures."""
    first = next(iter(heads.values())).features.source
    yield "images", first["root"]
    for number, head_on_fold in heads.items():
        yield f"store of fold {number}", head_on_fold.store.name
        yield f"listing of {head_on_fold.features.split}, fold {number}", head_on_fold.features.source["listing"]
    yield "reported with", f"featcache {featcache.__version__}"
