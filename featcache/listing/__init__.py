"""Which images, with which labels. Nothing here reads a pixel."""

from featcache.listing import folder
from featcache.listing.listing import Listing, subset
from featcache.recipe import Recipe

__all__ = ["Listing", "list_split", "splits", "subset", "variant"]


def splits(recipe: Recipe) -> list[str]:
    """The splits that the recipe's data set has."""
    return folder.splits(recipe.data.root)


def variant(recipe: Recipe) -> str:  # noqa: ARG001 (an image folder has one cut; other layouts ask the recipe)
    """The name of the cut of the data set that the recipe asks for; an image folder has one."""
    return "all"


def list_split(recipe: Recipe, split: str) -> Listing:
    """The rows of one split, as the recipe lays them out."""
    return folder.list_folder(recipe.data.root, split, data_set=recipe.name, variant=variant(recipe))
