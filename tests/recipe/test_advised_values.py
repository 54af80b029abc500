"""The value that is advised in the place of one that a setting does not take."""

import pytest

from featcache.errors import UsageError
from featcache.recipe import Recipe, check_recipe

RECIPE = check_recipe({"name": "a", "data": {"root": "a"}}, where="some.toml")


def refused(recipe: Recipe, section: str, **settings: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        recipe.override(section, **settings)
    return caught.value


@pytest.mark.parametrize(
    ("typed", "advised"),
    [("best", "head best"), ("haed", "head best"), ("scrach", "scratch"), ("weigths", "weights")],
)
def test_what_is_no_start_is_a_fault_of_the_option_that_there_is(typed, advised):
    """The setting `start` is typed as --from, and what looks like a head's name is advised as one."""
    error = refused(RECIPE, "finetune", start=typed)
    assert str(error) == f"--from: found {typed!r}, expected scratch, weights, or head NAME"
    assert [(one.wrong, one.right) for one in error.corrections] == [("--from", advised)]


def test_a_share_that_was_typed_in_per_cent_is_advised_as_a_share():
    """30 stands for 0.3 where a share is expected; another number outside is advised as the default."""
    assert refused(RECIPE, "head", dropout=30.0).corrections[0].right == "0.3"
    assert refused(RECIPE, "head", dropout=-1.0).corrections[0].right == "0"
    assert refused(RECIPE, "finetune", epochs=0).corrections[0].right == "10"
