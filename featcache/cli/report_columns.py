"""`featcache report --targets`: the heads of several levels or columns of Drive&Act."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.cli.next_command import say_next
from featcache.cli.output import echo, echo_json, open_console, relative_path
from featcache.recipe import KeptHeadOptions

if TYPE_CHECKING:
    from featcache.evaluation import SplitOptions

UNUSED = ("against", "conformal", "folds", "html", "png", "predictions")  # which are of one target


def report_columns(
    targets: str, head: str | None, choices: "SplitOptions", options: KeptHeadOptions, typed: Sequence[str],
    csv: Path | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Print the figures of each target's head, and write their table.

    Args:
        targets: as they were typed, commas between them.
        head: as it was typed, of every target.
        choices: which predictions are evaluated.
        options: the data set and its cache.
        typed: the words of the choices, for the command that comes next.
        csv: the file of the table; None where none is wanted.
        as_json: whether the document is printed instead.
    """
    from featcache.evaluation import evaluate_columns
    from featcache.heads import data_options_of_target
    from featcache.report import print_columns, save_columns_csv

    words = targets.split(",")
    evaluations = evaluate_columns(words, head, **choices, **options)
    if csv is not None:
        save_columns_csv(evaluations, csv)
    if as_json:
        echo_json({"targets": [{"target": word, **each.to_json()} for word, each in evaluations.items()]})
        return
    print_columns(evaluations, open_console())
    if csv is not None:
        echo(f"wrote {relative_path(csv)}")
    say_next("report", data_options_of_target(words[0], options), *([] if head is None else [head]), *typed)
