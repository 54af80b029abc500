"""`featcache fit-head --cross-validate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featcache.cli.next_command import say_next_after_cross_validation
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.recipe import HeadKeywords, StoreOptions


def run_cross_validation(
    folds: int,
    lr: Sequence[float] | None,
    grid: str | None,
    settings: HeadKeywords,
    options: StoreOptions,
    *,
    device: str,
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Cross-validate, write the predictions where they are wanted, and print the scores."""
    from featcache import evaluation, report
    from featcache.dataset import DatasetRequest
    from featcache.recipe import LABEL
    from featcache.report import print_cross_validation, print_target_cross_validation

    is_classes = DatasetRequest(**options).recipe.data.target_kind == LABEL
    validate: Any = evaluation.cross_validate if is_classes else evaluation.cross_validate_targets
    save: Any = report.save_split_predictions if is_classes else report.save_target_predictions
    show: Any = print_cross_validation if is_classes else print_target_cross_validation
    if predictions is not None:
        report.check_table(predictions, "--predictions")
    with report.ProgressBar(open_console(stderr=True)) as bar:
        result = validate(
            folds, lr, grid=grid, device=device, **settings, **options,
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"),
        )  # fmt: skip
    if predictions is not None:
        save(result.folds, predictions)
    if as_json:
        echo_json(result.to_json())
    else:
        show(result, open_console())
        if predictions is not None:
            echo(f"wrote {relative_path(predictions)}")
    for note in result.unseen.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next_after_cross_validation(options)
