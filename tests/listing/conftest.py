"""Recipes of tables, for the tests of what a table says."""

from pathlib import Path

import pytest

from featcache.errors import DataError
from featcache.recipe.recipe import Recipe, check_recipe
from tests.builders import find_recipe_splits


def recipe_of(root: Path, **keys: object) -> Recipe:
    data = {"layout": "table", "root": str(root), "table": "labels.csv", **keys}
    return check_recipe({"name": "birds", "data": data}, where="test")


def refused(recipe: Recipe) -> str:
    with pytest.raises(DataError) as caught:
        find_recipe_splits(recipe)
    assert caught.value.exit_code == 4
    return str(caught.value)
