"""How the command line that was refused becomes the one that is advised."""

import pytest

from featcache.cli.corrections import correct_words, error_text, next_command
from featcache.errors import Correction, MachineError, UsageError

NAMES = ("extract", "fit-head", "report")


@pytest.mark.parametrize(
    ("typed", "wrong", "right", "corrected"),
    [
        ("extract photo", "photo", "photos", "extract photos"),
        ("fit logreg photos", "photos", "--data photos", "fit logreg --data photos"),
        ("report best latest", "latest", None, "report best"),
        ("extract x --split vall", "--split", "val", "extract x --split val"),
        ("extract x --split=vall -p y", "--split", "val", "extract x --split val -p y"),
        ("fit-head --lr 0.1 x --lr -1", "--lr", "0.003", "fit-head --lr 0.003 x"),
        ("fit-head x", "--lr", "0.003", "fit-head x --lr 0.003"),
        ("extract x --stride 2", "--stride", None, "extract x"),
        ("fit-head x --name base", "--name", "--head-name", "fit-head x --head-name base"),
        ("report --head 3", "--head", "", "report 3"),
        ("fit logreg C=abc", "C=", "C=1", "fit logreg C=1"),
        ("fit logreg c=1,2", "c=", "C=", "fit logreg C=1,2"),
        ("report x", "y", "z", "report x"),
        ("data -p numbr.toml", "--pipeline", "numbers.toml", "data --pipeline numbers.toml"),
        ("extract t --folds 0,1,7", "--fold", "0", "extract t --folds 0"),
        ("extract --data -p flowers", "--data", None, "extract -p flowers"),
    ],
)
def test_a_correction_changes_one_word_or_one_option(typed: str, wrong: str, right: str | None, corrected: str) -> None:
    """The other words stay as they were typed."""
    assert " ".join(correct_words(typed.split(), [Correction(wrong, right)])) == corrected


def test_a_corrected_command_is_quoted_for_the_shell() -> None:
    """A folder with a blank in its name is one word when it is pasted."""
    error = UsageError("no folder").correct("my photo", "'my photos'")
    assert next_command(error, ["extract", "my photo"], NAMES) == "featcache extract 'my photos'"


def test_a_usage_error_without_a_correction_ends_with_the_help_of_its_command() -> None:
    """It describes what the command takes; a command that there is not has the help of all."""
    assert error_text(UsageError("wrong"), ["report", "x"], NAMES) == "error: wrong\ntry: featcache report --help"
    assert next_command(UsageError("wrong"), ["x"], NAMES) == "featcache --help"


@pytest.mark.parametrize("error", [UsageError("run `featcache init` first"), MachineError("the disk is full")])
def test_no_command_is_added_where_the_message_has_one_or_none_helps(error: UsageError) -> None:
    """One next command is enough, and no help makes room on a disk."""
    assert error_text(error, ["extract", "x"], NAMES) == f"error: {error}"


def test_a_command_is_not_advised_as_it_was_typed() -> None:
    """What is wrong may stand in a recipe: its correction is of no word of the command."""
    error = MachineError("lables.csv: no such file").correct("lables.csv", "labels.csv")
    assert next_command(error, ["data"], NAMES) == ""
