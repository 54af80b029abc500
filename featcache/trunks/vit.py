"""The Vision Transformer's forward pass, for the layers that are kept and no more.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), section 3.1:

    z_0  = [x_class; x_1 E; …; x_N E] + E_pos                  (1)
    z'_l = MSA(LN(z_(l-1))) + z_(l-1)          l = 1 … L       (2)
    z_l  = MLP(LN(z'_l)) + z'_l                l = 1 … L       (3)
    y    = LN(z_L^0)                                           (4)

Where only the class token is kept, of the last block only row 0 is ever read, so there (2) needs queries for one token
(keys and values for all), and (3) one row: 7 % of the network is never computed. Other layers are read from the same
forward (`vit_layers` has their names); the class token is computed in the same way beside them, so that its bytes do
not depend on what else is kept. Shapes below: n images, t tokens, d width, h heads.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

from featcache.media import ImageTransform
from featcache.trunks.architectures import Architecture
from featcache.trunks.vit_blocks import Block, Linear, Mlp, Norm
from featcache.trunks.vit_layers import block_of, grid_edge, kind_of


@dataclass(frozen=True, slots=True)
class Pooling:
    """What the network's own classifier reads of its normalised tokens: the layer `pooled`."""

    tokens: Literal["class", "patches", "all", "class and patches", "first two"] = "class"  # the mean of each
    norm: Norm | None = None
    head: Any = None  # a Linear, or a library's own module; behind the normalisation
    attention: torch.nn.Module | None = None  # in place of a mean

    @property
    def reads_class_token(self) -> bool:
        """Whether the class token is all that it reads."""
        return self.tokens == "class" and self.attention is None

    def __call__(self, tokens: Tensor, prefix: int) -> Tensor:
        """Normalised tokens, (n, t, d), of which `prefix` are no patches -> (n, width) float32."""
        pooled = self._choose(tokens, prefix)
        pooled = pooled if self.norm is None else self.norm(pooled)
        return (pooled if self.head is None else self.head(pooled)).float()

    def _choose(self, tokens: Tensor, prefix: int) -> Tensor:
        patches = tokens if self.tokens == "all" else tokens[:, prefix:]
        if self.attention is not None:
            pooled: Tensor = self.attention(patches)
            return pooled
        if self.tokens == "class":
            return tokens[:, 0]
        if self.tokens == "class and patches":
            return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)
        return (tokens[:, :2] if self.tokens == "first two" else patches).mean(dim=1)


@dataclass(frozen=True, slots=True)
class ViT:
    """uint8 pixels in, the layers of each image out; the weights are cast once, when it is built."""

    patch: int
    grid: tuple[int, int]  # rows and columns of patches
    embed_patch: Linear  # 3 patch^2 -> d; holds 1/255, mean and std too
    prefix: Tensor  # (1, k, d): the class token and registers, with their positions
    positions: Tensor | None  # (t - k, d): of the patches
    blocks: tuple[Block, ...]
    norm: Norm | None
    layers: tuple[str, ...] = ("cls",)  # which are kept, in this order; each once
    pre_norm: Norm | None = None  # before the first block
    pooling: Pooling = field(default_factory=Pooling)
    has_class_token: bool = True  # whether the first of the prefix is one
    part: int = 0  # images of every forward on a CPU; 0: as many as are given
    versions: tuple[tuple[str, str], ...] = ()  # of the library that it is from; recorded with what is embedded
    note: str = ""  # what is said of it beside the engine, a part of a sentence

    @property
    def weight(self) -> Tensor:
        """A tensor of the network's type, on its device."""
        return self.embed_patch.weight

    @contextmanager
    def in_float32(self) -> Iterator["ViT"]:
        """Yield a copy with its weights in float32."""
        yield cast_network(self, torch.float32)

    @property
    def tokens(self) -> int:
        """How many tokens an image has."""
        return self.grid[0] * self.grid[1] + self.prefix.shape[1]

    def __call__(self, pixels: Tensor) -> Tensor:
        """(n, 3, height, width) uint8 -> (n, sum of the layers' widths) float32, side by side."""
        z, rows = self._embed_patches(pixels), dict[str, Tensor]()
        last = min(map(block_of, self.layers))  # counted from the end; what comes behind it is not computed
        for number in range(len(self.blocks), max(last, 2) - 1, -1):
            z = self.blocks[-number](z)
            rows |= self._read(z, number)
        if last == 1:
            rows |= self._read_last(z)
        kept = [rows[layer] for layer in self.layers]
        return kept[0] if len(kept) == 1 else torch.cat(kept, dim=1)

    def _read(self, z: Tensor, block: int) -> dict[str, Tensor]:
        """Return the layers that are kept of a block's output, (n, t, d), each (n, width) float32.

        Args:
            z: The output.
            block: Which one, counted from the end: 1 is the last.
        """
        layers = [layer for layer in self.layers if block_of(layer) == block]
        if not layers:
            return {}
        if all(kind_of(layer) == "cls" for layer in layers):
            return dict.fromkeys(layers, self._normalise(z[:, :1])[:, 0].float())
        tokens = self._normalise(z)
        rows = {layer: self.pooling(tokens, self.prefix.shape[1]) for layer in layers if kind_of(layer) == "pooled"}
        tokens = tokens.float()
        return {layer: self._reduce(tokens, layer) for layer in layers if layer not in rows} | rows

    def _read_last(self, z: Tensor) -> dict[str, Tensor]:
        """Return the layers of the last block, (n, width) float32 each, from its input, (n, t, d)."""
        if not self.has_class_token:
            return self._read(self.blocks[-1](z), 1)
        layers = [layer for layer in self.layers if block_of(layer) == 1]
        kinds = ("cls", "pooled") if self.pooling.reads_class_token else ("cls",)
        rows: dict[str, Tensor] = {}
        if all(kind_of(layer) in kinds for layer in layers):
            first = self.blocks[-1].class_token(z)
        else:
            first, z = self.blocks[-1].class_token_and_all(z)
            rows = self._read(z, 1)
        first = self._normalise(first)  # equation (4)
        rows |= {layer: first[:, 0].float() for layer in layers if kind_of(layer) == "cls"}
        return rows | {layer: self.pooling(first, 1) for layer in layers if kind_of(layer) == "pooled" and kinds[1:]}

    def _normalise(self, z: Tensor) -> Tensor:
        return z if self.norm is None else self.norm(z)

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        """(n, 3, height, width) uint8 -> (n, t, d), equation (1)."""
        n, (rows, columns), p = len(pixels), self.grid, self.patch
        grid = pixels.view(n, 3, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5)  # (n, gh, gw, 3, p, p)
        centred = grid.reshape(n, -1, 3 * p * p).to(self.embed_patch.weight.dtype) - 128  # (n, t - k, 3 p p)
        patches = self.embed_patch(centred)  # (n, t - k, d)
        patches = patches if self.positions is None else patches + self.positions
        z = torch.cat([self.prefix.expand(n, -1, -1), patches], dim=1)
        return z if self.pre_norm is None else self.pre_norm(z)

    def _reduce(self, tokens: Tensor, layer: str) -> Tensor:
        """Return what a layer keeps of normalised tokens, the prefix first: (n, t, d) -> (n, width) float32."""
        kind = kind_of(layer)
        if kind == "cls":  # of the last block, `_read_last` has another answer
            return tokens[:, 0]
        patches = tokens[:, self.prefix.shape[1] :]
        if kind == "mean":
            return patches.mean(dim=1)
        if kind == "tokens":
            return patches.flatten(1)
        grid = patches.transpose(1, 2).reshape(len(patches), -1, *self.grid)  # (n, d, rows, columns)
        return F.adaptive_avg_pool2d(grid, grid_edge(layer)).flatten(2).transpose(1, 2).flatten(1)


