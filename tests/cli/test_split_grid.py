"""A grid without quotes, which a shell makes several words of."""

import shlex

import pytest

from featcache.cli.corrections import next_command
from featcache.cli.usage import refuse_split_grid
from featcache.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "advised"),
    [
        ("fit-head --grid lr=0.1,0.3 seed=0,1", "fit-head --grid 'lr=0.1,0.3 seed=0,1'"),
        ("fit-head x --grid lr=0.1 wd=0 seed=0 --json", "fit-head x --grid 'lr=0.1 wd=0 seed=0' --json"),
        ("fit-head --grid=lr=0.1 seed=0 x", "fit-head --grid 'lr=0.1 seed=0' x"),
    ],
)
def test_the_words_behind_a_grid_are_joined_in_the_command_that_is_advised(typed, advised):
    """It is quoted, so that it works when pasted."""
    words = shlex.split(typed)
    with pytest.raises(UsageError, match=r'of it: type --grid "lr=0\.1') as caught:
        refuse_split_grid(words[1:])
    assert next_command(caught.value, words, ["fit-head"]) == f"featcache {advised}"


@pytest.mark.parametrize("typed", ["x --grid 'lr=0.1 seed=0'", "--grid lr=0.1 x", "--grid", "logreg C=1,2", ""])
def test_a_grid_in_one_word_passes(typed):
    """With a folder behind it, too; and settings of a classifier are no grid."""
    refuse_split_grid(shlex.split(typed))
