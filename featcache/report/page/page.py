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
from jinja2 import Environment, FunctionLoader
from markupsafe import Markup, escape

from featcache.evaluation import Evaluation, SplitPredictions
from featcache.files import contract_home
from featcache.listing import title_data_set
from featcache.metrics import LEVEL, Calibration, explain_too_few
from featcache.report import (
    check_destination,
    conformal_sentences,
    interval_text,
    risk_sentence,
    save_bytes,
    temperature_sentence,
)
from featcache.report.page import charts
from featcache.report.page.charts import Curve
from featcache.report.page.gallery import Gallery, build_gallery, describe_gallery
from featcache.report.page.image_list import Cell, list_document
from featcache.report.page.matrix_size import matrix_rules
from featcache.report.page.palette import shade_level, shade_rules
from featcache.report.page.reliability import SPARSE, draw_reliability, is_sparse
from featcache.report.page.risk import draw_risk
from featcache.text import UNDEFINED, counted, decimal, percent, percent_number, printable, shorten

_PANELS = (  # of the learning curves: a column of the history, whether it is a share, and a title
    ("train_loss", False, "Loss on train"),
    ("val_loss", False, "Loss on val"),
    ("train_macro_recall", True, "Macro recall on train"),
    ("val_macro_recall", True, "Macro recall on val"),
)
LONGEST = 44  # cells of a class name in a table; the whole name is in its title
LONGEST_TITLE = 320  # of a name in full: hostile ones are longer


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Page:
    """What the page of a head shows."""

    evaluation: Evaluation
    predictions: SplitPredictions  # of the evaluation's unit
    root: str  # the folder that the paths of the images are relative to
    videos: bool = False  # the paths are those of frames of videos
    curves: tuple[Curve, ...] = ()  # of every head of the sweep
    check: Mapping[str, Any] | None = None  # the certificate, as the log of runs has it
    check_note: str = ""  # where there is none: why
    train_support: tuple[int, ...] = ()  # rows of each class in train
    trained: str = ""  # the day, "30 November 2026"
    trunk: str = ""  # in words, without a hash
    head: str = ""  # in words, without a hash
    commands: tuple[str, ...] = ()  # that make this report again
    origin: tuple[tuple[str, str], ...] = ()  # what it was made from and on, in words: name, value
    provenance: tuple[tuple[str, str], ...] = ()  # what else one must know to make it again: hashes, versions
    recipe: str = ""  # as JSON

    @property
    def data_title(self) -> str:
        """The data set, and its variant where it has several."""
        return title_data_set(self.evaluation.data_set, self.evaluation.variant)