def cast_network(value: Any, dtype: torch.dtype, device: str | torch.device | None = None) -> Any:
    """Return a copy of nested dataclasses and tuples, with every tensor of another type, in one piece, on a device.

    Args:
        value: As a `ViT`.
        dtype: Of its tensors.
        device: Of them; None: where they are.
    """
    if is_dataclass(value) and not isinstance(value, type):
        names = [entry.name for entry in fields(value)]
        return replace(value, **{name: cast_network(getattr(value, name), dtype, device) for name in names})
    if isinstance(value, tuple):
        return tuple(cast_network(item, dtype, device) for item in value)
    if isinstance(value, torch.nn.Module):
        import copy

        return copy.deepcopy(value).to(device=device, dtype=dtype)
    if isinstance(value, Tensor):  # a packed weight is for one type and device
        return None if value.is_mkldnn else value.to(device=device, dtype=dtype).contiguous()
    return value


def fold_transform(weight: Tensor, bias: Tensor | None, transform: ImageTransform) -> Linear:
    """Return the patch projection of pixels less 128, from that of normalised pixels.

    The normalisation folds into it: W ((x / 255 - mean) / std) + b = W' (x - 128) + b' with W' = W / (255 std) and
    b' = b + W ((128 / 255 - mean) / std). Pixels less 128 are whole numbers that bfloat16 holds exactly and that lie
    around zero, so W' is rounded no more harmfully than W would be.

    Args:
        weight: (d, 3, p, p) of a convolution whose stride is its size.
        bias: (d,).
        transform: Has mean and standard deviation.

    Returns:
        It in float64.
    """
    weight = weight.double()
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (transform.mean, transform.std))
    shift = (weight * ((128 / 255 - mean) / std)).sum(dim=(1, 2, 3))
    return Linear((weight / (255 * std)).flatten(1), shift if bias is None else bias.double() + shift)


def build(
    tensors: Mapping[str, Tensor],
    arch: Architecture,
    transform: ImageTransform,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    layers: tuple[str, ...] = ("cls",),
) -> ViT:
    """The network from torchvision's tensors (float32, without a classifier), cast and moved once."""

    def linear(name: str, kind: str = ".") -> Linear:
        return Linear(tensors[f"{name}{kind}weight"], tensors[f"{name}{kind}bias"])

    def norm(name: str) -> Norm:
        return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def block(name: str) -> Block:
        return Block(
            norm_1=norm(f"{name}.ln_1"),
            qkv=linear(f"{name}.self_attention.in_proj", "_"),
            out=linear(f"{name}.self_attention.out_proj"),
            norm_2=norm(f"{name}.ln_2"),
            mlp=Mlp(linear(f"{name}.mlp.0"), linear(f"{name}.mlp.3")),
            heads=arch.heads,
        )

    positions, edge = tensors["encoder.pos_embedding"], transform.crop // arch.patch  # (1, t, d)
    network: ViT = cast_network(
        ViT(
            patch=arch.patch,
            grid=(edge, edge),
            embed_patch=fold_transform(tensors["conv_proj.weight"], tensors["conv_proj.bias"], transform),
            prefix=tensors["class_token"] + positions[:, :1],
            positions=positions[0, 1:],
            blocks=tuple(block(f"encoder.layers.encoder_layer_{number}") for number in range(arch.depth)),
            norm=norm("encoder.ln"),
            layers=layers,
        ),
        dtype,
        device,
    )
    return network
