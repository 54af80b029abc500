"""Files for others to look at: the end of a file's name says what it becomes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

from featcache.arguments import checked
from featcache.errors import UsageError
from featcache.evaluation import (
    UNITS,
    Evaluation,
    EvaluationOptions,
    FoldsEvaluation,
    SplitPredictions,
    average_folds,
    predict_on_folds,
    predict_on_split,
    separate_options,
)
from featcache.files import expand_home
from featcache.heads.classifiers import HeadFunction
from featcache.listing import readable
from featcache.prediction import TOP, Predictions, Timeline
from featcache.report.destination import check_destination
from featcache.report.folds_table import save_folds_csv
from featcache.report.page import build_page, save_folds_html, save_html
from featcache.report.pictures import save_evaluation_png, save_sheet, save_strip
from featcache.report.prediction_table import TABLE_SUFFIXES, save_split_predictions
from featcache.report.render_predictions import save_predictions_csv, save_timeline_csv
from featcache.report.tables import save_evaluation_csv


@checked
def save_report(
    path: str | Path,
    head: str | HeadFunction | None = None,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
    **options: Unpack[EvaluationOptions],
) -> Evaluation:
    """Evaluate a head and write its page (.html), picture (.png) or table (.csv).

    Args:
        path: the file; its suffix says what is written. An existing one is replaced.
        head: as of `evaluate`.
        progress: gets how many thumbnails of a page are made, and of how many.
        **options: as of `evaluate`.

    Returns:
        What the file shows.

    Raises:
        UsageError: another suffix, or no such folder; else as `evaluate`.
        CacheError: as `evaluate`.
        DataError: as `evaluate`.
        MachineError: it cannot be written, what was there before is untouched; else as `evaluate`.
    """
    path = _destination(path, ".html", ".png", ".csv")
    request, choice, by = separate_options(options)
    head_on_split = predict_on_split(request, head, **choice)
    evaluation = head_on_split.evaluation(by)
    if path.suffix.lower() == ".html":
        save_html(build_page(head_on_split, by), path, progress=progress)
    elif path.suffix.lower() == ".png":
        save_evaluation_png(evaluation, path)
    else:
        save_evaluation_csv(evaluation, path)
    return evaluation


@checked
def save_folds_report(
    path: str | Path,
    folds: Sequence[int],
    head: str | None = None,
    **options: Unpack[EvaluationOptions],
) -> FoldsEvaluation:
    """Evaluate each fold's own head, and write the average as a page (.html) or a table (.csv).

    Args:
        path: the file; its suffix says what is written. An existing one is replaced.
        folds: as of `evaluate_folds`.
        head: as of `evaluate_folds`.
        **options: as of `evaluate`.

    Returns:
        What the file shows.

    Raises:
        UsageError: another suffix, or no such folder; else as `evaluate_folds`.
        CacheError: as `evaluate_folds`.
        DataError: as `evaluate`.
        MachineError: it cannot be written; what was there before is untouched.
    """
    path = _destination(path, ".html", ".csv")
    heads = predict_on_folds(folds, head, **options)
    averaged = average_folds(heads, options.get("by", UNITS[0]))
    if path.suffix.lower() == ".html":
        save_folds_html(averaged, heads, path)
    else:
        save_folds_csv(averaged, path)
    return averaged


@checked
def save_predictions(
    predictions: Predictions | Timeline | SplitPredictions | Mapping[int, SplitPredictions],
    path: str | Path,
    count: int | None = None,
) -> None:
    """Write predictions as a table (.csv), or as a picture (.png): a contact sheet, of a video its strip.

    Those on a split are a table, .csv or .parquet, with one row an image: path, truth, prediction, clip, subject and
    the probability of each class.

    Args:
        predictions: what `predict`, `timeline`, `predict_split` or `predict_folds` returned.
        path: the file; its suffix says what is written. An existing one is replaced.
        count: labels of each image in a table; None for five.

    Raises:
        UsageError: another suffix, no such folder, or a count where none is used.
        MachineError: it cannot be written; what was there before is untouched.
    """
    if isinstance(predictions, SplitPredictions | Mapping):
        if count is not None:
            raise UsageError("count has no effect on the predictions of a split: its table has every class")
        save_split_predictions(predictions, _destination(path, *TABLE_SUFFIXES))
        return
    path = _destination(path, ".png", ".csv")
    is_picture = path.suffix.lower() == ".png"
    if count is not None and (is_picture or isinstance(predictions, Timeline)):
        raise UsageError("count has no effect on a picture or a video: it is how many labels of an image a table has")
    if isinstance(predictions, Timeline):
        (save_strip if is_picture else save_timeline_csv)(predictions, path)
    elif is_picture:
        save_sheet(predictions, path)
    else:
        save_predictions_csv(predictions, path, TOP if count is None else count)


def _destination(path: str | Path, *suffixes: str) -> Path:
    """Return the path, ~ expanded, if a file with one of these suffixes can be written there."""
    path = Path(expand_home(path))
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{readable(str(path))}: expected a name that ends in {' or '.join(suffixes)}")
    check_destination(path, path.suffix.lower())
    return path
