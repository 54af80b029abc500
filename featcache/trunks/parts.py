"""How many images each forward on a CPU has: as many as are fastest there, of those that give the same bits."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featcache.trunks.hardware import BATCH
from featcache.trunks.vit_layers import block_of

if TYPE_CHECKING:
    from torch import Tensor

    from featcache.trunks.vit import ViT

# From so many images on the measurement, six forwards of two blocks, costs less than it saves.
MEASURED_FROM = 500
_PARTS = (16, 8)  # tried beside the whole batch


def choose_part(network: Any, device: str, batch_size: int, images: int) -> int:
    """Return how many images each forward has.

    Args:
        network: A ViT, or a library's network; of some the number is fixed, since their bits depend on it.
        device: As torch calls it.
        batch_size: The most; on other devices than a CPU, and where it is not the device's own, it is the answer.
        images: How many there are to embed.
    """
    if device != "cpu":
        return batch_size
    if network.part:
        return int(network.part)
    if batch_size != BATCH["cpu"] or images < MEASURED_FROM:
        return batch_size
    return measure_part(network, batch_size)


def measure_part(network: "ViT", batch_size: int) -> int:
    """Return the fastest of a few numbers of images, of those that give the bits of the whole batch.

    A large result of a layer is mapped and cleared anew each time by the allocator, and falls out of the caches; a
    small one leaves threads without work. The kernels of a linear layer are chosen by its number of rows, in bfloat16
    with other last bits for some widths. Two blocks of noise show both, since all blocks have the same shapes.

    Args:
        network: The trunk.
        batch_size: Of the whole batch.
    """
    import torch

    short = replace(
        network,
        blocks=(network.blocks[0], network.blocks[-1]),
        layers=tuple(layer for layer in network.layers if block_of(layer) == 1) or ("cls",),
    )
    edges = [edge * network.patch for edge in network.grid]
    noise = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        pixels = torch.randint(0, 256, (batch_size, 3, *edges), dtype=torch.uint8, generator=noise)
        rows = short(pixels)
        parts = [part for part in _PARTS if torch.equal(_run(short, pixels, part), rows)]
        seconds = {part: min(_time(short, pixels, part) for _ in range(2)) for part in (batch_size, *parts)}
    return min(seconds, key=lambda part: seconds[part])


def _run(network: "ViT", pixels: "Tensor", part: int) -> "Tensor":
    import torch

    return torch.cat([network(few) for few in torch.split(pixels, part)])


def _time(network: "ViT", pixels: "Tensor", part: int) -> float:
    began = time.perf_counter()
    _run(network, pixels, part)
    return time.perf_counter() - began
