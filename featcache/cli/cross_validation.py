"""`featcache fit-head --cross-validate`."""

from collections.abc import Sequence
from pathlib import Path

from featcache.cli.next_command import say_next, say_next_after_cross_validation
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
    from featcache.dataset import DatasetRequest
    from featcache.evaluation import cross_validate
    from featcache.recipe import LABEL
    from featcache.report import ProgressBar, check_table, print_cross_validation, save_split_predictions

    if DatasetRequest(**options).recipe.data.target_kind != LABEL:
        _run_on_targets(folds, lr, grid, settings, options, device=device, predictions=predictions, as_json=as_json)
        return
    if predictions is not None:
        check_table(predictions, "--predictions")
    with ProgressBar(open_console(stderr=True)) as bar:
        result = cross_validate(
            folds, lr, grid=grid, device=device, **settings, **options,
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"),
        )  # fmt: skip
    if predictions is not None:
        save_split_predictions(result.folds, predictions)
    if as_json:
        echo_json(result.to_json())
    else:
        print_cross_validation(result, open_console())
        if predictions is not None:
            echo(f"wrote {relative_path(predictions)}")
    for note in result.unseen.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next_after_cross_validation(options)


def _run_on_targets(
    folds: int, lr: Sequence[float] | None, grid: str | None, settings: HeadKeywords, options: StoreOptions, *,
    device: str, predictions: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Cross-validate heads on several labels or numbers, as `run_cross_validation` does those on classes."""
    from featcache.evaluation import cross_validate_targets
    from featcache.report import ProgressBar, check_table, print_target_cross_validation, save_target_predictions

    if predictions is not None:
        check_table(predictions, "--predictions")
    with ProgressBar(open_console(stderr=True)) as bar:
        result = cross_validate_targets(
            folds, lr, grid=grid, device=device, **settings, **options,
            progress=lambda stage, done, total: bar.show(stage, done, total, "epochs"),
        )  # fmt: skip
    if predictions is not None:
        save_target_predictions(result.folds, predictions)
    if as_json:
        echo_json(result.to_json())
    else:
        print_target_cross_validation(result, open_console())
        if predictions is not None:
            echo(f"wrote {relative_path(predictions)}")
    for note in result.unseen.notes:
        echo_stderr(f"note: {note}")
    if not as_json:
        say_next("fit-head", options)
