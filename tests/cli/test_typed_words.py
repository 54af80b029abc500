"""Slips of a shell: a grid without quotes, of which it makes several words, and a variable that is not set."""

import shlex

import pytest
import typer

import featcache.cli  # noqa: F401 (its commands)
from featcache.cli.app import app
from featcache.cli.corrections import next_command
from featcache.cli.typed_words import read_words, refuse_split_grid
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


@pytest.mark.parametrize(
    ("typed", "advised"),
    [
        ("extract x --weights --arch resnet50", "extract x --arch resnet50"),
        ("fit-head --lr --val 0.2", "fit-head --val 0.2"),
    ],
)
def test_an_option_is_no_value_of_another(typed, advised):
    """What was to stand there is missing; the command that is advised leaves the option out."""
    name, *words = typed.split()
    command = typer.main.get_command(app).commands[name]
    with pytest.raises(UsageError, match="needs a value behind it, found the option --") as caught:
        read_words(words, command)
    assert next_command(caught.value, typed.split(), [name]) == f"featcache {advised}"
    assert read_words(["x", "--json", "--lr", "--", "--val"], command) == ["x", "--json", "--lr", "--", "--val"]
