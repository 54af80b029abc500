"""`featcache fit-head --targets`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featcache.cli.next_command import say_next
from featcache.cli.output import echo, echo_json, echo_parts, echo_stderr, open_console, relative_path
from featcache.recipe import HeadKeywords, StoreOptions

if TYPE_CHECKING:
    from featcache.heads import Fit


def run_targets(
    targets: Sequence[str], lr: Sequence[float] | None, grid: str | None, settings: HeadKeywords,
    options: StoreOptions, device: str, check_seconds: float | str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Train heads for each target, and print each one's as they are done."""
    from featcache.heads import fit_targets
    from featcache.report import ProgressBar

    def show(word: str, fit: "Fit") -> None:
        if not as_json:
            show_fit(fit, f"target {word}")

    with ProgressBar(open_console(stderr=True)) as bar:
        fits = fit_targets(
            targets, lr, grid=grid, device=device, check_seconds=check_seconds, on_fit=show, **settings, **options,
            progress=lambda word, stage, done, total: bar.show(f"{word}: {stage}", done, total, "epochs"),
        )  # fmt: skip
    if as_json:
        echo_json({"targets": [{"target": word, **fit.to_json()} for word, fit in fits.items()]})
    for note in dict.fromkeys(note for fit in fits.values() for note in fit.notes):
        words = [word for word, fit in fits.items() if note in fit.notes]
        echo_stderr(f"note: {note}" if len(words) == len(fits) else f"note: target {', '.join(words)}: {note}")
    if not as_json and all(fit.best is not None for fit in fits.values()):
        say_next("report", options, "--targets", ",".join(targets))


def show_fit(fit: "Fit", heading: str) -> None:
    """Print what became of one fit, of several under what tells it from the others.

    Args:
        fit: What was trained.
        heading: "fold 0", "target tasklevel"; "" where there is one fit.
    """
    from featcache.report import fit_parts

    if heading:
        echo(heading)
    echo_parts(fit_parts(fit))
    if fit.best is not None:
        echo(f"head {fit.handles.describe(fit.best.name)}: saved in {relative_path(fit.best.folder)}")
    sys.stdout.flush()  # in a pipe, too, each one is to be seen as it ends
