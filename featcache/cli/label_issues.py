"""`featcache data --label-issues`."""

from pathlib import Path

from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.recipe import StoreOptions


def list_label_issues(options: StoreOptions, *, csv: Path | None, html: Path | None, as_json: bool) -> None:
    """Find the doubtful labels, write the files that are wanted, and print the most doubtful ones."""
    from featcache.dataset import DatasetRequest
    from featcache.evaluation import find_label_issues
    from featcache.recipe import LABEL
    from featcache.report import ProgressBar, check_destination, print_label_issues, save_label_issues_csv

    for path, suffix in ((csv, ".csv"), (html, ".html")):
        if path is not None:
            check_destination(path, suffix)
    if DatasetRequest(**options).recipe.data.target_kind != LABEL:
        _list_target_issues(options, csv, html, as_json=as_json)
        return
    with ProgressBar(open_console(stderr=True)) as bar:
        found = find_label_issues(
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"), **options
        )  # fmt: skip
        if html is not None:
            from featcache.listing import is_frame_path
            from featcache.report.page import save_label_issues_html

            is_frame = bool(found.issues) and is_frame_path(found.issues[0].path)
            save_label_issues_html(
                found, html, videos=is_frame, progress=lambda done, of: bar.show("thumbnails", done, of)
            )
    if csv is not None:
        save_label_issues_csv(found, csv)
    if as_json:
        echo_json({"label_issues": found.to_json()})
    else:
        print_label_issues(found, open_console())
        for path in (csv, html):
            if path is not None:
                echo(f"wrote {relative_path(path)}")
    for note in found.validation.unseen.notes:
        echo_stderr(f"note: {note}")


def _list_target_issues(options: StoreOptions, csv: Path | None, html: Path | None, *, as_json: bool) -> None:
    """Do the same for rows with several labels, or with numbers."""
    from featcache.evaluation import find_target_issues
    from featcache.report import ProgressBar, print_target_issues, save_target_issues_csv

    with ProgressBar(open_console(stderr=True)) as bar:
        found = find_target_issues(
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"), **options
        )  # fmt: skip
        if html is not None:
            from featcache.report.page import save_target_issues_html

            save_target_issues_html(found, html, progress=lambda done, of: bar.show("thumbnails", done, of))
    if csv is not None:
        save_target_issues_csv(found, csv)
    if as_json:
        echo_json({"label_issues": found.to_json()})
    else:
        print_target_issues(found, open_console())
        for path in (csv, html):
            if path is not None:
                echo(f"wrote {relative_path(path)}")
    for note in found.validation.unseen.notes:
        echo_stderr(f"note: {note}")
