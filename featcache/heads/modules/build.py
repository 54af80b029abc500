"""The torch module of a head: nothing but torch's own layers, from its settings."""

import torch
from torch import nn

from featcache.heads import HeadConfig
from featcache.heads.modules.attention import TokenAttention, TokenAttentionByClass, build_attention
from featcache.heads.modules.dropout import Dropout, Perceptron
from featcache.heads.modules.own import build_own
from featcache.heads.modules.temporal import ClipModule, build_temporal
from featcache.recipe import ATTENTION

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def build_module(config: HeadConfig, width: int, classes: int) -> nn.Module:
    """Return the module of a head, as torch initialises it on the current device.

    It takes rows (any number, width), or of a head over clips (any number, frames x width + 1), and returns logits
    (any number, classes).

    Args:
        config: the head's settings.
        width: of an embedding.
        classes: how many there are.

    Raises:
        ValueError: an embedding is not so many tokens.
        UsageError: of a head of one's own, as `build_own`.
        CacheError: of a head of one's own, as `build_own`.
    """
    if config.is_own:
        return build_own(config, width, classes)
    if config.is_over_clips:
        return build_temporal(config, width, classes)
    if config.head == ATTENTION:
        return build_attention(config, width, classes)
    if config.is_linear:  # on several labels or numbers: other linear heads are no torch modules
        layer = nn.Linear(width, classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return Perceptron(layer)
    layers: list[nn.Module] = []
    for units in config.hidden_widths:
        layers.append(nn.Linear(width, units, bias=not config.batch_norm))  # which takes the mean out again
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(units))
        layers.append(ACTIVATIONS[config.activation]())
        if config.dropout:
            layers.append(Dropout(config.dropout))
        width = units
    return Perceptron(*layers, nn.Linear(width, classes))


def seeded_module(config: HeadConfig, width: int, classes: int) -> nn.Module:
    """Return the module of a head with the first weights that its seed stands for: the same on every device.

    Args:
        config: the head's settings.
        width: of an embedding.
        classes: how many there are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return build_module(config, width, classes)


def output_layer(module: nn.Module) -> nn.Linear | None:
    """Return the last linear layer of a module of `build_module`, whose outputs are those of the module.

    Args:
        module: of a head; of any other, None may come back.
    """
    if isinstance(module, Perceptron):
        return next(layer for layer in reversed(list(module.children())) if isinstance(layer, nn.Linear))
    is_ours = isinstance(module, ClipModule | TokenAttention | TokenAttentionByClass)
    return module.output if is_ours else None  # type: ignore[return-value]  # mypy takes it for any attribute


def describe_module(module: nn.Module) -> str:
    """Return the expression that makes a module of torch's own layers: "torch.nn.Sequential(torch.nn.Linear(…".

    Of attention over tokens, the name of its class.

    Args:
        module: as `build_module` returns it.
    """
    if isinstance(module, TokenAttention | TokenAttentionByClass):
        return f"featcache.heads.modules.attention.{type(module).__name__}, over {module.tokens} tokens"
    layers = ", ".join(_describe_layer(layer) for layer in module.children())
    return f"torch.nn.Sequential({layers})"


def _describe_layer(layer: nn.Module) -> str:
    """Return the expression that makes one layer."""
    match layer:
        case nn.Linear():
            without = ", bias=False" if layer.bias is None else ""
            arguments = f"{layer.in_features}, {layer.out_features}{without}"
        case nn.BatchNorm1d():
            arguments = f"{layer.num_features}"
        case nn.Dropout():
            arguments = f"{layer.p:g}"
        case _:
            arguments = ""
    return f"torch.nn.{type(layer).__name__}({arguments})"
