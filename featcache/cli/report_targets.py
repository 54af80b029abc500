"""`featcache report` of a head on several labels a row, or on numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.cli.folds import parse_folds
from featcache.cli.next_command import say_next
from featcache.cli.output import echo, echo_json, echo_stderr, open_console, relative_path
from featcache.cli.same_head import refuse_same_head
from featcache.errors import UsageError
from featcache.recipe import KeptHeadOptions

if TYPE_CHECKING:
    from featcache.dataset import DatasetRequest
    from featcache.evaluation import HeadOnTargets, TargetEvaluation, TargetSplitOptions

_OF_CLASSES: Mapping[str, str] = {
    "clip_rule": "a clip has the mean of its images",
    "png": "the picture is that of a confusion matrix; --html FILE writes a page",
}


def report_targets(
    request: "DatasetRequest", head: str | None, options: KeptHeadOptions, given: Mapping[str, object],
    files: Mapping[str, Path | None], *, as_json: bool,
) -> None:  # fmt: skip
    """Print the report, and write its files.

    Args:
        request: the data set, whose rows have several labels or numbers.
        head: as it was typed.
        options: the data set and its cache, for the command that comes next.
        given: what was typed of the report's other options, by the names of the function's parameters.
        files: html, csv and predictions; None where one is not wanted.
        as_json: whether the document is printed instead.
    """
    from featcache.evaluation import pair_targets, predict_on_targets, without_target_views
    from featcache.report import (
        print_target_evaluation,
        print_target_pair,
        save_target_evaluation_csv,
        save_target_predictions,
    )

    _refuse_options_of_classes(request.recipe.data.target_kind, given)
    choice: TargetSplitOptions = {
        "split": _text(given["split"]), "by": str(given["by"]),
        "allow_shared_subjects": bool(given["allow_shared_subjects"]),
        "conformal": None if given["conformal"] is None else float(str(given["conformal"])),
        "test_views": bool(given["test_views"]), "augment": _text(given["augment"]),
    }  # fmt: skip
    if (folds := _text(given["folds"])) is not None:
        _refuse_beside_folds(given)
        _report_folds(request, parse_folds(folds), head, choice, options, given, files, as_json=as_json)
        return
    examined, pair = predict_on_targets(request, head, **choice), None
    evaluation = examined.evaluation()
    if (against := _text(given["against"])) is not None:
        other = predict_on_targets(request, against, **without_target_views(choice))
        if other.head.folder == examined.head.folder and not given["test_views"]:
            refuse_same_head(examined.choice.handle, against)
        pair = pair_targets(examined, other)
    if files["html"] is not None:
        _write_page(examined, evaluation, files["html"])
    if files["csv"] is not None:
        save_target_evaluation_csv(evaluation, files["csv"])
    if files["predictions"] is not None:
        save_target_predictions(examined.predictions, files["predictions"], examined.sets)
    if as_json:
        echo_json(evaluation.to_json() if pair is None else pair.to_json())
        return
    if pair is None:
        print_target_evaluation(evaluation, open_console())
    else:
        print_target_pair(pair, open_console())
    about = "" if pair is None else f", about {evaluation.handle or evaluation.head} alone"
    for path in files.values():
        if path is not None:
            echo(f"wrote {relative_path(path)}{about}")
    if files["html"] is None:
        words = [*([] if head is None else [head]), *_typed(given)]
        say_next("report", options, *words, "--html", "report.html")
    else:
        say_next("compare", options)


def _refuse_beside_folds(given: Mapping[str, object]) -> None:
    """Refuse what single heads alone have."""
    if given["against"] is not None:
        error = UsageError("--against compares single heads; leave it out, or leave out --folds")
        raise error.correct("--against", None)


def _report_folds(
    request: "DatasetRequest", folds: Sequence[int], head: str | None, choice: "TargetSplitOptions",
    options: KeptHeadOptions, given: Mapping[str, object], files: Mapping[str, Path | None], *, as_json: bool,
) -> None:  # fmt: skip
    """Print the average over folds, and write its files."""
    from featcache.evaluation import average_target_folds, predict_on_target_folds
    from featcache.report import print_target_folds, save_target_folds_csv, save_target_predictions

    heads = predict_on_target_folds(request, folds, head, choice)
    averaged = average_target_folds(heads)
    if files["html"] is not None:
        from featcache.report.page import save_target_folds_html

        save_target_folds_html(averaged, heads, files["html"])
    if files["csv"] is not None:
        save_target_folds_csv(averaged, files["csv"])
    if files["predictions"] is not None:
        save_target_predictions({fold: part.predictions for fold, part in heads.items()}, files["predictions"])
    if as_json:
        echo_json(averaged.to_json())
        return
    print_target_folds(averaged, open_console())
    for path in files.values():
        if path is not None:
            echo(f"wrote {relative_path(path)}")
    if files["html"] is None:
        words = [*([] if head is None else [head]), "--folds", ",".join(map(str, folds)), *_typed(given)]
        say_next("report", options, *words, "--html", "folds.html")


def _write_page(examined: "HeadOnTargets", evaluation: "TargetEvaluation", path: Path) -> None:
    """Write the page, with a bar for its thumbnails and a note where some are missing."""
    from featcache.report import ProgressBar
    from featcache.report.page import save_targets_html

    with ProgressBar(open_console(stderr=True)) as bar:
        shown = save_targets_html(
            examined, evaluation, path, progress=lambda done, of: bar.show("thumbnails", done, of)
        )  # fmt: skip
    if shown.note:
        echo_stderr(f"note: {shown.note}")


def _refuse_options_of_classes(kind: str, given: Mapping[str, object]) -> None:
    """Refuse what a report of classes alone can do."""
    for name, reason in _OF_CLASSES.items():
        if given.get(name) not in (None, False):
            flag = f"--{name.replace('_', '-')}"
            error = UsageError(f"{flag}: {reason}, and the recipe says targets = {kind!r}; leave it out")
            raise error.correct(flag, None)


def _typed(given: Mapping[str, object]) -> list[str]:
    """Return the words of the options that were typed."""
    split = [] if given["split"] is None else ["--split", str(given["split"])]
    by = [] if given["by"] == "image" else ["--by", str(given["by"])]
    flags = [f"--{name.replace('_', '-')}" for name in ("allow_shared_subjects", "test_views") if given[name]]
    valued = [(f"--{name}", given[name]) for name in ("conformal", "augment") if given[name] is not None]
    return [*split, *by, *flags, *(str(word) for pair in valued for word in pair)]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
