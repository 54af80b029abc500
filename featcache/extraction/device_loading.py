"""The devices of a command, each with the trunk on it: in this process where there is one, else in one of its own."""

from collections.abc import Iterator, Sequence
from functools import partial

from featcache.extraction.devices import Device
from featcache.extraction.placement import Placement
from featcache.extraction.summary import Settings
from featcache.extraction.trunk_process import TrunkProcess
from featcache.trunks import TrunkSource, TrunkSpec, load_trunk


def open_devices(
    source: TrunkSource,
    spec: TrunkSpec,
    widths: dict[str, int],
    placements: Sequence[Placement],
    settings: Settings,
    *,
    images: int,
) -> Iterator[Device]:
    """Yield the devices, each of which begins to load the trunk.

    Args:
        source: The trunk.
        spec: What it is to make; of several layers, the spec of one of them.
        widths: The layers that are read from each forward, in their order, and how many numbers each has.
        placements: Where the trunk runs.
        settings: Batch size and engine.
        images: How many there are to do: engine "auto" depends on it.

    Raises:
        MachineError: the weights are out of reach, or a process cannot be started.
    """
    layers = tuple(widths)
    if len(placements) == 1:
        device = placements[0].device
        _ = source.tensors  # read (or fetched) here, where Ctrl-C ends it; the device's thread cannot be ended
        yield Device(
            partial(
                load_trunk, source, spec, device=device, layers=layers, batch_size=settings.batch_size,
                engine=settings.engine, images=images,
            )
        )  # fmt: skip
        return
    if (file := source.file) is not None and not file.exists():
        _ = source.tensors  # fetched once, not by every process
    for placement in placements:
        process = TrunkProcess(
            source, spec, placement, layers=layers, dim=sum(widths.values()), batch_size=settings.batch_size,
            engine=settings.engine, images=images // len(placements),
        )  # fmt: skip
        yield Device(process.load, process.kill, process.close)
