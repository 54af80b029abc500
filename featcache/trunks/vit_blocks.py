"""The parts of a plain Vision Transformer: linear layers, normalisations, attention, MLPs, and how they are joined.

Every variant that libraries have is brought to this form when a network is built: a LayerScale is folded into the
linear layer before it, separate queries, keys and values into one product, QuickGELU into SiLU of scaled weights, the
pairs of a rotary embedding into its two halves. Shapes below: n images, t tokens, d width, h heads.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

from featcache.trunks.attention import attend

EPSILON = 1e-6  # torchvision's LayerNorm in ViT; torch's own default is 1e-5

# The class token goes through the last block this many times over, and one answer is kept. With few rows MKL takes
# other paths, whose last bits depend on where in the batch an image stands (measured: matrices of 2, 3, 5-7 and 9-11
# rows; never of a multiple of 8, nor from 12 on). An interrupted run puts images elsewhere in their batches, and must
# end with the same bytes, whatever the batch size.
SAME_ROWS = 8

Activation = Literal["gelu", "gelu_tanh", "silu", "relu"]
_FUSED: dict[Activation, tuple[str, str]] = {
    "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "silu": ("swish", ""),
    "relu": ("relu", ""),
}  # fmt: skip


def _activate(x: Tensor, activation: Activation) -> Tensor:
    if activation == "silu":
        return F.silu(x)
    if activation == "relu":
        return F.relu(x)
    return F.gelu(x, approximate="none" if activation == "gelu" else "tanh")


@dataclass(frozen=True, slots=True)
class Linear:
    """x W^T + b."""

    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)
    packed: Tensor | None = None  # the weight in oneDNN's own layout, for products of `packed_rows` inputs
    packed_rows: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        if _fuses(x):
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight(x), self.bias, "none", [], "")
            return product
        return F.linear(x, self.weight, self.bias)

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """Return the same through an activation, (…, out).

        Args:
            x: (…, in).
            activation: One of `Activation`.
        """
        if _fuses(x):
            name, algorithm = _FUSED[activation]
            weight = self._weight(x)
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, name, [], algorithm)
            return product
        return _activate(F.linear(x, self.weight, self.bias), activation)

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return the same times a factor, (…, out).

        Args:
            x: (…, in).
            factor: (…, out).
        """
        if _fuses(x):
            product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, factor, self.weight, self.bias, "mul")
            return product
        return F.linear(x, self.weight, self.bias) * factor

    def part(self, rows: slice) -> "Linear":
        """Return the layer of some of the outputs; a view, nothing is copied.

        Args:
            rows: Which outputs.
        """
        return Linear(self.weight[rows], None if self.bias is None else self.bias[rows])

    def pack(self, rows: int) -> "Linear":
        """Return the layer with its weight in the layout that oneDNN prefers, beside the plain one.

        Args:
            rows: Inputs of each product for which it is used, (rows, in).
        """
        return replace(self, packed=torch.ops.mkldnn._reorder_linear_weight(self.weight, rows), packed_rows=rows)

    def _weight(self, x: Tensor) -> Tensor:
        return self.weight if self.packed is None or x.shape[:-1].numel() != self.packed_rows else self.packed


def _fuses(x: Tensor) -> bool:
    """Whether oneDNN's own product serves: bias and activation in the pass that writes the product, not in one each.

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
    linear, plain = Linear(weight, torch.ones(8, dtype=dtype)), F.linear(x, weight, torch.ones(8, dtype=dtype))
    product = torch.ops.mkldnn._linear_pointwise
    try:
        pairs = [
            (product(x, weight, linear.bias, *(name, [], algorithm)), _activate(plain, activation))
            for activation, (name, algorithm) in _FUSED.items()
        ]  # fmt: skip
        pairs.append((product.binary(x, plain, weight, linear.bias, "mul"), plain * plain))
    except (AttributeError, RuntimeError):
        return False
    return all(torch.allclose(*pair, rtol=1e-5 if dtype == torch.float32 else 0.02) for pair in pairs)


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation over the width."""

    weight: Tensor | None  # (d,)
    bias: Tensor | None  # (d,)
    epsilon: float = EPSILON

    def __call__(self, x: Tensor) -> Tensor:
        """(…, d) -> (…, d)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary position embedding of queries and keys (Su et al., "RoFormer", 2021, section 3.2), halves as pairs."""

    cosine: Tensor  # (t, d / h) or (h, t, d / h); 1 where a token has no place in the image
    sine: Tensor  # the same; 0 there

    def __call__(self, x: Tensor) -> Tensor:
        """(n, h, t, d / h) -> the same."""
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return torch.addcmul(x * self.cosine, turned, self.sine)


