"""The page of an average over folds of heads on several labels or numbers: figures, fold by fold, label by label."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from markupsafe import Markup, escape

import featcache
from featcache.evaluation import HeadOnTargets, TargetFolds
from featcache.files import contract_home
from featcache.listing import title_data_set
from featcache.recipe import LABELS
from featcache.report import (
    average_cells,
    average_output_cells,
    average_output_headings,
    check_destination,
    fold_cells,
    fold_headings,
    save_bytes,
    sentence_on_resampling,
)
from featcache.report.page.page import hash_source, make_environment, read_part


def save_target_folds_html(folds: TargetFolds, heads: Mapping[int, HeadOnTargets], path: Path) -> None:
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
    first, style = folds.folds[0], read_part("style.css")
    is_labels = first.kind == LABELS
    numbered = enumerate(zip(folds.numbers, folds.folds, strict=True))
    html = (
        make_environment()
        .get_template("target_folds.html")
        .render(
            folds=folds,
            first=first,
            noun="label" if is_labels else "number",
            data_title=title_data_set(first.data_set, first.variant, all_folds=True),
            averages=average_cells(folds),
            intervals=sentence_on_resampling(folds.intervals).removeprefix("intervals: "),
            headings=fold_headings(folds),
            rows=[
                {"number": number, "fold": fold, "cells": fold_cells(folds, place)}
                for place, (number, fold) in numbered
            ],
            output_headings=average_output_headings(folds),
            outputs=[
                {"name": name, "cells": average_output_cells(folds, output)} for output, name in enumerate(first.names)
            ],
            unit="Figures in %." if is_labels else "MAE and RMSE are in the number's unit.",
            provenance=list(_provenance(heads)),
            policy=f"default-src 'none'; style-src {hash_source(style)}; img-src data:; base-uri 'none'; "
            f"form-action 'none'",
            style=Markup(style),  # noqa: S704 (ours)
        )
    )
    save_bytes(path, contract_home(html, escape=escape).encode())


def _provenance(heads: Mapping[int, HeadOnTargets]) -> Iterator[tuple[str, str]]:
    """Yield what must be the same for the same figures."""
    yield "images", next(iter(heads.values())).features.source["root"]
    for number, examined in heads.items():
        yield f"store of fold {number}", examined.store.name
        yield f"listing of {examined.features.split}, fold {number}", examined.features.source["listing"]
    yield "reported with", f"featcache {featcache.__version__}"
