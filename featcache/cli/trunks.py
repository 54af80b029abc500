"""`featcache trunks`."""

from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.app import command
from featcache.cli.options import Cache, Json
from featcache.cli.output import echo, echo_json, open_console
from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.trunks.libraries import TrunkList


@command()
def trunks(
    pattern: Annotated[
        str | None,
        typer.Argument(help="A part of the name, or a pattern: resnet50, timm:, 'vit_small*dinov2*'."),
    ] = None,
    cache: Cache = None,
    limit: Annotated[
        int, typer.Option("--limit", help="How many are shown with width, parameters and input size.  [from 1 up]")
    ] = 20,
    as_json: Json = False,
) -> None:
    """List the networks that --arch can name here, and which of their weights are on this machine."""
    from featcache.report import trunk_list_parts
    from featcache.store import cache_folder
    from featcache.trunks import WeightsMemo
    from featcache.trunks.libraries import list_trunks

    if limit < 1:
        raise UsageError(f"--limit: found {limit}, expected at least 1")
    listed = list_trunks(pattern, memo=WeightsMemo(cache_folder(cache), is_read_only=True), limit=limit)
    if as_json:
        echo_json(listed.to_json())
        return
    for part in trunk_list_parts(listed):
        open_console().print(part, crop=False)
    _say_how_to_go_on(listed)


def _say_how_to_go_on(listed: "TrunkList") -> None:
    """Print what is not shown, and how to see it."""
    more = len(listed.trunks) - listed.details
    if more:
        echo(f"… and {more:,} more: narrow the pattern, raise --limit, or have all names with --json")
    if listed.pattern is None:
        echo("`featcache trunks PART_OF_THE_NAME` lists networks, with width, parameters and input size")
