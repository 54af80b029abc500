"""A library's network -> the fast forward's description of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from featcache.media import ImageTransform
from featcache.trunks import Linear, Pooling, ViT, fold_transform, is_vit_layer
from featcache.trunks.libraries.plain_vit.blocks import NotPlainError, block_of, find_part, norm_of
from featcache.trunks.libraries.plain_vit.entrance import read_entrance

if TYPE_CHECKING:
    from featcache.trunks.libraries import LoadedNetwork

_ROWS = 1_500  # of a matrix, one for each token


def describe_plain_vit(network: "LoadedNetwork", layers: Sequence[str], transform: ImageTransform) -> ViT:
    """Return a network as the fast forward has it; its tensors are the module's own where nothing is folded in.

    Args:
        network: The network, float32 on the CPU; it stays as it is.
        layers: Which are kept, in this order.
        transform: Has the mean and the standard deviation of the pixels.

    Raises:
        NotPlainError: it is no plain ViT, or a layer is read elsewhere.
    """
    others = [layer for layer in layers if not is_vit_layer(layer)]
    if others:
        raise NotPlainError(f"layer {others[0]} is read from it")
    try:
        return _describe(network, tuple(layers), transform)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise NotPlainError(f"its parts do not fit together as those of a plain ViT: {reason}") from None


def _describe(network: "LoadedNetwork", layers: tuple[str, ...], transform: ImageTransform) -> ViT:
    if not network.blocks:
        raise NotPlainError("it is no ViT")
    prefix, input_size = network.prefix_tokens, transform.input_size
    entrance = read_entrance(network.module, network.blocks, input_size, prefix)
    patch = entrance.patch_weight.shape[-1]
    if entrance.patch_weight.shape[-2] != patch or any(edge % patch for edge in input_size):
        raise NotPlainError(f"its patches of {patch} pixels do not cover images of {input_size[1]} x {input_size[0]}")
    blocks = [
        block_of(block, rotation, has_pairs=entrance.has_pairs)
        for block, rotation in zip(network.blocks, entrance.rotations, strict=True)
    ]
    return ViT(
        patch=patch,
        grid=(input_size[0] // patch, input_size[1] // patch),
        embed_patch=fold_transform(entrance.patch_weight, None, transform),
        prefix=entrance.prefix,
        positions=entrance.positions,
        blocks=tuple(blocks),
        norm=norm_of(network.norm),
        layers=layers,
        part=_part_of(prefix + len(entrance.positions)),
        pre_norm=entrance.pre_norm,
        pooling=pooling_of(network),
        has_class_token=network.has_class_token and prefix > 0,
    )


def _part_of(tokens: int) -> int:
    """Return how many images each forward on a CPU has; it depends on nothing else, and neither do a row's bits.

    So many that packing the weights for a product is small beside the product, and its result beside the caches.
    """
    return next((part for part in (8, 16) if part * tokens >= _ROWS), 32)


def pooling_of(network: "LoadedNetwork") -> Pooling:
    """Return what a network's own classifier reads, by its library.

    Raises:
        NotPlainError: it is read in a way that is not known.
    """
    module: Any = network.module
    if hasattr(module, "trunk"):  # a tower of timm's in open_clip, with a projection behind its head
        return replace(_pooling_of_timm(module.trunk), head=torch.nn.Sequential(module.trunk.head, module.head))
    library = type(module).__module__.partition(".")[0]
    known = {"timm": _pooling_of_timm, "transformers": _pooling_of_transformers, "open_clip": _pooling_of_open_clip}
    return known[library](module) if library in known else Pooling()


def _pooling_of_timm(model: Any) -> Pooling:
    norm, attention = norm_of(model.fc_norm), getattr(model, "attn_pool", None)
    if attention is not None:
        return Pooling("all" if getattr(model, "pool_include_prefix", False) else "patches", norm, attention=attention)
    if hasattr(model, "dist_token"):
        return Pooling("first two", norm)
    if model.global_pool == "avg":
        return Pooling("all" if getattr(model, "pool_include_prefix", False) else "patches", norm)
    if model.global_pool == "token":
        return Pooling("class", norm)
    raise NotPlainError(f"its tokens are pooled by {model.global_pool or 'nothing'}")


def _pooling_of_transformers(module: Any) -> Pooling:
    kind = module.config.model_type
    if kind in ("dinov2", "dinov2_with_registers"):
        return Pooling("class and patches")
    if kind == "siglip_vision_model":
        head = find_part(module, ("head", "vision_model.head"))
        return Pooling("patches", attention=head)
    return Pooling(
        "class"
        if find_part(
            module,
            ("embeddings.cls_token", "embeddings.class_embedding", "vision_model.embeddings.class_embedding"),
            default=None,
        )
        is not None
        else "patches"
    )


def _pooling_of_open_clip(visual: Any) -> Pooling:
    if visual.pool_type != "tok" or visual.attn_pool is not None:
        raise NotPlainError("its tokens are pooled by attention" if visual.attn_pool else "its tokens are averaged")
    return Pooling("class", head=None if visual.proj is None else Linear(visual.proj.T, None))
