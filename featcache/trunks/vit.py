"""The Vision Transformer's forward pass, for the layers that are kept and no more.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), section 3.1, with torchvision's weights and names:

    z_0  = [x_class; x_1 E; …; x_N E] + E_pos                  (1)
    z'_l = MSA(LN(z_(l-1))) + z_(l-1)          l = 1 … L       (2)
    z_l  = MLP(LN(z'_l)) + z'_l                l = 1 … L       (3)
    y    = LN(z_L^0)                                           (4)

Where only the class token is kept, of the last block only row 0 is ever read, so there (2) needs queries for one token
(keys and values for all), and (3) one row: 7 % of the network is never computed. Other layers are read from the same
forward (`vit_layers` has their names); the class token is computed in the same way beside them, so that its bytes do
not depend on what else is kept. Shapes below: n images, t tokens, d width, h heads.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

from featcache.media import ImageTransform
from featcache.trunks.architectures import Architecture
from featcache.trunks.vit_layers import block_of, grid_edge, kind_of

EPSILON = 1e-6  # torchvision's LayerNorm in ViT; torch's own default is 1e-5

# The class token goes through the last block this many times over, and one answer is kept. With few rows MKL takes
# other paths, whose last bits depend on where in the batch an image stands (measured: matrices of 2, 3, 5-7 and 9-11
# rows; never of a multiple of 8, nor from 12 on). An interrupted run puts images elsewhere in their batches, and must
# end with the same bytes, whatever the batch size.
SAME_ROWS = 8


@dataclass(frozen=True, slots=True)
class Linear:
    """x W^T + b."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        if _fuses(x):
            found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return found
        return F.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """The same through gelu, (…, in) -> (…, out)."""
        if _fuses(x):
            found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")
            return found
        return F.gelu(F.linear(x, self.weight, self.bias))

    def part(self, rows: slice) -> "Linear":
        """Some of the outputs; a view, nothing is copied."""
        return Linear(self.weight[rows], self.bias[rows])


def _fuses(x: Tensor) -> bool:
    """Whether oneDNN's own product serves: bias and gelu in the pass that writes the product, not in one each.

    F.linear on a CPU first spreads the bias over the output, then adds the product to it, and gelu reads and writes
    it all again: a fifth of the forward (measured, docs/decisions/040). The operator is the one that inductor
    compiles frozen linear layers to.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return x.device.type == "cpu" and has_fused(x.dtype)


@cache
def has_fused(dtype: torch.dtype) -> bool:
    """Whether torch has the operator, and it computes on this CPU: an internal name, so that it is asked, not trusted.

    In bfloat16 oneDNN has it from AVX-512 on; F.linear computes everywhere.
    """
    x, weight = torch.eye(8, dtype=dtype), (torch.arange(64) / 16).view(8, 8).to(dtype)
    bias = torch.ones(8, dtype=dtype)
    try:
        found = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(found, F.gelu(F.linear(x, weight, bias)), rtol=1e-5 if dtype == torch.float32 else 0.02)


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation over the width."""

    weight: Tensor  # (d,)
    bias: Tensor  # (d,)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, d) -> (…, d)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, EPSILON)


