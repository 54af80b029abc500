"""What the commands write for others to look at, as functions: the end of a file's name says what it becomes."""

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from featcache.arguments import checked
from featcache.dataset import Asked
from featcache.errors import UsageError
from featcache.evaluation import BY, Evaluation, examine
from featcache.files import expand_home
from featcache.listing import readable
from featcache.prediction import TOP, Predictions, Timeline
from featcache.recipe import StoreOptions
from featcache.report import figure, predictions, sheet, tables
from featcache.report.page import page_of, save_html


@checked
def save_report(
    path: str | Path,
    head: str | None = None,
    *,
    split: str | None = None,
    by: str = BY[0],
    clip_rule: str | None = None,
    allow_shared_subjects: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
    **where: Unpack[StoreOptions],
) -> Evaluation:
    """Write a head's page (.html), picture (.png) or table (.csv); what it shows is returned, see `evaluate`.

    `progress` gets how many thumbnails of a page are made, and of how many.

    Raises:
        UsageError: another suffix, or no such folder; else as `evaluate`.
        MachineError: it cannot be written; what was there before is untouched.
    """
    path = _destination(path, ".html", ".png", ".csv")
    found = examine(
        Asked(**where), head, split=split, by=by, clip_rule=clip_rule, allow_shared_subjects=allow_shared_subjects
    )
    evaluation = found.evaluation(by)
    if path.suffix.lower() == ".html":
        save_html(page_of(found, by), path, progress=progress)
    else:
        {".png": figure.save_png, ".csv": tables.save_evaluation_csv}[path.suffix.lower()](evaluation, path)
    return evaluation


@checked
def save_predictions(found: Predictions | Timeline, path: str | Path, count: int | None = None) -> None:
    """Write answers as a table (.csv), or as a picture (.png): a contact sheet, of a video its strip.

    `count` labels of each image stand in the table of images (5 where it is None).

    Raises:
        UsageError: another suffix, no such folder, or a count where none is used.
        MachineError: it cannot be written; what was there before is untouched.
    """
    path = _destination(path, ".png", ".csv")
    drawn = path.suffix.lower() == ".png"
    if count is not None and (drawn or isinstance(found, Timeline)):
        raise UsageError("count has no effect on a picture or a video: it is how many labels of an image a table has")
    if isinstance(found, Timeline):
        (sheet.save_strip if drawn else predictions.save_timeline_csv)(found, path)
    elif drawn:
        sheet.save_sheet(found, path)
    else:
        predictions.save_predictions_csv(found, path, TOP if count is None else count)


def _destination(path: str | Path, *suffixes: str) -> Path:
    path = Path(expand_home(path))
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{readable(str(path))}: expected a name that ends in {' or '.join(suffixes)}")
    tables.check_destination(path, path.suffix.lower())
    return path