@dataclass(frozen=True, slots=True)
class Mlp:
    """Two layers with an activation between; gated (SwiGLU), the first is multiplied by a linear layer of its input."""

    up: Linear  # d -> mlp
    down: Linear  # mlp -> d
    activation: Activation = "gelu"
    gated: Linear | None = None  # d -> mlp, no activation
    norm: Norm | None = None  # before `down`

    def __call__(self, x: Tensor) -> Tensor:
        """(…, d) -> (…, d)."""
        inner = self.up.activated(x, self.activation)
        if self.gated is not None:
            inner = self.gated.times(x, inner)
        return self.down(inner if self.norm is None else self.norm(inner))


@dataclass(frozen=True, slots=True)
class Block:
    """Equations (2) and (3) of `vit`; its attention may be narrower than d."""

    norm_1: Norm
    qkv: Linear  # d -> 3 d: queries, keys, values, in this order
    out: Linear
    norm_2: Norm
    mlp: Mlp
    heads: int
    query_norm: Norm | None = None  # of each head
    key_norm: Norm | None = None
    attention_norm: Norm | None = None  # before `out`
    rotation: Rotation | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, d)."""
        query, key, value = self._project(self.norm_1(z), slice(None), 3)
        z = z + self._attend(self._queries(query), self._keys(key), value)
        return z + self.mlp(self.norm_2(z))

    def pack(self, rows: int) -> "Block":
        """Return the block with its weights packed, as `Linear.pack` does.

        Args:
            rows: Images times tokens.
        """
        up, down, gated = self.mlp.up.pack(rows), self.mlp.down.pack(rows), self.mlp.gated
        mlp = replace(self.mlp, up=up, down=down, gated=None if gated is None else gated.pack(rows))
        return replace(self, qkv=self.qkv.pack(rows), out=self.out.pack(rows), mlp=mlp)

    def class_token(self, z: Tensor) -> Tensor:
        """Return row 0 of what `__call__` gives, (n, 1, d).

        Args:
            z: (n, t, d).
        """
        normed = self.norm_1(z)
        return self._class_token(z, normed, *self._keys_and_values(normed))

    def class_token_and_all(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `class_token` gives, (n, 1, d), bit for bit, and what `__call__` gives, (n, t, d).

        Keys and values are computed once; a few rows more of the rest cost nothing beside them.

        Args:
            z: (n, t, d).
        """
        normed = self.norm_1(z)
        key, value = self._keys_and_values(normed)
        tokens = z + self._attend(self._queries(self.qkv.part(slice(self._width))(normed)), key, value)
        return self._class_token(z, normed, key, value), tokens + self.mlp(self.norm_2(tokens))

    @property
    def _width(self) -> int:
        """Of all queries together."""
        return self.qkv.weight.shape[0] // 3

    def _keys_and_values(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """(n, t, d) -> keys by head, (n, h, t, d / h), and values, (n, t, d)."""
        key, value = self._project(normed, slice(self._width, None), 2)
        return self._keys(key), value

    def _project(self, normed: Tensor, outputs: slice, parts: int) -> tuple[Tensor, ...]:
        """Return so many parts of the outputs of `qkv`, each (n, t, d).

        Where it is traced, by a product each: an engine that reads the trace would copy the parts of a single one.
        """
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            product = self.qkv if outputs == slice(None) else self.qkv.part(outputs)
            return product(normed).chunk(parts, dim=-1)
        first, width = outputs.start or 0, self._width
        return tuple(self.qkv.part(slice(at, at + width))(normed) for at in range(first, first + parts * width, width))

    def _class_token(self, z: Tensor, normed: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(n, t, d) twice, keys and values -> (n, 1, d). The class token has no place: its query is not rotated."""
        first, class_rows = (x[:, :1].expand(-1, SAME_ROWS, -1) for x in (z, normed))  # each (n, SAME_ROWS, d)
        query = self._by_head(self.qkv.part(slice(self._width))(class_rows))
        first = first + self._attend(query if self.query_norm is None else self.query_norm(query), key, value)
        return (first + self.mlp(self.norm_2(first)))[:, :1]

    def _by_head(self, x: Tensor) -> Tensor:
        """(n, ., d) -> (n, h, ., d / h)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _queries(self, query: Tensor) -> Tensor:
        """(n, t, d) -> (n, h, t, d / h), normalised and rotated where the network does that."""
        query = self._by_head(query)
        query = query if self.query_norm is None else self.query_norm(query)
        return query if self.rotation is None else self.rotation(query)

    def _keys(self, key: Tensor) -> Tensor:
        """(n, t, d) -> (n, h, t, d / h), as `_queries`."""
        key = self._by_head(key)
        key = key if self.key_norm is None else self.key_norm(key)
        return key if self.rotation is None else self.rotation(key)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(n, h, s, d / h) queries over (n, h, t, d / h) keys and (n, t, d) values -> (n, s, d)."""
        mixed = attend(query, key, self._by_head(value))  # (n, h, s, d / h)
        joined = mixed.transpose(1, 2).flatten(2)
        return self.out(joined if self.attention_norm is None else self.attention_norm(joined))
