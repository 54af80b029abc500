"""Which images, with which labels. Nothing here reads a pixel."""

import os
from collections.abc import Mapping

from featcache.listing.cuts import Cut, cuts
from featcache.listing.deal import Dealt
from featcache.listing.drive_act import DriveAct
from featcache.listing.folder import Folder
from featcache.listing.listing import Listing, is_frame_path, subset, video_and_frame
from featcache.listing.source import Source
from featcache.listing.table import Table
from featcache.recipe import DriveActData, Recipe, TableData

__all__ = [
    "Cut",
    "Dealt",
    "Listing",
    "Source",
    "cuts",
    "is_frame_path",
    "list_split",
    "root_of",
    "source",
    "splits",
    "subset",
    "variant",
    "video_and_frame",
]

_NOTHING: Mapping[str, str] = {}


def source(recipe: Recipe, dealt: Mapping[str, str] = _NOTHING) -> Source:
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
    return source(recipe).splits()


def list_split(recipe: Recipe, split: str, dealt: Mapping[str, str] = _NOTHING) -> Listing:
    """The rows of one split, as the recipe lays them out; `dealt` is `source`'s."""
    return source(recipe, dealt).listing(split)


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


def root_of(recipe: Recipe) -> str:
    """The absolute folder that the paths of the recipe's listings are relative to."""
    data = recipe.data
    if isinstance(data, TableData):
        return os.path.dirname(os.path.abspath(os.path.join(data.root, data.table)))
    return os.path.abspath(data.root)
