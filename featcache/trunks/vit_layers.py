"""The layers that the fast forward of the Vision Transformers keeps, by name, and their widths. No torch here."""

import re
from collections.abc import Sequence
from typing import Literal

from featcache.errors import UsageError
from featcache.trunks.architectures import Architecture

AUTO_LAYER = "auto"  # the class token, where there is one
DEFAULT_LAYER = "cls"
_KEPT = re.compile(r"(cls|mean)(@-[1-9][0-9]?)?|pooled|tokens|grid[1-9][0-9]?")


def is_vit_layer(layer: str) -> bool:
    """Return whether the fast forward keeps a layer of this name; other names are read from a library's network.

    Args:
        layer: The layer's name.
    """
    return layer == AUTO_LAYER or _KEPT.fullmatch(layer) is not None


def kind_of(layer: str) -> str:
    """Return what is kept, wherever it is read: "mean" of "mean@-2", "grid" of "grid4"."""
    return layer.partition("@")[0].rstrip("0123456789")


def block_of(layer: str) -> int:
    """Return behind which block a layer is read, counted from the end: 2 of "cls@-2", 1 where none is named."""
    return int(layer.partition("@-")[2] or 1)


def grid_edge(layer: str) -> int:
    """Return how many cells an edge of "grid4" has: 4."""
    return int(layer.removeprefix("grid"))


def stored_type(stored: Literal["auto", "float32", "float16"], layer: str) -> Literal["float32", "float16"]:
    """Return in which type a layer is stored: as it is asked for; "auto" is the smaller one for tokens.

    Args:
        stored: As the recipe has it.
        layer: As "cls".
    """
    return stored if stored != "auto" else "float16" if layer.startswith(("tokens", "grid")) else "float32"


def resolve_layers(layers: Sequence[str]) -> tuple[str, ...]:
    """Return the layers that are kept, in their order, each once; "auto" is the class token.

    Args:
        layers: As a person names them.
    """
    return tuple(dict.fromkeys(DEFAULT_LAYER if layer == AUTO_LAYER else layer for layer in layers))


def vit_layer_width(arch: Architecture, crop: int, layer: str) -> int:
    """Return how many numbers a layer has.

    Args:
        arch: The Vision Transformer.
        crop: The edge of its input, pixels.
        layer: One that `is_vit_layer`.

    Raises:
        UsageError: it has fewer blocks, or fewer patches, than that.
    """
    kind, edge = kind_of(layer), crop // arch.patch
    if block_of(layer) > arch.depth:
        raise UsageError(
            f"layer {layer}: {arch.name} has {arch.depth} blocks; the output of the first is {kind}@-{arch.depth}"
        )
    if kind == "tokens":
        return edge * edge * arch.dim
    if kind != "grid":
        return arch.dim
    if grid_edge(layer) > edge:
        raise UsageError(f"layer {layer}: {arch.name} has {edge} x {edge} patches; grid{edge} is the finest")
    return grid_edge(layer) ** 2 * arch.dim
