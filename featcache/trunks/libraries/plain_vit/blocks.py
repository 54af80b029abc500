"""A library's transformer blocks -> those of the fast forward, whatever the library calls their parts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

from featcache.trunks import Activation, Block, Linear, Mlp, Norm, Rotation

# What the parts of a block are called, in torchvision, timm, transformers and open_clip.
_NORM_1 = ("norm1", "ln_1", "layernorm_before", "layer_norm1")
_NORM_2 = ("norm2", "ln_2", "layernorm_after", "layer_norm2")
_ATTENTION = ("attn", "self_attention", "attention", "self_attn")
_HEADS = ("num_heads", "num_attention_heads")
_OUT = ("proj", "out_proj", "o_proj")
_SCALE_1 = ("gamma_1", "ls1.gamma", "ls_1.gamma", "layer_scale1.lambda1")
_SCALE_2 = ("gamma_2", "ls2.gamma", "ls_2.gamma", "layer_scale2.lambda1")
_UP = ("fc1", "c_fc", "0", "up_proj", "fc1_g")
_GATED = ("gate_proj", "fc1_g")  # then `up` of the fast forward is this, and the other one is multiplied
_LINEAR = ("up_proj", "fc1_x")
_ACTIVATION = ("act", "activation_fn", "act_fn", "gelu", "1")
_DOWN = ("fc2", "c_proj", "3", "down_proj")
_QUICK = 1.702  # QuickGELU(x) = x sigmoid(1.702 x) = SiLU(1.702 x) / 1.702


class NotPlainError(Exception):
    """The network is no plain Vision Transformer; the message says why, a part of a sentence."""


def find_part(module: Any, names: Sequence[str], *, default: Any = NotPlainError) -> Any:
    """Return the first of a module's attributes that is there and not None; a dot leads into it.

    Args:
        module: The module.
        names: What it may be called.
        default: What is returned where there is none.

    Raises:
        NotPlainError: there is none, and no default.
    """
    for name in names:
        part = module
        for step in name.split("."):
            part = getattr(part, step, None)
        if part is not None:
            return part
    if default is NotPlainError:
        raise NotPlainError(f"its {type(module).__name__} has no {names[0]}")
    return default


def norm_of(module: Any) -> Norm | None:
    """Return a layer normalisation; None of one that does nothing.

    Raises:
        NotPlainError: it normalises otherwise.
    """
    if module is None or isinstance(module, nn.Identity):
        return None
    if not isinstance(module, nn.LayerNorm):
        raise NotPlainError(f"it normalises by {type(module).__name__}")
    return Norm(module.weight, module.bias, module.eps)


def _required_norm(module: Any) -> Norm:
    norm = norm_of(module)
    if norm is None:
        raise NotPlainError("a block of it has no normalisation")
    return norm


def linear_of(module: Any) -> Linear:
    """Return a linear layer.

    Raises:
        NotPlainError: it is none.
    """
    if not isinstance(module, nn.Linear):
        raise NotPlainError(f"it has a {type(module).__name__} in place of a linear layer")
    return Linear(module.weight, module.bias)


def _scale(linear: Linear, factor: "Tensor | float") -> Linear:
    """Return a linear layer whose outputs are multiplied by a factor, or by one each."""
    weight = linear.weight * (factor[:, None] if isinstance(factor, Tensor) else factor)
    return Linear(weight, None if linear.bias is None else linear.bias * factor)


def name_activation(function: Any) -> Activation | None:
    """Return which activation a library's module computes, by what it gives; None for QuickGELU.

    Raises:
        NotPlainError: it is none that is known.
    """
    x = torch.linspace(-6, 6, 49)
    values = function(x)
    known: dict[Activation | None, Tensor] = {
        "gelu": F.gelu(x), "gelu_tanh": F.gelu(x, approximate="tanh"), "silu": F.silu(x), "relu": F.relu(x),
        None: x * torch.sigmoid(_QUICK * x),
    }  # fmt: skip
    for name, expected in known.items():
        if torch.allclose(values, expected, atol=2e-6, rtol=1e-6):
            return name
    raise NotPlainError(f"its activation is {type(function).__name__}")


def _mlp_of(mlp: Any, scale: Tensor | None) -> Mlp:
    up, down = linear_of(find_part(mlp, _UP)), linear_of(find_part(mlp, _DOWN))
    activation = name_activation(find_part(mlp, _ACTIVATION))
    gate, norm = find_part(mlp, _GATED, default=None), norm_of(getattr(mlp, "norm", None))
    gated = None
    if gate is not None:
        up, gated = linear_of(gate), linear_of(find_part(mlp, _LINEAR))
    elif up.weight.shape[0] == 2 * down.weight.shape[1]:  # both in one product
        half = down.weight.shape[1]
        up, gated = up.part(slice(half)), up.part(slice(half, None))
    if activation is None:
        if norm is not None or gated is not None:
            raise NotPlainError("its QuickGELU is gated or normalised")
        up, down, activation = _scale(up, _QUICK), Linear(down.weight / _QUICK, down.bias), "silu"
    return Mlp(up, down if scale is None else _scale(down, scale), activation, gated, norm)


def _qkv_of(attention: Any) -> Linear:
    """Return queries, keys and values as one linear layer."""
    whole = getattr(attention, "qkv", None)
    if whole is not None:
        apart: list[Any] = [getattr(attention, f"{name}_bias", None) for name in "qkv"]
        return Linear(whole.weight, whole.bias if apart[0] is None else torch.cat(apart))
    if getattr(attention, "in_proj_weight", None) is not None:
        return Linear(attention.in_proj_weight, attention.in_proj_bias)
    parts = [linear_of(find_part(attention, (f"{name}_proj",))) for name in "qkv"]
    if len({part.weight.shape for part in parts}) > 1:
        raise NotPlainError("several of its queries share a key")
    biases = [part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts]
    has_bias = any(part.bias is not None for part in parts)
    return Linear(torch.cat([part.weight for part in parts]), torch.cat(biases) if has_bias else None)


def _halves(width: int) -> Tensor:
    """Return the order in which neighbours that a rotation turns as a pair stand in two halves."""
    return torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])


def _reorder(qkv: Linear, heads: int) -> Linear:
    """Return queries and keys with the numbers of each head in two halves; products of both stay what they are."""
    dim = qkv.weight.shape[0] // 3
    within = _halves(dim // heads)
    queries = torch.cat([head * (dim // heads) + within for head in range(heads)])
    order = torch.cat([queries, dim + queries, torch.arange(2 * dim, 3 * dim)])
    return Linear(qkv.weight[order], None if qkv.bias is None else qkv.bias[order])


def _reorder_norm(norm: Norm | None) -> Norm | None:
    if norm is None or norm.weight is None:
        return norm
    order = _halves(len(norm.weight))
    return Norm(norm.weight[order], None if norm.bias is None else norm.bias[order], norm.epsilon)


def block_of(block: Any, rotation: Rotation | None, *, has_pairs: bool) -> Block:
    """Return a library's block as one of the fast forward.

    Args:
        block: The module.
        rotation: Of its queries and keys, halves as pairs.
        has_pairs: Whether the library turns neighbours as pairs; the weights are reordered then.

    Raises:
        NotPlainError: it is another kind of block.
    """
    attention = find_part(block, _ATTENTION)
    heads, qkv = find_part(attention, _HEADS), _qkv_of(attention)
    norms = [norm_of(find_part(attention, names, default=None)) for names in (("q_norm", "ln_q"), ("k_norm", "ln_k"))]
    if has_pairs:
        qkv, norms = _reorder(qkv, heads), [_reorder_norm(norm) for norm in norms]
    out = linear_of(find_part(attention, _OUT))
    scales = [find_part(block, names, default=None) for names in (_SCALE_1, _SCALE_2)]
    return Block(
        norm_1=_required_norm(find_part(block, _NORM_1)),
        qkv=qkv,
        out=out if scales[0] is None else _scale(out, scales[0]),
        norm_2=_required_norm(find_part(block, _NORM_2)),
        mlp=_mlp_of(block.mlp, scales[1]),
        heads=heads,
        query_norm=norms[0],
        key_norm=norms[1],
        attention_norm=norm_of(find_part(attention, ("norm", "ln_inner"), default=None)),
        rotation=rotation,
    )
