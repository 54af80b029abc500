"""Files for others to look at: the end of a file's name says what it becomes."""

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from featcache.arguments import checked
from featcache.dataset import DatasetRequest
from featcache.errors import UsageError
from featcache.evaluation import UNITS, Evaluation, predict_on_split
from featcache.files import expand_home
from featcache.listing import readable
from featcache.prediction import TOP, Predictions, Timeline
from featcache.recipe import StoreOptions
from featcache.report.destination import check_destination
from featcache.report.page import build_page, save_html
from featcache.report.pictures import save_evaluation_png, save_sheet, save_strip
from featcache.report.render_predictions import save_predictions_csv, save_timeline_csv
from featcache.report.tables import save_evaluation_csv


@checked
def save_report(
    path: str | Path,
    head: str | None = None,
    *,
    split: str | None = None,
    by: str = UNITS[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
    **options: Unpack[StoreOptions],
) -> Evaluation:
    """Evaluate a head and write its page (.html), picture (.png) or table (.csv).

    Args:
        path: the file; its suffix says what is written. An existing one is replaced.
        head: as of `evaluate`.
        split: as of `evaluate`.
        by: as of `evaluate`.
        clip_rule: as of `evaluate`.
        allow_shared_subjects: as of `evaluate`.
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
    head_on_split = predict_on_split(
        DatasetRequest(**options),
        head,
        split=split,
        by=by,
        clip_rule=clip_rule,
        allow_shared_subjects=allow_shared_subjects,
    )
    evaluation = head_on_split.evaluation(by)
    if path.suffix.lower() == ".html":
        save_html(build_page(head_on_split, by), path, progress=progress)
    elif path.suffix.lower() == ".png":
        save_evaluation_png(evaluation, path)
    else:
        save_evaluation_csv(evaluation, path)
    return evaluation


@checked
def save_predictions(predictions: Predictions | Timeline, path: str | Path, count: int | None = None) -> None:
    """Write predictions as a table (.csv), or as a picture (.png): a contact sheet, of a video its strip.

    Args:
        predictions: what `predict` or `timeline` returned.
        path: the file; its suffix says what is written. An existing one is replaced.
        count: labels of each image in a table; None for five.

    Raises:
        UsageError: another suffix, no such folder, or a count where none is used.
        MachineError: it cannot be written; what was there before is untouched.
    """
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
