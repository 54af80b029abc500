"""Position embeddings of images of one size, for images of another."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

POSITION_NAMES = ("pos_embed", "position_embedding", "positional_embedding")  # parts of their tensors' names
_MOST_PREFIX_TOKENS = 2  # a class token, and that of a distilled network


def grid_edge(count: int, other: int) -> tuple[int, int] | None:
    """Return how many of a network's positions are of no patch, and the edge of its grid of patches.

    Args:
        count: How many positions there are.
        other: How many there are for another image size: as many of them are of no patch.

    Returns:
        (prefix tokens, edge of the grid, patches); None where they are no square grids.
    """
    for prefix in (1, 0, _MOST_PREFIX_TOKENS):
        edges = [round(max(number - prefix, 0) ** 0.5) for number in (count, other)]
        if all(edge and edge**2 + prefix == number for edge, number in zip(edges, (count, other), strict=True)):
            return prefix, edges[0]
    return None


def own_image_size(positions: "Tensor", others: "Tensor", tensors: "Iterable[Tensor]") -> int | None:
    """Return the edge of the images that position embeddings are for, pixels; None where it does not follow.

    Args:
        positions: (1, t, d) or (t, d).
        others: Those for another image size.
        tensors: The network's, among which is the convolution that makes the patches.
    """
    patches = [v.shape[3] for v in tensors if v.ndim == 4 and v.shape[1] == 3 and v.shape[2] == v.shape[3]]
    grid = grid_edge(positions.shape[-2], others.shape[-2]) if 1 < positions.ndim == others.ndim else None
    return grid[1] * patches[0] if grid is not None and len(patches) == 1 else None


def interpolate_positions(positions: "Tensor", count: int) -> "Tensor | None":
    """Return position embeddings for another number of patches: bicubic with antialiasing, as timm has it.

    Args:
        positions: (1, t, d) or (t, d): those of prefix tokens, which stay, then of a square grid of patches.
        count: How many there are to be.

    Returns:
        (1, count, d) or (count, d), of the same type; None where either is no square grid.
    """
    from torch.nn import functional

    rows = positions.reshape(-1, positions.shape[-1])  # (t, d)
    source, target = grid_edge(len(rows), count), grid_edge(count, len(rows))
    if source is None or target is None:
        return None
    (prefix, edge), (_, wanted) = source, target
    grid = rows[prefix:].float().reshape(1, edge, edge, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(wanted, wanted), mode="bicubic", antialias=True)
    resized = grid.permute(0, 2, 3, 1).reshape(wanted * wanted, -1).to(rows.dtype)
    joined = rows.new_empty((count, rows.shape[1]))
    joined[:prefix], joined[prefix:] = rows[:prefix], resized
    return joined.reshape(*positions.shape[:-2], count, positions.shape[-1])
