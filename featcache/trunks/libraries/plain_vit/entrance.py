"""What a library's network does before its first block: read off the network itself, for an image without contrast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featcache.trunks import Norm, Rotation
from featcache.trunks.libraries.plain_vit.blocks import NotPlainError, find_part, norm_of

_PRE_NORM = ("norm_pre", "ln_pre", "pre_layrnorm")  # as timm, open_clip and transformers spell it
_ROTATION = ("rope", "position_embeddings")  # what blocks are given


@dataclass(frozen=True, slots=True, eq=False)
class Entrance:
    """What comes into the first block."""

    patch_weight: Tensor  # (d, 3, p, p)
    prefix: Tensor  # (1, k, d): tokens before the patches, with their positions
    positions: Tensor  # (t - k, d): of the patches, the projection's bias among them
    pre_norm: Norm | None
    rotations: tuple[Rotation | None, ...]  # of each block
    has_pairs: bool  # whether neighbours are turned as pairs, not halves


class _StopError(Exception):
    """The first block was reached."""


def read_entrance(module: nn.Module, blocks: Sequence[nn.Module], input_size: tuple[int, int], prefix: int) -> Entrance:
    """Return what a network makes of an image of which every normalised pixel is 0, up to its first block.

    The patches' projection then gives its bias, so that what comes in is positions, class token and registers.

    Args:
        module: The network.
        blocks: Its blocks, in their order.
        input_size: (height, width) of an image, pixels.
        prefix: How many tokens stand before the patches.

    Raises:
        NotPlainError: it does something else before its blocks.
    """
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    patch = convolutions[0] if len(convolutions) == 1 else None
    if patch is None or patch.kernel_size != patch.stride or patch.padding not in ("valid", (0, 0)):
        raise NotPlainError("it does not cut images into patches by one convolution")
    pre_norm = find_part(_inner(module), _PRE_NORM, default=None)
    tokens, given = _stop_at(module, blocks[0], pre_norm if norm_of(pre_norm) is not None else None, input_size)
    rotations, has_pairs = _rotations_of(given, blocks, prefix)
    return Entrance(
        patch.weight, tokens[:, :prefix], tokens[0, prefix:], norm_of(pre_norm), rotations, has_pairs=has_pairs
    )


def _inner(module: Any) -> Any:
    """Return the transformer within open_clip's tower of timm, or transformers' of a whole CLIP; else the module."""
    return find_part(module, ("trunk", "vision_model"), default=module)


def _stop_at(
    module: nn.Module, block: nn.Module, pre_norm: nn.Module | None, input_size: tuple[int, int]
) -> tuple[Tensor, dict[str, Any]]:
    """Return the tokens that come in, before their normalisation, and what else the first block is given."""
    tokens: list[Tensor] = []
    given: dict[str, Any] = {}

    def keep(_module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        tokens.append(inputs[0])
        if _module is block:
            given.update(options)
            raise _StopError

    places = [place for place in (pre_norm, block) if place is not None]
    handles = [place.register_forward_pre_hook(keep, with_kwargs=True) for place in places]
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, *input_size))
    except _StopError:
        return tokens[0], given
    finally:
        for handle in handles:
            handle.remove()
    raise NotPlainError("its blocks are not what it runs")


def _rotations_of(
    given: dict[str, Any], blocks: Sequence[nn.Module], prefix: int
) -> tuple[tuple[Rotation | None, ...], bool]:
    """Return each block's rotation, and whether neighbours are pairs in it."""
    table = next((given[name] for name in _ROTATION if given.get(name) is not None), None)
    if table is None:
        return (None,) * len(blocks), False
    sine, cosine = table[::-1] if isinstance(table, tuple) else table.chunk(2, dim=-1)
    has_pairs = not isinstance(table, tuple) and not find_part(blocks[0], ("attn.rotate_half",), default=False)
    if has_pairs:
        sine, cosine = (torch.cat([part[..., ::2], part[..., 1::2]], dim=-1) for part in (sine, cosine))
    before = (*cosine.shape[:-2], prefix, cosine.shape[-1])
    rotation = Rotation(
        torch.cat([cosine.new_ones(before), cosine], dim=-2), torch.cat([sine.new_zeros(before), sine], dim=-2)
    )
    return (rotation,) * len(blocks), has_pairs
