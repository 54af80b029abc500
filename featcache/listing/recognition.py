"""What lies in a folder that nobody has described yet: images in splits or classes, Drive&Act, a table, videos."""

import os
import shlex
from dataclasses import dataclass, field
from typing import Literal

from featcache.errors import DataError
from featcache.files import nearest_path
from featcache.listing.container_collection import collect_rows
from featcache.listing.container_files import is_of_containers
from featcache.listing.drive_act_files import ANNOTATIONS, find_levels, find_views, usual_view
from featcache.listing.flat_folder import POOL, has_split_name, is_flat, list_folders
from featcache.listing.folder import find_splits
from featcache.listing.leftovers import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from featcache.listing.sheet import TABLE_SUFFIXES
from featcache.listing.source import order_splits
from featcache.listing.table_recognition import RecognizedTable, recognize_table
from featcache.recipe import ContainerData

_MOST_FILES = 100_000  # that are looked at in search of a video

Kind = Literal["splits", "classes", "drive-act", "table", "videos", "containers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizedData:
    """A data set as it was recognised."""

    kind: Kind
    path: str  # of its folder, or of the table
    names: tuple[str, ...] = ()  # the splits, the classes, or the views
    table: RecognizedTable = field(default_factory=RecognizedTable)  # of a table: its columns
    levels: tuple[str, ...] = ()  # of Drive&Act: those that the usual view has
    has_clips: bool = False  # whether images lie in folders below their class


def recognize_data(path: str) -> RecognizedData:
    """Return what lies in a folder, or in the only one of its folders that has a data set; or what a file is.

    Args:
        path: A folder, a table, or containers of images.

    Raises:
        DataError: there is nothing there that could be a data set, or a table that cannot be read.
    """
    if is_of_containers(path):
        splits = order_splits(collect_rows(ContainerData(root=path)).columns["split"])
        return RecognizedData(kind="containers", path=path, names=tuple(splits) if splits != [POOL] else ())
    if os.path.isfile(path) and path.lower().endswith(TABLE_SUFFIXES):
        return RecognizedData(kind="table", path=path, table=recognize_table(path))
    if not os.path.isdir(path):
        is_file = os.path.exists(path)
        error = DataError(f"{path}: {'no table' if is_file else 'no such folder'}; name a folder of images")
        close = None if is_file else nearest_path(path)
        raise error if close is None else error.correct(path, shlex.quote(close))
    path = os.path.normpath(path)
    here = _recognize_folder(path)
    below = [] if here is not None else [_recognize_folder(os.path.normpath(folder)) for folder in list_folders(path)]
    recognized = [data for data in (here, *below) if data is not None]
    recognized = [data for data in recognized if not data.table.missing] or recognized  # other tables are no data sets
    if len(recognized) == 1:
        return recognized[0]
    if recognized:
        named = ", ".join(data.path for data in recognized)
        example = f"`featcache init {shlex.quote(recognized[0].path)}`"
        raise DataError(f"{path}: several data sets are in it ({named}); name one of them, as in {example}")
    raise DataError(
        f"{path}: no data set is in it; expected images, as <class>/…/image or <split>/<class>/…/image, Drive&Act's "
        f"{ANNOTATIONS}, a table (.csv, .parquet) of paths and labels, or videos"
    )


def _recognize_folder(path: str) -> RecognizedData | None:
    """Return what lies in a folder itself; None where it is nothing that is known."""
    if views := find_views(os.path.join(path, *ANNOTATIONS.split("/"))):
        levels = find_levels(os.path.join(path, *ANNOTATIONS.split("/")), usual_view(views))
        return RecognizedData(kind="drive-act", path=path, names=tuple(views), levels=tuple(levels))
    try:
        names = find_splits(path)
    except DataError:
        names = []
    if is_flat(path, names):
        has_clips = any(list_folders(os.path.join(path, name)) for name in names)
        return RecognizedData(kind="classes", path=path, names=tuple(names), has_clips=has_clips)
    if has_split_name(names) and _has_file(path, IMAGE_SUFFIXES):
        return RecognizedData(kind="splits", path=path, names=tuple(names))
    tables = [name for name in sorted(os.listdir(path)) if name.lower().endswith(TABLE_SUFFIXES)]
    if len(tables) == 1:
        table = os.path.normpath(os.path.join(path, tables[0]))
        return RecognizedData(kind="table", path=table, table=recognize_table(table))
    if tables:
        example = f"`featcache init {shlex.quote(os.path.normpath(os.path.join(path, tables[0])))}`"
        raise DataError(f"{path}: several tables are in it ({', '.join(tables)}); name one of them, as in {example}")
    return RecognizedData(kind="videos", path=path, names=tuple(names)) if _has_file(path, VIDEO_SUFFIXES) else None


def _has_file(folder: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether a file with one of these suffixes lies in a folder, at any depth; very many are not all seen."""
    seen = 0
    for _, _, names in os.walk(folder):
        if any(name.lower().endswith(suffixes) for name in names):
            return True
        seen += len(names)
        if seen > _MOST_FILES:
            return False
    return False
