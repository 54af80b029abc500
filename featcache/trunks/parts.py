"""How a forward on a CPU is run: with as many images, and weights laid out, as is fastest there without other bits."""

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
_TRIES = 3  # timed runs of each layout of the weights, of which the fastest counts
_WORTHWHILE = 0.98  # of the time: to keep two layouts of the weights takes twice their memory


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
    if batch_size != BATCH["cpu"]:
        return batch_size
    if images < MEASURED_FROM:
        return find_small_part(network, batch_size, images)
    return measure_part(network, batch_size)


def find_small_part(network: "ViT", batch_size: int, images: int) -> int:
    """Return how many images a forward has where there are few: a whole batch would compute nothing most of the time.

    Args:
        network: The trunk.
        batch_size: Of the whole batch.
        images: How many there are to embed.
    """
    import torch

    part = min(_PARTS)
    if not 0 < images <= batch_size // 2:
        return batch_size
    short, pixels = _shorten(network), _noise(network, batch_size)
    with torch.inference_mode():  # the last rows tell: a kernel's blocks begin with the first
        is_same = torch.equal(_run(short, pixels[-part:], part), short(pixels)[-part:])
    return part if is_same else batch_size


def measure_part(network: "ViT", batch_size: int) -> int:
    """Return the fastest of a few numbers of images, of those that give the bits of the whole batch.

    A large result of a layer falls out of the caches, and is mapped and cleared anew by many an allocator; a small one
    leaves threads without work. The kernels of a linear layer are chosen by its number of rows, in bfloat16
    with other last bits for some widths. Two blocks of noise show both, since all blocks have the same shapes.

    Args:
        network: The trunk.
        batch_size: Of the whole batch.
    """
    import torch

    short, pixels = _shorten(network), _noise(network, batch_size)
    with torch.inference_mode():
        rows = short(pixels)
        parts = [part for part in _PARTS if torch.equal(_run(short, pixels, part), rows)]
        seconds = {part: min(_time(short, pixels, part) for _ in range(2)) for part in (batch_size, *parts)}
    return min(seconds, key=lambda part: seconds[part])


def pack_weights(network: "ViT", part: int) -> "ViT":
    """Return the network with its weights in the layout that oneDNN prefers, where that is faster and changes no bit.

    Args:
        network: The trunk.
        part: How many images each forward has; others are run with the weights as they are.
    """
    import torch

    from featcache.trunks.vit_blocks import has_fused

    if not has_fused(network.weight.dtype):
        return network
    short, pixels, inputs = _shorten(network), _noise(network, part), part * network.tokens
    packed = replace(short, blocks=tuple(block.pack(inputs) for block in short.blocks))
    with torch.inference_mode():
        if not torch.equal(packed(pixels), short(pixels)):
            return network
        before, after = (min(_time(choice, pixels, part) for _ in range(_TRIES)) for choice in (short, packed))
    if after > before * _WORTHWHILE:
        return network
    return replace(network, blocks=tuple(block.pack(inputs) for block in network.blocks))


def _shorten(network: "ViT") -> "ViT":
    """Return the first and the last of its blocks, which have the shapes of all."""
    layers = tuple(layer for layer in network.layers if block_of(layer) == 1) or ("cls",)
    return replace(network, blocks=(network.blocks[0], network.blocks[-1]), layers=layers)


def _noise(network: "ViT", images: int) -> "Tensor":
    """Return noise, (images, 3, height, width) uint8, the same in every process."""
    import torch

    edges = [edge * network.patch for edge in network.grid]
    return torch.randint(0, 256, (images, 3, *edges), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _run(network: "ViT", pixels: "Tensor", part: int) -> "Tensor":
    import torch

    return torch.cat([network(few) for few in torch.split(pixels, part)])


def _time(network: "ViT", pixels: "Tensor", part: int) -> float:
    began = time.perf_counter()
    _run(network, pixels, part)
    return time.perf_counter() - began
