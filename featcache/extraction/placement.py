"""Which devices `--device` means: one, several GPUs, or the domains of a large CPU."""

import re
from dataclasses import dataclass

from featcache.errors import UsageError
from featcache.machine import numa_domains
from featcache.trunks import choose_device

EXPECTED = "auto, all, cpu, cuda, cuda:N, cuda:N,cuda:M or mps"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a trunk runs."""

    device: str  # as torch calls it
    cores: tuple[int, ...] = ()  # of a part of the CPU; () is all that there are


def choose_placements(device: str) -> list[Placement]:
    """Return the devices that `--device` means; where they are several, each gets a process of its own.

    Args:
        device: "auto", "all", or names of devices with commas between.

    Raises:
        UsageError: no device, or one twice.
        MachineError: this machine has no such device.
    """
    if device == "all":
        return _all_placements()
    names = [re.sub(r":0+(?=\d)", ":", name) for name in device.split(",")]
    if len(set(names)) < len(names):
        raise UsageError(f"--device {device}: it names the same device twice")
    return [Placement(choose_device(name)) for name in names]


def _all_placements() -> list[Placement]:
    kind = choose_device("auto")
    if kind == "cuda":
        import torch

        return [Placement(f"cuda:{number}") for number in range(torch.cuda.device_count())]
    if kind == "cpu" and len(parts := numa_domains()) > 1:
        return [Placement("cpu", cores) for cores in parts]
    return [Placement(kind)]