@dataclass(frozen=True, slots=True)
class Block:
    """Equations (2) and (3)."""

    norm_1: Norm
    qkv: Linear  # d -> 3 d: queries, keys, values, in this order
    out: Linear
    norm_2: Norm
    up: Linear  # d -> mlp
    down: Linear  # mlp -> d
    heads: int

    def __call__(self, z: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, d)."""
        query, key, value = self.qkv(self.norm_1(z)).chunk(3, dim=-1)  # each (n, t, d)
        z = z + self._attend(query, key, value)
        return z + self._mlp(z)

    def class_token(self, z: Tensor) -> Tensor:
        """(n, t, d) -> (n, 1, d): row 0 of what `__call__` gives."""
        normed = self.norm_1(z)
        return self._class_token(z, normed, *self._keys_and_values(normed))

    def class_token_and_all(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(n, t, d) -> (n, 1, d) and (n, t, d): what `class_token` gives, bit for bit, and what `__call__` gives.

        Keys and values are computed once; a few rows more of the rest cost nothing beside them.
        """
        normed = self.norm_1(z)
        key, value = self._keys_and_values(normed)
        tokens = z + self._attend(self.qkv.part(slice(z.shape[-1]))(normed), key, value)
        return self._class_token(z, normed, key, value), tokens + self._mlp(tokens)

    def _keys_and_values(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """(n, t, d) -> twice (n, t, d)."""
        key, value = self.qkv.part(slice(normed.shape[-1], None))(normed).chunk(2, dim=-1)
        return key, value

    def _class_token(self, z: Tensor, normed: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Four times (n, t, d) -> (n, 1, d)."""
        first, class_rows = (x[:, :1].expand(-1, SAME_ROWS, -1) for x in (z, normed))  # each (n, SAME_ROWS, d)
        first = first + self._attend(self.qkv.part(slice(z.shape[-1]))(class_rows), key, value)
        return (first + self._mlp(first))[:, :1]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(n, s, d) queries over (n, t, d) keys and values -> (n, s, d)."""

        def by_head(x: Tensor) -> Tensor:  # (n, ., d) -> (n, h, ., d / h)
            return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(by_head(query), by_head(key), by_head(value))  # (n, h, s, d / h)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _mlp(self, z: Tensor) -> Tensor:
        return self.down(self.up.gelu(self.norm_2(z)))


@dataclass(frozen=True, slots=True)
class ViT:
    """uint8 pixels in, the layers of each image out; the weights are cast once, when it is built."""

    patch: int
    embed_patch: Linear  # 3 patch^2 -> d; holds 1/255, mean and std too
    class_row: Tensor  # (1, 1, d): the class token with its position
    positions: Tensor  # (t - 1, d): of the patches
    blocks: tuple[Block, ...]
    norm: Norm
    layers: tuple[str, ...] = ("cls",)  # which are kept, in this order; each once

    def __call__(self, pixels: Tensor) -> Tensor:
        """(n, 3, crop, crop) uint8 -> (n, sum of the layers' widths) float32, side by side."""
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
            return dict.fromkeys(layers, self.norm(z[:, :1])[:, 0].float())
        tokens = self.norm(z).float()
        return {layer: _reduce(tokens, layer) for layer in layers}

    def _read_last(self, z: Tensor) -> dict[str, Tensor]:
        """Return the layers of the last block, (n, width) float32 each, from its input, (n, t, d)."""
        class_layers = [layer for layer in self.layers if block_of(layer) == 1 and kind_of(layer) in ("cls", "pooled")]
        rows: dict[str, Tensor] = {}
        if len(class_layers) == sum(block_of(layer) == 1 for layer in self.layers):
            first = self.blocks[-1].class_token(z)
        else:
            first, z = self.blocks[-1].class_token_and_all(z)
            rows = self._read(z, 1)
        return rows | dict.fromkeys(class_layers, self.norm(first)[:, 0].float())  # equation (4)

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        """(n, 3, crop, crop) uint8 -> (n, t, d), equation (1)."""
        n, _, height, width = pixels.shape
        p = self.patch
        grid = pixels.view(n, 3, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)  # (n, gh, gw, 3, p, p)
        centred = grid.reshape(n, -1, 3 * p * p).to(self.embed_patch.weight.dtype) - 128  # (n, t - 1, 3 p p)
        patches = self.embed_patch(centred) + self.positions  # (n, t - 1, d)
        return torch.cat([self.class_row.expand(n, -1, -1), patches], dim=1)


def _reduce(tokens: Tensor, layer: str) -> Tensor:
    """Return what a layer keeps of normalised tokens, the class token first: (n, t, d) -> (n, width) float32."""
    kind = kind_of(layer)
    if kind in ("cls", "pooled"):  # of the last block, `ViT` has another answer
        return tokens[:, 0]
    patches = tokens[:, 1:]
    if kind == "mean":
        return patches.mean(dim=1)
    if kind == "tokens":
        return patches.flatten(1)
    edge = math.isqrt(patches.shape[1])
    grid = patches.transpose(1, 2).reshape(len(patches), -1, edge, edge)  # (n, d, edge, edge)
    return F.adaptive_avg_pool2d(grid, grid_edge(layer)).flatten(2).transpose(1, 2).flatten(1)


def build(
    tensors: Mapping[str, Tensor],
    arch: Architecture,
    transform: ImageTransform,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    layers: tuple[str, ...] = ("cls",),
) -> ViT:
    """The network from torchvision's tensors (float32, without a classifier), cast and moved once.

    The normalisation folds into the patch projection: W ((x / 255 - mean) / std) + b = W' (x - 128) + b' with
    W' = W / (255 std) and b' = b + W ((128 / 255 - mean) / std). Pixels less 128 are whole numbers that bfloat16
    holds exactly and that lie around zero, so W' is rounded no more harmfully than W would be.
    """

    def cast(x: Tensor) -> Tensor:
        return x.to(device=device, dtype=dtype).contiguous()

    def linear(name: str, kind: str = ".") -> Linear:
        return Linear(cast(tensors[f"{name}{kind}weight"]), cast(tensors[f"{name}{kind}bias"]))

    def norm(name: str) -> Norm:
        return Norm(cast(tensors[f"{name}.weight"]), cast(tensors[f"{name}.bias"]))

    weight = tensors["conv_proj.weight"].double()  # (d, 3, p, p)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (transform.mean, transform.std))
    shift = (weight * ((128 / 255 - mean) / std)).sum(dim=(1, 2, 3))
    embed_patch = Linear(cast((weight / (255 * std)).flatten(1)), cast(tensors["conv_proj.bias"].double() + shift))
    positions = tensors["encoder.pos_embedding"]  # (1, t, d)
    blocks = []
    for number in range(arch.depth):
        name = f"encoder.layers.encoder_layer_{number}"
        blocks.append(
            Block(
                norm_1=norm(f"{name}.ln_1"),
                qkv=linear(f"{name}.self_attention.in_proj", "_"),
                out=linear(f"{name}.self_attention.out_proj"),
                norm_2=norm(f"{name}.ln_2"),
                up=linear(f"{name}.mlp.0"),
                down=linear(f"{name}.mlp.3"),
                heads=arch.heads,
            )
        )
    return ViT(
        patch=arch.patch,
        embed_patch=embed_patch,
        class_row=cast(tensors["class_token"] + positions[:, :1]),
        positions=cast(positions[0, 1:]),
        blocks=tuple(blocks),
        norm=norm("encoder.ln"),
        layers=layers,
    )
