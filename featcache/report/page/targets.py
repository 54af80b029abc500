"""The page of a head on several labels a row, or on numbers: figures, each label or number, and the worst rows."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

import featcache
from featcache.evaluation import HeadOnTargets, TargetEvaluation, TargetPredictions
from featcache.files import contract_home
from featcache.listing import describe_targets, is_frame_path, title_data_set
from featcache.recipe import LABELS, VALUE
from featcache.report import (
    baseline_lines,
    check_destination,
    headings,
    intervals_sentence,
    label_temperature_sentence,
    metric_interval_text,
    output_cells,
    save_bytes,
    set_cells,
    set_headings,
    target_sets_sentences,
)
from featcache.report.page.charts import draw_panels
from featcache.report.page.commands import list_commands
from featcache.report.page.curves import configs_of_run, curves_of_run
from featcache.report.page.gallery import Thumbnails, load_thumbnails
from featcache.report.page.page import hash_source, make_environment, read_part
from featcache.report.page.provenance import describe_head, describe_trunk
from featcache.text import METRIC_WORDS, counted, metric_text

WORST = 50  # rows on the page
_PANELS = {  # of the learning curves: a column of the history, whether it is a share, and a title
    LABELS: (
        ("train_loss", False, "Loss on train"),
        ("val_loss", False, "Loss on val"),
        ("val_mean_average_precision", True, "Mean average precision on val"),
        ("val_macro_f1", True, "Macro F1 on val"),
    ),
    VALUE: (
        ("train_loss", False, "Loss on train"),
        ("val_loss", False, "Loss on val"),
        ("val_r2", False, "R2 on val, from 0 up"),
        ("val_mae", False, "MAE on val"),
    ),
}


def save_targets_html(
    examined: HeadOnTargets, evaluation: TargetEvaluation, path: Path, *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Thumbnails:  # fmt: skip
    """Write the page as one HTML file, which needs no network and no server.

    Args:
        examined: the head and the split.
        evaluation: what follows from the head's predictions.
        path: the file; an existing one is replaced.
        progress: gets how many thumbnails are made, and of how many.

    Returns:
        The thumbnails of the worst rows.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    style, is_labels = read_part("style.css"), evaluation.kind == LABELS
    worst, configs = worst_rows(evaluation.predictions), configs_of_run(examined)
    paths = list(dict.fromkeys(evaluation.predictions.paths[row] for row in worst))
    thumbnails = load_thumbnails(
        paths, examined.features.source["root"], videos=any(map(is_frame_path, paths)), progress=progress
    )
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
            worst=list(_worst(evaluation, worst, thumbnails)),
            thumbnails_note=thumbnails.note,
            temperature=label_temperature_sentence(evaluation),
            sets=evaluation.sets,
            sets_sentences=[] if evaluation.sets is None else target_sets_sentences(evaluation.sets),
            set_headings=[] if evaluation.sets is None else set_headings(evaluation.sets),
            set_rows=_set_rows(evaluation),
            worst_words=_worst_words(evaluation, len(worst)),
            panels=draw_panels(list(curves_of_run(examined, configs)), _PANELS[evaluation.kind]),
            commands=list(list_commands(examined, _report_flags(examined, evaluation), list(configs.values()))),
            provenance=list(_provenance(examined)),
            policy=f"default-src 'none'; style-src {hash_source(style)}; img-src data:; base-uri 'none'; "
            f"form-action 'none'",
            style=Markup(style),  # noqa: S704 (ours)
        )
    )
    save_bytes(path, contract_home(html, escape=escape).encode())
    return thumbnails


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


def worst_rows(part: TargetPredictions) -> list[int]:
    """Return the rows that are furthest from the truth, the worst first; none that is right.

    Of labels those with the most wrong ones, of equals those whose probabilities are further from the truth; of numbers
    those with the largest error in deviations of each number, on average over the numbers.

    Args:
        part: the predictions.
    """
    error = np.abs(part.answers - part.truth)
    if part.kind == LABELS:
        wrong = _wrong(part)
        worst = np.lexsort((-error.mean(axis=1), -wrong))[: int((wrong > 0).sum())]
        return [int(row) for row in worst[:WORST]]
    if len(error):
        deviation = part.truth.std(axis=0)
        error = error / np.where(deviation > 0, deviation, 1)
    return [int(row) for row in np.argsort(-error.mean(axis=1), kind="stable")[:WORST]]


def _wrong(part: TargetPredictions) -> npt.NDArray[np.int64]:
    """Return how many labels of each row are wrong, (rows,)."""
    wrong: npt.NDArray[np.int64] = (part.predicted != part.truth).sum(axis=1)
    return wrong


def _worst(evaluation: TargetEvaluation, rows: list[int], thumbnails: Thumbnails) -> Iterator[dict[str, Any]]:
    """Yield what is shown of the worst rows: picture, truth, prediction, and how far they are apart."""
    part, predicted = evaluation.predictions, evaluation.predictions.predicted
    for row in rows:
        picture = thumbnails.by_path.get(part.paths[row])
        yield {
            "path": part.clips[row] if part.by == "clip" else part.paths[row],
            "picture": "" if picture is None else base64.b64encode(picture).decode(),
            "truth": describe_targets(part.kind, part.names, part.truth[row].tolist()),
            "prediction": describe_targets(part.kind, part.names, predicted[row].tolist()),
            "error": _error(part, row),
        }


def _error(part: TargetPredictions, row: int) -> str:
    """Return how many labels of a row are wrong, or how far each number is off: "2 of 7", "-0.21"."""
    if part.kind == LABELS:
        return f"{int((part.predicted[row] != part.truth[row]).sum())} of {len(part.names)}"
    return ", ".join(f"{error:+.4g}" for error in (part.answers[row] - part.truth[row]).tolist())


def _worst_words(evaluation: TargetEvaluation, shown: int) -> str:
    """Return which rows these are: of labels, how many have any wrong."""
    by = evaluation.predictions.by
    if evaluation.kind != LABELS:
        return f"The {counted(shown, by)} with the largest errors, in deviations of each number."
    wrong = int((_wrong(evaluation.predictions) > 0).sum())
    if not wrong:
        return f"Every label of every {by} is right."
    some = f"{wrong:,} of {counted(evaluation.rows, by)} {'has' if wrong == 1 else 'have'} a wrong label"
    most = f" The {shown} with the most are shown." if shown < wrong else ""
    return f"{some}.{most} Of equals those whose probabilities are furthest from the truth come first."


def _report_flags(examined: HeadOnTargets, evaluation: TargetEvaluation) -> list[tuple[str, object]]:
    """Return the flags of the report, beside those of the data set and the head."""
    flags: list[tuple[str, object]] = [("--split", evaluation.split)]
    flags += [("--by", "clip")] if evaluation.predictions.by == "clip" else []
    flags += [("--allow-shared-subjects", "")] if examined.shared_subjects_allowed else []
    flags += [("--test-views", "")] if examined.test_views else []
    flags += [] if examined.augment is None else [("--augment", examined.augment)]
    return flags + ([] if evaluation.sets is None else [("--conformal", f"{evaluation.sets.level:g}")])


def _set_rows(evaluation: TargetEvaluation) -> list[dict[str, Any]]:
    """Return what is shown of the conformal interval or set of each number or label."""
    if evaluation.sets is None:
        return []
    return [{"name": name, "cells": set_cells(evaluation.sets, at)} for at, name in enumerate(evaluation.names)]


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
