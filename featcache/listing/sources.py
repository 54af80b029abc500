"""From a recipe to its data set: where the rows come from, and under which name and settings they are kept."""

import json
import os
import re
from collections.abc import Mapping
from typing import assert_never

from featcache.containers import is_hub_name, split_root
from featcache.listing.container_source import Containers
from featcache.listing.drive_act import DriveAct
from featcache.listing.drive_act_annotations import has_one_target
from featcache.listing.drive_act_files import ANNOTATIONS
from featcache.listing.folder import Folder
from featcache.listing.source import DataSource
from featcache.listing.split_assignment import AssignedSplits
from featcache.listing.table import Table
from featcache.recipe import (
    ACTIVITY,
    FRAMES,
    LABEL,
    LEVELS,
    VALUE,
    VIDEOS,
    ContainerData,
    DriveActData,
    FolderData,
    Recipe,
    TableData,
    UnknownData,
)

_NO_GROUPS: Mapping[str, str] = {}


def resolve_source(recipe: Recipe, assigned: Mapping[str, str] = _NO_GROUPS) -> DataSource:
    """Return the data set that a recipe names; what several of its splits need is read once.

    Args:
        recipe: Its `data` section says where the images are and how they are laid out.
        assigned: Group -> split as an earlier run assigned them, where the recipe asks for splits; see
            `store.read_split_assignment`.
    """
    data, name, variant = recipe.data, recipe.name, name_variant(recipe)
    source: DataSource
    match data:
        case DriveActData():
            source = DriveAct(data, data_set=name, variant=variant)
        case TableData():
            source = Table(data, data_set=name, variant=variant)
        case ContainerData():
            source = Containers(data, data_set=name, variant=variant)
        case FolderData():
            source = Folder(data.root, name, variant, is_divided=data.split is not None)
        case UnknownData():
            raise AssertionError(f"the recipe's check let the layout {data.layout!r} pass")
        case _:
            assert_never(data)
    return source if data.split is None else AssignedSplits(source, data.split, assigned)


def name_variant(recipe: Recipe) -> str:
    """Return the name of the variant that the recipe asks for: fold, view, cap, stride, level, target, assigned splits.

    Args:
        recipe: Its `data` section is read.
    """
    data = recipe.data
    parts = ["all"]
    if isinstance(data, DriveActData):
        parts = [f"fold{data.fold}", data.view, str(data.frames_per_chunk or "all")]
        parts += [f"stride{data.stride}"] if data.stride != 1 else []
        parts += [data.level] if data.level != LEVELS[0] else []
        parts += [_as_name(target)] if (target := _stated_target(data)) else []
    if isinstance(data, TableData) and data.fold is not None:
        parts = [f"fold{data.fold}", *parts]
    if isinstance(data, TableData) and data.targets != LABEL:
        parts += [data.targets, *([_as_name("_".join(data.target_columns))] if data.target_columns else [])]
    if data.split is not None:
        parts += [f"{name}{share:g}" for name, share in data.split.shares.items() if name != "train"]
        parts += [data.split.by, f"seed{data.split.seed}"]
    return "-".join(parts)


def _as_name(text: str) -> str:
    """Return a text as a part of a variant's name, which has at most 40 characters of it."""
    return re.sub(r"[^A-Za-z0-9._]+", "_", text)[:40]


def title_data_set(data_set: str, variant: str, *, all_folds: bool = False) -> str:
    """Return the data set as a heading names it: with its variant where it has several, "daa · fold0-kinect_color-49".

    Args:
        data_set: Its name.
        variant: That of its variant; "" where that is not known.
        all_folds: Whether the heading is of several folds: the variant is that of one.
    """
    shown = re.sub(r"^fold[0-9]+-", "", variant) if all_folds else variant
    is_whole = not shown or shown.split("-")[0] == "all"  # as it is, or with splits that featcache made
    return data_set if is_whole else f"{data_set} · {shown}"


def _stated_target(data: DriveActData) -> str | None:
    """Return the column that is predicted, where it is stated and not the only one of its level."""
    return None if data.target == ACTIVITY and has_one_target(data.level) else data.target


def list_data_settings(recipe: Recipe, *, videos: bool | None = None) -> dict[str, str]:
    """Return the settings that decide a listing's rows and labels, beside its root and its variant's name.

    Args:
        recipe: Its `data` section is read.
        videos: Whether the rows are frames of videos, where the recipe leaves that to what is on disk; None where
            nobody has looked.
    """
    data = recipe.data
    settings: dict[str, str] = {"layout": data.layout}
    match data:
        case DriveActData():
            root = os.path.abspath(data.root)
            annotations = os.path.abspath(data.annotations or os.path.join(root, ANNOTATIONS))
            settings["annotations"] = os.path.relpath(annotations, root)
            usual = {None: "", True: VIDEOS, False: FRAMES}[videos]
            settings["frames"] = data.frames or data.videos or usual
            if target := _stated_target(data):  # a variant's name has what of it a folder can be called
                settings["target"] = target
        case TableData():
            settings |= {
                "table": os.path.basename(data.table),
                "path_column": data.path_column,
                "label_column": data.label_column,
                "split_column": data.split_column or "split",
                "clip_column": data.clip_column or "clip",
                "subject_column": data.subject_column or "subject",
            }
            settings |= _target_settings(data)
            settings |= {} if data.fold_column is None else {"fold_column": data.fold_column}
        case ContainerData():
            settings["files"] = split_root(data.root)[1]
            settings |= {"source": data.root} if is_hub_name(data.root) else {}
            columns = {"label_column": data.label_column, "image_column": data.image_column}
            settings |= {name: column for name, column in columns.items() if column is not None}
    if data.split is not None:  # a variant's name has six digits of a share
        settings |= {name: repr(share) for name, share in data.split.shares.items() if name != "train"}
    return settings


def _target_settings(data: TableData) -> dict[str, str]:
    """Return the settings of a table's targets; none where each row has one class, as tables always could."""
    if data.targets == LABEL:
        return {}
    if data.targets == VALUE or data.target_columns is not None:
        return {"targets": data.targets, "target_columns": json.dumps(data.columns_of_targets)}
    names = {} if data.label_names is None else {"label_names": json.dumps(data.label_names)}
    return {"targets": data.targets, "label_separator": data.separator, **names}


def describe_differences(recipe: Recipe, recorded: Mapping[str, str]) -> str:
    """Return where a recipe's data settings differ from a listing's, as a part of a sentence; "" where nowhere.

    Args:
        recipe: Its `data` section is compared.
        recorded: A listing's settings, as `list_data_settings` gave them; one of an earlier version has none, and
            differs in nothing.
    """
    if not recorded:
        return ""
    wanted = list_data_settings(recipe)
    if wanted.get("frames") == "" and recorded.get("frames") in (FRAMES, VIDEOS):
        del wanted["frames"]  # what lies at one of these two usual places is meant
    differing = [name for name, value in wanted.items() if recorded.get(name) != value]
    return " and ".join(f"{name} = {wanted[name]!r} where it had {recorded.get(name, 'none')!r}" for name in differing)


def locate_root(recipe: Recipe) -> str:
    """Return the absolute folder that the paths of the recipe's listings are relative to.

    Args:
        recipe: Its `data` section is read; a relative root in it counts from the working folder.
    """
    data = recipe.data
    if isinstance(data, TableData):
        return os.path.dirname(os.path.abspath(os.path.join(data.root, data.table)))
    if isinstance(data, ContainerData):
        return split_root(data.root)[0]
    return os.path.abspath(data.root)
