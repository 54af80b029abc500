"""The page as a value, and its HTML: one file with a strict policy of its own, the same bytes for the same input."""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from featcache.evaluation import Answers, Evaluation, recall_intervals
from featcache.metrics import too_few_means
from featcache.report import check_destination, printable, save_bytes, shorten, span
from featcache.report.page import charts
from featcache.report.page.charts import Curve
from featcache.report.page.gallery import A_CELL, Gallery, build_gallery, limits
from featcache.report.page.palette import level, shades

LONGEST = 44  # cells of a class name in a table; the whole name is in its title
LONGEST_TITLE = 320  # of a name in full: hostile ones are longer
UNDEFINED = "–"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Page:
    """All that the page shows."""

    evaluation: Evaluation
    answers: Answers  # of the evaluation's unit
    root: str  # the folder that the paths of the images are relative to
    videos: bool = False  # the paths are those of frames of videos
    curves: tuple[Curve, ...] = ()  # of every head of the sweep
    check: Mapping[str, Any] | None = None  # the certificate, as the log of runs has it
    check_note: str = ""  # where there is none: why
    train: tuple[int, ...] = ()  # rows of each class in train
    commands: tuple[str, ...] = ()  # that make this report again
    made: tuple[tuple[str, str], ...] = ()  # what else one must know for that: name, value
    recipe: str = ""  # as JSON


def save_html(
    page: Page,
    path: Path,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Gallery:
    """Write the page; what became of its thumbnails is returned.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    shown = build_gallery(page.answers, page.root, videos=page.videos, progress=progress)
    save_bytes(path, render(page, shown).encode())
    return shown


def render(page: Page, shown: Gallery) -> str:
    """The HTML."""
    here = files("featcache.report.page")
    style = (here / "style.css").read_text("utf-8") + shades()
    script = (here / "script.js").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _percent, "span": span, "name": _name, "whole": _whole, "plain": printable}
    environment.filters["too_few_means"] = too_few_means
    template = environment.from_string((here / "page.html").read_text("utf-8"))
    evaluation = page.evaluation
    return template.render(
        page=page,
        evaluation=evaluation,
        units=[evaluation] + ([evaluation.beside] if evaluation.beside else []),
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        f"base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 (ours)
        script=Markup(script),  # noqa: S704 (ours)
        data=_data(page, shown),
        rows=_matrix(evaluation),
        classes=_classes(page),
        panels=_panels(page.curves),
        reliability=charts.reliability(evaluation.calibration) if evaluation.calibration else None,
        limits=limits(shown, list(shown.rows)),
        a_cell=A_CELL,
        gallery=shown,
    )


def _matrix(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Row by row what the cells say: count, share, shade, and a sentence that names both classes."""
    names = [_name(name) for name in evaluation.classes]
    rows = []
    for i, counts in enumerate(evaluation.confusion.tolist()):
        support = sum(counts)
        cells: list[dict[str, Any] | None] = []
        for j, count in enumerate(counts):
            if not count:
                cells.append(None)
                continue
            share = count / support
            verb = "right" if i == j else f"taken for {names[j]}"
            cells.append({
                "count": count,
                "share": f"{100 * share:.0f}" if share >= 0.005 else "<1",
                "shade": f"{'o' if i == j else 'x'}{level(share)}",
                "title": f"{names[i]}: {count:,} of {support:,} {verb} ({_percent(share)})",
            })  # fmt: skip
        rows.append({"name": evaluation.classes[i], "support": support, "cells": cells})
    return rows


def _classes(page: Page) -> list[dict[str, Any]]:
    """Class by class, lowest recall first, those without support last."""
    evaluation = page.evaluation
    order = np.argsort(evaluation.recall, kind="stable").tolist()
    most, trained = max(evaluation.support.max(), 1), max(page.train, default=0)
    return [
        {
            "index": i,
            "name": evaluation.classes[i],
            "support": int(evaluation.support[i]),
            "recall": float(evaluation.recall[i]),
            "interval": recall_intervals(evaluation)[i],
            "precision": float(evaluation.precision[i]),
            "f1": float(evaluation.f1[i]),
            "bar": charts.bar(float(evaluation.recall[i]), recall_intervals(evaluation)[i]),
            "share": charts.share_bar(float(evaluation.support[i] / most), "fill"),
            "train": page.train[i] if page.train else None,
            "train_share": charts.share_bar(page.train[i] / trained, "count") if trained else None,
        }
        for i in order
    ]


def _panels(curves: Sequence[Curve]) -> list[Markup]:
    asked = (
        ("train_loss", False, "Loss on train"),
        ("val_loss", False, "Loss on val"),
        ("train_macro_recall", True, "Macro recall on train"),
        ("val_macro_recall", True, "Macro recall on val"),
    )
    drawn = [charts.curves(curves, column, share=share, title=title) for column, share, title in asked]
    return [panel for panel in drawn if panel is not None]


def _data(page: Page, shown: Gallery) -> Markup:
    """What a click needs, as JSON that no name can end: every < stands as its escape."""
    answers = page.answers
    different = {small: place for place, small in enumerate(dict.fromkeys(shown.thumbnails.values()))}
    number = {row: different[small] for row, small in shown.thumbnails.items()}
    unknown = np.nan if answers.votes else 0.0  # votes are no probabilities
    sure = answers.confidence + unknown
    of_truth = answers.probabilities[np.arange(len(answers.truth)), answers.truth] + unknown
    document = {
        "names": [shorten(printable(name), LONGEST_TITLE) for name in page.evaluation.classes],
        "recall": [None if math.isnan(share) else round(share, 6) for share in page.evaluation.recall.tolist()],
        "support": page.evaluation.support.tolist(),
        "by": page.evaluation.by,
        "cells": {
            f"{truth},{predicted}": [
                [shorten(printable(answers.names[row]), LONGEST_TITLE), _rounded(sure[row]), _rounded(of_truth[row]),
                 number.get(row, -1)]
                for row in rows
            ]
            for (truth, predicted), rows in shown.rows.items()
        },
        "thumbnails": [base64.b64encode(small).decode() for small in different],
    }  # fmt: skip
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 (no sign that HTML knows is left in it)


def _rounded(share: float) -> float | None:
    return None if math.isnan(share) else round(float(share), 4)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _name(name: str, width: int = LONGEST) -> str:
    return shorten(printable(name), width)


def _whole(name: str) -> str:
    return shorten(printable(name), LONGEST_TITLE)


def _percent(share: float) -> str:
    return UNDEFINED if math.isnan(share) else f"{100 * share:.1f} %"
