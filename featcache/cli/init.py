"""`featcache init`."""

import os
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer

from featcache.cli.app import command
from featcache.cli.output import echo, echo_stderr
from featcache.errors import FeatcacheError, UsageError
from featcache.text import printable


@command()
def init(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The folder of the data set, or a table; by default this folder.")
    ] = ".",
) -> None:
    """Write a commented featcache.toml for what lies in a folder, and say what was understood."""
    from featcache.dataset import write_starter
    from featcache.files import expand_home, publish
    from featcache.recipe import LOCAL_RECIPE, has_local_recipe

    if has_local_recipe():
        raise UsageError(_other_lines(folder))
    starter = write_starter(expand_home(folder))
    if starter.table is not None:
        name, text = starter.table
        if os.path.lexists(name):
            raise UsageError(
                f"there is a {name} here, and it stays as it is. Rename it, or type this in another folder; or, if it "
                f"is the table of these videos, write {LOCAL_RECIPE} yourself:\n{indent(starter.settings, '  ')}"
            )
        publish(Path(name).absolute(), text.encode("utf-8", "surrogateescape"), replace=True)
    publish(Path(LOCAL_RECIPE).absolute(), starter.text.encode(), replace=True)
    echo(starter.understood)
    for note in starter.notes:
        echo_stderr(f"note: {printable(note)}")
    echo(f"wrote {LOCAL_RECIPE}" + (f" and {starter.table[0]}" if starter.table is not None else ""))
    echo(f"next: {starter.command}")


def _other_lines(folder: str) -> str:
    """Return what to do where there is a recipe already: the lines that it would have for this folder."""
    from featcache.dataset import write_starter
    from featcache.files import expand_home
    from featcache.recipe import LOCAL_RECIPE

    kept = f"there is a {LOCAL_RECIPE} here, and it stays as it is. `featcache data` shows what it means"
    try:
        starter = write_starter(expand_home(folder))
    except FeatcacheError:  # nothing that a recipe could be written for
        starter = None
    if starter is None or starter.table is not None:  # a table that is not written is of no use
        return f"{kept}; to start anew, rename it or type this in another folder"
    shown = indent(starter.settings, "  ")
    return f"{kept}. To start anew, rename it, or put these lines for {folder} in the place of its own:\n{shown}"
