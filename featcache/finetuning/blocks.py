"""The blocks of a network, in order: what `unfreeze` counts, and what layer-wise learning-rate decay goes down by."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from featcache.trunks.libraries import LoadedNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The parts of a network, by depth; each parameter belongs to one of them."""

    stem: list[nn.Parameter]  # before the first block, and what belongs to no part, such as position embeddings
    blocks: tuple[nn.Module, ...]
    tail: tuple[nn.Module, ...]  # behind the last block: a last normalisation or convolution, trained with it

    def __len__(self) -> int:
        return len(self.blocks)

    def depths(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Yield each parameter and its depth: 0 of the stem, 1 … of the blocks, and one more of the tail."""
        yield from ((parameter, 0) for parameter in self.stem)
        for depth, block in enumerate(self.blocks, start=1):
            yield from ((parameter, depth) for parameter in block.parameters())
        for part in self.tail:
            yield from ((parameter, len(self.blocks) + 1) for parameter in part.parameters())


def find_blocks(network: "LoadedNetwork") -> Blocks:
    """Return the blocks of a network.

    Of a transformer they are its own. Of any other network they are the members of its lists of modules
    (`Sequential`, `ModuleList`), lists inside lists included: the residual blocks of a ResNet, the inverted residuals
    of an EfficientNet, the layers of a VGG. A network without such a list has its own parts as blocks.

    Args:
        network: As its library loaded it.
    """
    parts = [part for part in _parts(network.module, set(map(id, network.blocks))) if _has_parameters(part.module)]
    places = [place for place, part in enumerate(parts) if part.is_block]
    if not places:
        parts = [_Part(part.module, is_block=True) for part in parts]
        places = list(range(len(parts)))
    last = places[-1] if places else -1
    blocks = tuple(part.module for part in parts if part.is_block)
    tail = tuple(part.module for part in parts[last + 1 :])
    inside = {id(parameter) for module in (*blocks, *tail) for parameter in module.parameters()}
    stem = [parameter for parameter in network.module.parameters() if id(parameter) not in inside]
    return Blocks(stem, blocks, tail)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    module: nn.Module
    is_block: bool


def _parts(module: nn.Module, blocks: set[int]) -> Iterator[_Part]:
    """Yield the parts of a network in order; where a transformer's blocks are known, those alone are blocks."""
    for child in module.children():
        holds_blocks = any(id(inner) in blocks for inner in child.modules())
        if id(child) in blocks:
            yield _Part(child, is_block=True)
        elif holds_blocks:
            yield from _parts(child, blocks)
        elif not blocks and isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _members(child)
        else:
            yield _Part(child, is_block=False)


def _members(container: nn.Module) -> Iterator[_Part]:
    """Yield the members of a list of modules, and of the lists in it."""
    for child in container.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _members(child)
        else:
            yield _Part(child, is_block=True)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
