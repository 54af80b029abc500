"""The data set that a recipe names: where its rows come from, and under which name they are kept."""

import os
from collections.abc import Mapping

from featcache.listing.drive_act import ANNOTATIONS, DriveAct
from featcache.listing.folder import Folder
from featcache.listing.listing import Listing
from featcache.listing.source import Source
from featcache.listing.split_assignment import Dealt
from featcache.listing.table import Table
from featcache.recipe import FRAMES, VIDEOS, DriveActData, Recipe, TableData

_NOTHING: Mapping[str, str] = {}


def data_source(recipe: Recipe, dealt: Mapping[str, str] = _NOTHING) -> Source:
    """The data set that a recipe names; what several of its splits need is read once.

    `dealt`: where the recipe asks for splits, what was written down when they were dealt (see `store.dealt`).
    """
    data, name, cut = recipe.data, recipe.name, variant(recipe)
    laid: Source
    match data:
        case DriveActData():
            laid = DriveAct(data, data_set=name, variant=cut)
        case TableData():
            laid = Table(data, data_set=name, variant=cut)
        case _:
            laid = Folder(data.root, name, cut)
    return laid if data.split is None else Dealt(laid, data.split, dealt)


def splits(recipe: Recipe) -> list[str]:
    """The splits that the recipe's data set has, or that the recipe asks for."""
    return data_source(recipe).splits()


def list_split(recipe: Recipe, split: str, dealt: Mapping[str, str] = _NOTHING) -> Listing:
    """The rows of one split, as the recipe lays them out; `dealt` is `source`'s."""
    return data_source(recipe, dealt).listing(split)


def variant(recipe: Recipe) -> str:
    """The name of the cut of the data set that the recipe asks for: folds, views, caps, strides, dealt splits."""
    data = recipe.data
    parts = ["all"]
    if isinstance(data, DriveActData):
        parts = [f"fold{data.fold}", data.view, str(data.frames_per_chunk or "all")]
        parts += [f"stride{data.stride}"] if data.stride != 1 else []
    if data.split is not None:
        asked = data.split
        parts += [f"{name}{share:g}" for name, share in asked.shares.items() if name != "train"]
        parts += [asked.by, f"seed{asked.seed}"]
    return "-".join(parts)


def settings_of(recipe: Recipe, *, videos: bool | None = None) -> dict[str, str]:
    """What decides which rows a listing has and which labels, beside its root and what its variant's name says.

    `videos`: whether the rows turned out to be frames of videos, where the recipe leaves that to what is there.
    """
    data = recipe.data
    found: dict[str, str] = {"layout": data.layout}
    match data:
        case DriveActData():
            root = os.path.abspath(data.root)
            there = os.path.abspath(data.annotations or os.path.join(root, ANNOTATIONS))
            found["annotations"] = os.path.relpath(there, root)
            usual = {None: "", True: VIDEOS, False: FRAMES}[videos]
            found["frames"] = data.frames or data.videos or usual
        case TableData():
            found |= {
                "table": os.path.basename(data.table),
                "path_column": data.path_column,
                "label_column": data.label_column,
                "split_column": data.split_column or "split",
                "clip_column": data.clip_column or "clip",
                "subject_column": data.subject_column or "subject",
            }
    if data.split is not None:  # a variant's name has six digits of a share
        found |= {name: repr(share) for name, share in data.split.shares.items() if name != "train"}
    return found


def differing_settings(recipe: Recipe, recorded: Mapping[str, str]) -> str:
    """What a recipe says otherwise than a listing was laid out, as a sentence's part; "" where nothing.

    A listing of an earlier version records nothing, and differs in nothing.
    """
    if not recorded:
        return ""
    wanted = settings_of(recipe)
    if wanted.get("frames") == "" and recorded.get("frames") in (FRAMES, VIDEOS):
        del wanted["frames"]  # what lies at one of these two usual places is meant
    differing = [name for name, value in wanted.items() if recorded.get(name) != value]
    return " and ".join(f"{name} = {wanted[name]!r} where it had {recorded.get(name, 'none')!r}" for name in differing)


def root_of(recipe: Recipe) -> str:
    """The absolute folder that the paths of the recipe's listings are relative to."""
    data = recipe.data
    if isinstance(data, TableData):
        return os.path.dirname(os.path.abspath(os.path.join(data.root, data.table)))
    return os.path.abspath(data.root)
