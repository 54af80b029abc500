"""`featcache init`."""

from pathlib import Path
from typing import Annotated

import typer

from featcache.cli.app import command
from featcache.cli.output import echo
from featcache.errors import UsageError


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
        raise UsageError(
            f"there is a {LOCAL_RECIPE} here, and it stays as it is. `featcache data` shows what it means; to start "
            f"anew, rename it or type this in another folder"
        )
    starter = write_starter(expand_home(folder))
    publish(Path(LOCAL_RECIPE).absolute(), starter.text.encode(), replace=True)
    echo(starter.understood)
    echo(f"wrote {LOCAL_RECIPE}")
    echo(f"next: {starter.command}")
