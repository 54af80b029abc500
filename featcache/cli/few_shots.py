"""`featcache fit-head --shots`."""

from collections.abc import Sequence
from pathlib import Path

from featcache.cli.next_command import say_next
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.recipe import HeadKeywords, StoreOptions

TRIES = 10  # where nobody says how many


def run_few_shots(
    shots: str,
    tries: int | None,
    lr: Sequence[float] | None,
    grid: str | None,
    settings: HeadKeywords,
    options: StoreOptions,
    *,
    device: str,
    html: Path | None,
    as_json: bool,
) -> None:
    """Train on few labels, write the page where it is wanted, and print the curve."""
    from featcache.evaluation import few_shot_curve
    from featcache.report import ProgressBar, check_destination, print_few_shots

    if html is not None:
        check_destination(html, ".html")
    with ProgressBar(open_console(stderr=True)) as bar:
        curve = few_shot_curve(
            shots, TRIES if tries is None else tries, lr, grid=grid, device=device, **settings, **options,
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"),
        )  # fmt: skip
    if html is not None:
        from featcache.report.page import save_few_shots_html

        save_few_shots_html(curve, html)
    if as_json:
        echo_json(curve.to_json())
    else:
        print_few_shots(curve, open_console())
        if html is not None:
            echo(f"wrote {relative_path(html)}")
    for note in curve.answers.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next("fit-head", options)
