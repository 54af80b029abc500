"""The names of Drive&Act's annotation files: which views and levels lie in a folder."""

import os
import re
from collections.abc import Iterable, Sequence

from featcache.recipe import LEVELS

ANNOTATIONS = "iccv_activities_3s/activities_3s"
USUAL_VIEW = "kinect_color"
FILE_NAME = re.compile(rf"({'|'.join(LEVELS)})\.chunks_90\.split_([0-9])\.(train|val|test)\.csv")


def find_views(annotations: str) -> list[str]:
    """Return the views that have annotations in a folder of Drive&Act's, sorted; none where there is no such folder.

    Args:
        annotations: The folder of the views.
    """
    return [view for view in _file_names(annotations) if find_levels(annotations, view)]


def usual_view(views: Sequence[str]) -> str:
    """Return the view that is taken where none is named: that of the published baseline, else the first.

    Args:
        views: Those that there are, at least one.
    """
    return USUAL_VIEW if USUAL_VIEW in views else views[0]


def find_levels(annotations: str, view: str) -> list[str]:
    """Return the levels that a view has annotations of, in the order of `LEVELS`.

    Args:
        annotations: The folder of the views.
        view: One of its folders.
    """
    return list_levels(_file_names(os.path.join(annotations, view)))


def list_levels(names: Iterable[str]) -> list[str]:
    """Return the levels that have an annotation file among these, in the order of `LEVELS`.

    Args:
        names: Of files.
    """
    present = {match[1] for name in names if (match := FILE_NAME.fullmatch(name))}
    return [level for level in LEVELS if level in present]


def _file_names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # a file, or a folder that may not be read
        return []


def describe_other_views(annotations: str) -> str:
    """Return which views there are, for the end of a message; "" where there is none.

    Args:
        annotations: The folder of the views.
    """
    views = find_views(annotations)
    return f"; the views that are here: {', '.join(views)} (--view)" if views else ""
