"""The page of doubtful labels or numbers of rows that have several: each with its picture and what heads say of it."""

import base64
from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from featcache.evaluation import TargetIssues
from featcache.listing import is_frame_path
from featcache.recipe import LABELS
from featcache.report import (
    check_destination,
    left_out_sentence,
    save_bytes,
    target_issue_text,
    target_issues_key,
    target_issues_sentence,
)
from featcache.report.page.gallery import Thumbnails, load_thumbnails
from featcache.report.page.label_issues import MOST
from featcache.report.page.page import hash_source, make_environment, read_part
from featcache.text import counted


def save_target_issues_html(
    found: TargetIssues, path: Path, *, progress: Callable[[int, int], None] = lambda *_: None
) -> Thumbnails:
    """Write the page as one HTML file, which needs no network and no server; at most 900 issues are on it.

    Args:
        found: what it shows.
        path: the file; an existing one is replaced.
        progress: gets how many thumbnails are made, and of how many.

    Returns:
        The thumbnails of its images.

    Raises:
        UsageError: the path does not end in .html, its folder does not exist, or it is a folder.
        MachineError: it cannot be written; what was there before is untouched.
    """
    check_destination(path, ".html")
    shown, left, style = found.issues[:MOST], len(found.issues) - MOST, read_part("style.css")
    paths = list(dict.fromkeys(issue.path for issue in shown))
    thumbnails = load_thumbnails(
        paths, found.validation.unseen.rows.source["root"], videos=any(map(is_frame_path, paths)), progress=progress
    )
    html = (
        make_environment()
        .get_template("target_issues.html")
        .render(
            found=found,
            noun="label" if found.kind == LABELS else "number",
            sentence=target_issues_sentence(found),
            key=target_issues_key(found),
            left_out=left_out_sentence(found.validation.unseen),
            data_set=found.validation.evaluation.data_set,
            issues=[
                {
                    "path": issue.path,
                    "name": issue.name,
                    "text": target_issue_text(issue, found.kind),
                    "picture": base64.b64encode(thumbnails.by_path.get(issue.path, b"")).decode(),
                }
                for issue in shown
            ],
            left=f"{counted(left, 'more issue')} not on this page: --csv has all" if left > 0 else "",
            note=thumbnails.note,
            policy=f"default-src 'none'; style-src {hash_source(style)}; img-src data:; base-uri 'none'; "
            f"form-action 'none'",
            style=Markup(style),  # noqa: S704 (ours)
        )
    )
    save_bytes(path, html.encode())
    return thumbnails
