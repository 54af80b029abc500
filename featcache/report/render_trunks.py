"""The table of the networks that can be named."""

from collections.abc import Iterator

from rich.console import RenderableType

from featcache.report.columns import Column, FittingTable
from featcache.trunks.libraries import TrunkList

_ELSEWHERE = "and --json has them all"


def trunk_list_parts(listed: TrunkList) -> Iterator[RenderableType]:
    """Yield what `featcache trunks` shows: of no pattern the libraries, then networks.

    Args:
        listed: What was found.
    """
    if listed.pattern is None:
        yield _libraries(listed)
        none = "\nno published weights are on this machine yet; `--weights FILE` names a file with others"
        yield "" if listed.trunks else none
    shown = listed.trunks[: listed.details]
    if not shown:
        return
    if listed.pattern is None:
        yield "weights on this machine:"
    sizes = [trunk.input_size for trunk in shown]
    yield FittingTable(
        [
            Column(heading="--arch", cells=[trunk.arch for trunk in shown], is_name=True),
            Column(heading="width", cells=[_count(trunk.width) for trunk in shown]),
            Column(heading="parameters", cells=[_count(trunk.parameters) for trunk in shown]),
            Column(heading="input", cells=["-" if size is None else f"{size[1]} x {size[0]}" for size in sizes]),
            Column(
                heading="weights on this machine", cells=[", ".join(trunk.weights) or "-" for trunk in shown],
                is_name=True,
            ),
        ],
        _ELSEWHERE,
    )  # fmt: skip


def _libraries(listed: TrunkList) -> FittingTable:
    libraries = listed.libraries
    return FittingTable(
        [
            Column(heading="library", cells=[library.name for library in libraries], is_name=True),
            Column(heading="networks", cells=[_count(library.models) for library in libraries]),
            Column(heading="--arch", cells=[library.named_as for library in libraries], is_name=True),
            Column(
                heading="installed", cells=[library.install or library.version or "-" for library in libraries],
                is_name=True,
            ),
        ],
        _ELSEWHERE,
    )  # fmt: skip


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
