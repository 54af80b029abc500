"""The page of a head on several labels a row, or on numbers: figures, each label or number, and the worst rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

import featcache
from featcache.evaluation import HeadOnTargets, TargetEvaluation
from featcache.files import contract_home
from featcache.listing import describe_targets, title_data_set
from featcache.recipe import LABELS
from featcache.report import (
    baseline_lines,
    check_destination,
    headings,
    intervals_sentence,
    metric_interval_text,
    output_cells,
    save_bytes,
)
from featcache.report.page.page import hash_source, make_environment, read_part
from featcache.report.page.provenance import describe_head, describe_trunk
from featcache.text import METRIC_WORDS, metric_text

WORST = 50  # rows on the page


def save_targets_html(examined: HeadOnTargets, evaluation: TargetEvaluation, path: Path) -> None:
    """Write the page as one HTML file, which needs no network and no server.

    Args:
        examined: the head and the split.
        evaluation: what follows from the head's predictions.
        path: the file; an existing one is replaced.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    style, is_labels = read_part("style.css"), evaluation.kind == LABELS
    html = (
        make_environment()
        .get_template("targets.html")
        .render(
            evaluation=evaluation,
            noun="label" if is_labels else "number",
            data_title=title_data_set(evaluation.data_set, evaluation.variant),
            figures=list(_figures(evaluation)),
            baselines=baseline_lines(evaluation),
            intervals=intervals_sentence(evaluation).removeprefix("intervals: "),
            headings=headings(evaluation),
            unit="Figures in %, but for the threshold." if is_labels else "MAE and RMSE are in the number's unit.",
            outputs=[
                {"name": name, "cells": output_cells(evaluation, output)}
                for output, name in enumerate(evaluation.names)
            ],
            worst=list(_worst(evaluation)),
            worst_words=_worst_words(evaluation),
            provenance=list(_provenance(examined)),
            policy=f"default-src 'none'; style-src {hash_source(style)}; img-src data:; base-uri 'none'; "
            f"form-action 'none'",
            style=Markup(style),  # noqa: S704 (ours)
        )
    )
    save_bytes(path, contract_home(html, escape=escape).encode())


def _figures(evaluation: TargetEvaluation) -> Iterator[dict[str, str]]:
    """Yield each metric over all labels or numbers, in words."""
    for name, interval in zip(evaluation.metric_names, evaluation.overall_intervals, strict=True):
        value = evaluation.metrics[name]
        word = METRIC_WORDS[name]
        yield {
            "name": word[0].upper() + word[1:],
            "value": metric_text(name, value),
            "interval": metric_interval_text(name, value, interval),
        }


def _worst(evaluation: TargetEvaluation) -> Iterator[dict[str, Any]]:
    """Yield the rows whose answers are furthest from the truth, the worst first."""
    part = evaluation.predictions
    error = np.abs(part.answers - part.truth)
    if part.kind != LABELS and len(error):
        error = error / np.where(part.truth.std(axis=0) > 0, part.truth.std(axis=0), 1)
    predicted = part.predicted
    for row in np.argsort(-error.mean(axis=1), kind="stable")[:WORST].tolist():
        yield {
            "path": part.paths[row],
            "truth": describe_targets(part.kind, part.names, part.truth[row].tolist()),
            "prediction": describe_targets(part.kind, part.names, predicted[row].tolist()),
        }


def _worst_words(evaluation: TargetEvaluation) -> str:
    shown = min(WORST, evaluation.rows)
    if evaluation.kind == LABELS:
        return f"The {shown} rows whose probabilities are furthest from their labels, on average over the labels."
    return f"The {shown} rows whose numbers are furthest from the truth, in deviations of each number."


def _provenance(examined: HeadOnTargets) -> Iterator[tuple[str, str]]:
    """Yield what must be the same for the same figures."""
    source = examined.features.source
    yield "images", source["root"]
    yield "trunk", describe_trunk(examined.store)
    yield "head", f"{examined.head.name}: {describe_head(examined.head)}"
    yield "store", examined.store.name
    for split, of_split in examined.head.sources.items():
        yield f"listing of {split}", of_split["listing"]
    yield f"listing of {examined.features.split}", source["listing"]
    yield "reported with", f"featcache {featcache.__version__}"
