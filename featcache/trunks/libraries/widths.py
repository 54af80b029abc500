"""How wide the layers of a network are, by one forward."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featcache.errors import UsageError
from featcache.trunks.libraries.layers import LayerReader

if TYPE_CHECKING:
    from featcache.trunks.libraries.base import LoadedNetwork

_EVERYWHERE = ("cls", "mean", "pooled", "tokens")  # a network that has none of one of these is none to refuse


def measure_widths(network: "LoadedNetwork", layers: Sequence[str], arch_name: str) -> dict[str, int]:
    """Return the width of each of these layers that the network has, by one forward of a black image.

    Args:
        network: On the CPU.
        layers: Their names; of cls, mean, pooled and tokens, those that the network lacks are left out.
        arch_name: The network's name, for the message.

    Raises:
        UsageError: it has no such layer, or its forward fails.
    """
    import torch

    assert network.transform is not None  # noqa: S101 (`LibrarySource.loaded` refuses it)
    pixels = torch.zeros(1, 3, *network.transform.input_size)
    reader = LayerReader(network, [layer for layer in layers if layer not in _EVERYWHERE])
    with torch.inference_mode():
        try:
            named = reader(pixels)
            maps = network.forward(pixels)
        except (RuntimeError, TypeError, ValueError) as error:  # a network that does not take what it is given
            raise UsageError(
                f"{arch_name}: its forward fails on images of {pixels.shape[3]} x {pixels.shape[2]}: "
                f"{str(error).splitlines()[0]}"
            ) from None
    widths = {layer: value[0].numel() for layer, value in zip(reader.layers, named, strict=True)}
    values = {
        "cls": maps.cls,
        "mean": None if maps.patches is None else maps.patches[:, 0],
        "pooled": maps.pooled,
        "tokens": maps.patches,
    }
    return widths | {name: value[0].numel() for name, value in values.items() if value is not None and name in layers}
