"""Which images, with which labels. Nothing here reads a pixel."""

import re

from featcache.errors import DataError
from featcache.listing import folder
from featcache.listing.listing import Listing, subset
from featcache.recipe import NAME, Recipe

__all__ = ["Listing", "list_split", "splits", "subset", "variant"]


def splits(recipe: Recipe) -> list[str]:
    """The splits that the recipe's data set has."""
    return folder.splits(recipe.data.root, data_set=recipe.name)


def variant(recipe: Recipe) -> str:  # noqa: ARG001 (an image folder has one cut; other layouts ask the recipe)
    """The name of the cut of the data set that the recipe asks for; an image folder has one."""
    return "all"


def list_split(recipe: Recipe, split: str) -> Listing:
    """The rows of one split, as the recipe lays them out."""
    found = folder.list_folder(recipe.data.root, split, data_set=recipe.name, variant=variant(recipe))
    if not re.fullmatch(NAME, split):
        raise DataError(
            f"{found.root}: split {split!r} would name a file of the cache; expected letters, digits, '.', '_' and "
            f"'-' alone: rename its folder, or name the splits that are meant with --split"
        )
    return found