def save_html(
    page: Page,
    path: Path,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Gallery:
    """Write the page as one HTML file.

    Args:
        page: what it shows.
        path: the file; an existing one is replaced.
        progress: gets how many thumbnails are made, and of how many.

    Returns:
        What became of its thumbnails.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    gallery = build_gallery(page.predictions, page.root, videos=page.videos, progress=progress)
    save_bytes(path, render_html(page, gallery).encode())
    return gallery


def render_html(page: Page, gallery: Gallery) -> str:
    """Return the HTML of a page with its thumbnails; paths below the home folder begin with a tilde."""
    style, script = read_style(page.evaluation.classes), read_part("script.js")
    template = make_environment().get_template("page.html")
    evaluation = page.evaluation
    html = template.render(
        page=page,
        evaluation=evaluation,
        units=[evaluation] + ([evaluation.beside] if evaluation.beside else []),
        policy=f"default-src 'none'; style-src {hash_source(style)}; script-src {hash_source(script)}; img-src data:; "
        f"base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 (ours)
        script=Markup(script),  # noqa: S704 (ours)
        data=_data(page, gallery),
        rows=matrix_rows(evaluation, gallery.rows),
        classes=_classes(page),
        panels=charts.draw_panels(page.curves, _PANELS),
        reliability=draw_reliability(evaluation.calibration) if evaluation.calibration else None,
        bins=_bins(evaluation.calibration) if evaluation.calibration else [],
        temperature=temperature_sentence(evaluation),
        risk=draw_risk(evaluation.risk) if evaluation.risk and evaluation.rows else None,
        risk_sentence=risk_sentence(evaluation.risk) if evaluation.risk and evaluation.rows else "",
        conformal=conformal_sentences(evaluation.conformal) if evaluation.conformal and evaluation.rows else [],
        sparse=SPARSE,
        level=LEVEL,
        listed=describe_gallery(gallery, page.predictions),
        gallery=gallery,
        dash=UNDEFINED,
    )
    return contract_home(html, escape=escape)


def read_part(name: str) -> str:
    """Return the text of a file of this package: a template, the style sheet, the script.

    Args:
        name: the file's name.
    """
    return (files("featcache.report.page") / name).read_text("utf-8")


def read_style(classes: Sequence[str]) -> str:
    """Return the style sheet, with the size and the colours of the matrix.

    Args:
        classes: their names.
    """
    return read_part("style.css") + matrix_rules([_name(name) for name in classes]) + shade_rules()


def make_environment() -> Environment:
    """Return what loads and renders the templates: every value is escaped, names and figures have their filters."""
    environment = Environment(loader=FunctionLoader(read_part), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"name": _name, "breakable": _breakable, "whole": _whole, "plain": printable}
    environment.filters |= {"percent": percent, "percent_number": percent_number, "decimal": decimal}
    environment.filters |= {"interval": interval_text, "explain_too_few": explain_too_few, "counted": counted}
    return environment


def matrix_rows(evaluation: Evaluation, listed: Mapping[Cell, Sequence[int]]) -> list[dict[str, Any]]:
    """Return, row by row, what the cells say: count, share, shade, and a sentence that names both classes.

    Args:
        evaluation: whose matrix it is.
        listed: the rows that each cell lists; none where a cell shows no images.
    """
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
                "counted": counted(count, evaluation.by),
                "listed": f"{len(listed.get((i, j), ())):,}",
                "share": percent_number(share, 0) if share >= 0.005 else "<1",
                "shade": f"{'o' if i == j else 'x'}{shade_level(share)}",
                "title": f"{names[i]}: {count:,} of {support:,} {verb} ({percent(share)})",
            })  # fmt: skip
        rows.append({"name": evaluation.classes[i], "support": support, "cells": cells})
    return rows


def _classes(page: Page) -> list[dict[str, Any]]:
    """Return what is shown of each class, lowest recall first, those without support last."""
    evaluation = page.evaluation
    order = np.argsort(evaluation.recall, kind="stable").tolist()
    most, trained = max(evaluation.support.max(), 1), max(page.train_support, default=0)
    return [
        {
            "index": i,
            "name": evaluation.classes[i],
            "support": int(evaluation.support[i]),
            "recall": float(evaluation.recall[i]),
            "interval": evaluation.recall_intervals[i],
            "precision": float(evaluation.precision[i]),
            "f1": float(evaluation.f1[i]),
            "bar": charts.recall_bar(float(evaluation.recall[i]), evaluation.recall_intervals[i]),
            "share": charts.share_bar(float(evaluation.support[i] / most), "fill"),
            "train": page.train_support[i] if page.train_support else None,
            "train_share": charts.share_bar(page.train_support[i] / trained, "count") if trained else None,
        }
        for i in order
    ]


def _bins(calibration: Calibration) -> list[dict[str, Any]]:
    """Return what is shown of each bin that has predictions, the highest confidence first."""
    bins = len(calibration.count)
    return [
        {
            "range": f"{percent_number(i / bins, 0)} to {percent_number((i + 1) / bins, 0)}",
            "count": int(calibration.count[i]),
            "confidence": float(calibration.confidence[i]),
            "right": float(calibration.right[i]),
            "interval": calibration.intervals[i],
            "is_sparse": is_sparse(calibration, i),
        }
        for i in np.flatnonzero(calibration.count)[::-1].tolist()
    ]


def _data(page: Page, gallery: Gallery) -> Markup:
    """Return what a click needs, its figures as text, as JSON that no name can end: every < stands as its escape."""
    number_of = {image: number for number, image in enumerate(dict.fromkeys(gallery.thumbnails.values()))}
    document = {
        "names": [shorten(printable(name), LONGEST_TITLE) for name in page.evaluation.classes],
        "recall": [None if math.isnan(share) else round(share, 6) for share in page.evaluation.recall.tolist()],
        "support": page.evaluation.support.tolist(),
        "by": page.evaluation.by,
        **list_document(
            page.predictions, gallery.rows, {row: number_of[image] for row, image in gallery.thumbnails.items()}
        ),
        "thumbnails": [base64.b64encode(image).decode() for image in number_of],
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 (no sign that HTML knows is left in it)


def hash_source(text: str) -> str:
    """Return how the page's policy names a style sheet or a script: by its sha256.

    Args:
        text: all of it, as it stands in the page.
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _name(name: str, width: int = LONGEST) -> str:
    return shorten(printable(name), width)


def _breakable(name: str) -> Markup:
    """Return a name that a line may break in, behind its underscores."""
    return Markup("_<wbr>").join(_name(name).split("_"))  # each part is escaped


def _whole(name: str) -> str:
    return shorten(printable(name), LONGEST_TITLE)
