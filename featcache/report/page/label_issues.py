"""The page of doubtful labels: each with its picture, what it is called and what it looks like."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from featcache.evaluation import LabelIssues, SplitPredictions
from featcache.report import check_destination, label_issues_sentence, left_out_sentence, save_bytes
from featcache.report.page.gallery import Gallery, build_gallery
from featcache.report.page.page import hash_source, make_environment, read_part
from featcache.text import counted

MOST = 900  # issues on the page


def save_label_issues_html(
    found: LabelIssues, path: Path, *, videos: bool = False, progress: Callable[[int, int], None] = lambda *_: None
) -> Gallery:
    """Write the page as one HTML file, which needs no network and no server; at most 900 issues are on it.

    Args:
        found: what it shows.
        path: the file; an existing one is replaced.
        videos: whether the paths are those of frames of videos.
        progress: gets how many thumbnails are made, and of how many.

    Returns:
        What became of its thumbnails.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    root = found.validation.unseen.rows.source["root"]
    gallery = build_gallery(_predictions(found), root, videos=videos, progress=progress)
    style = read_part("style.css")
    left = len(found.issues) - MOST
    html = (
        make_environment()
        .get_template("label_issues.html")
        .render(
            found=found,
            sentence=label_issues_sentence(found),
            left_out=left_out_sentence(found.validation.unseen),
            data_set=found.validation.evaluation.data_set,
            issues=_issues(found, gallery),
            left=f"{counted(left, 'more issue')} not on this page: --csv has all" if left > 0 else "",
            note=gallery.note,
            policy=f"default-src 'none'; style-src {hash_source(style)}; img-src data:; base-uri 'none'; "
            f"form-action 'none'",
            style=Markup(style),  # noqa: S704 (ours)
        )
    )
    save_bytes(path, html.encode())
    return gallery


def _predictions(found: LabelIssues) -> SplitPredictions:
    """Return the issues as predictions: the label for the truth, what is suggested for the prediction."""
    unseen, rows = found.validation.unseen, found.rows[:MOST]
    paths = tuple(unseen.rows.paths[row] for row in rows.tolist())
    none = ("",) * len(rows)
    return SplitPredictions(
        by="image", truth=unseen.rows.y[rows], predicted=unseen.predicted[rows],
        probabilities=unseen.probabilities[rows], classes=unseen.rows.classes, names=paths, paths=paths,
        clips=none, subjects=none,
    )  # fmt: skip


def _issues(found: LabelIssues, gallery: Gallery) -> list[dict[str, Any]]:
    """Return what is shown of each issue: its names, its probabilities, its picture as base64 where it has one."""
    return [
        {
            "issue": issue,
            "picture": base64.b64encode(gallery.thumbnails[row]).decode() if row in gallery.thumbnails else "",
        }
        for row, issue in enumerate(found.issues[:MOST])
    ]
