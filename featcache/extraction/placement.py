"""Which devices `--device` means: one, several GPUs, or the domains of a large CPU."""

import re
from dataclasses import dataclass

from featcache.errors import UsageError
from featcache.machine import domains
from featcache.trunks import choose_device

EXPECTED = "auto, all, cpu, cuda, cuda:N, cuda:N,cuda:M or mps"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trunk runs."""

    device: str  # as torch calls it
    cores: tuple[int, ...] = ()  # of a part of the CPU; () is all that there are


def places(asked: str) -> list[Place]:
    """The devices that are meant; where they are several, each gets a process of its own.

    Raises:
        UsageError: no device, or one twice.
        MachineError: this machine has no such device.
    """
    if asked == "all":
        return _all()
    names = [re.sub(r":0+(?=\d)", ":", name) for name in asked.split(",")]
    if len(set(names)) < len(names):
        raise UsageError(f"--device {asked}: the same device twice")
    return [Place(choose_device(name)) for name in names]


def _all() -> list[Place]:
    kind = choose_device("auto")
    if kind == "cuda":
        import torch

        return [Place(f"cuda:{number}") for number in range(torch.cuda.device_count())]
    if kind == "cpu" and len(found := domains()) > 1:
        return [Place("cpu", cores) for cores in found]
    return [Place(kind)]
