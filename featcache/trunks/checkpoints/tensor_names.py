"""Whose names a checkpoint's tensors have: what to say of weights that are none of torchvision's, or of another ViT."""

import re
from collections.abc import Mapping

from featcache.trunks import ARCHITECTURES

_SIZES = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H", 1408: "g", 1664: "G"}
_Shapes = Mapping[str, tuple[int, ...]]


def recognize_names(shapes: _Shapes, arch: str = "") -> str:
    """Return a sentence that says whose names these are and what to do; "" where they are nobody's that are known.

    Args:
        shapes: By name, the shape of each tensor.
        arch: The network that they were taken for.
    """
    names = {re.sub(r"^(module|model|backbone|encoder|teacher|student|net|vit|visual\.trunk)\.", "", n) for n in shapes}
    if "conv_proj.weight" in shapes and "class_token" in shapes:
        return _describe_torchvision(shapes, arch)
    if _has(names, "Transformer/encoderblock_0", "encoderblock_0"):
        return "These are the names of the original ViT for JAX; featcache reads torchvision's."
    if _has(names, "patch_embed.proj.weight") and _has(names, "blocks.0.attn.qkv.weight"):
        return _describe_timm(shapes)
    if _has(names, "visual.class_embedding", "visual.conv1.weight"):
        size = _describe_size(shapes, r"visual\.conv1\.weight", r"visual\.transformer\.resblocks\.(\d+)\.")
        return f"These are the names of CLIP's {size}, {_unlike('open_clip')}."
    if _has(names, "vision_model.embeddings.patch_embedding.weight"):
        pattern = r"vision_model\.encoder\.layers\.(\d+)\."
        size = _describe_size(shapes, r"vision_model\.embeddings\.patch_embedding\.weight", pattern)
        return f"These are Hugging Face's names of the {size} of CLIP or SigLIP, {_unlike('hf')}."
    if _has(names, "embeddings.patch_embeddings.projection.weight"):
        size = _describe_size(shapes, r"embeddings\.patch_embeddings\.projection\.weight", r"\blayer\.(\d+)\.")
        if any("layer_scale" in name for name in shapes):
            return f"These are Hugging Face's names of DINOv2's {size}, {_unlike('hf')}."
        return f"These are Hugging Face's names of a {size}; {_advise_conversion(size)}"
    if _has(names, "relative_position_bias_table"):
        return "These are the names of a Swin Transformer" + _NAME_IT
    if _has(names, "layer1.0.conv1.weight") and _has(names, "bn1.running_mean", "bn1.weight"):
        return "These are the names of a ResNet" + _NAME_IT
    if _has(names, "features.0.0.weight", "features.0.weight", "conv_stem.weight", "stem.0.weight"):
        return "These are the names of a convolutional network" + _NAME_IT
    return ""


_NAME_IT = ": say which one with --arch, such as timm:NAME; `featcache trunks` lists them."


def _unlike(library: str) -> str:
    return f"another network than torchvision's ViT: say which one with --arch {library}:NAME"


def _has(names: set[str], *parts: str) -> bool:
    return any(part in name for part in parts for name in names)


def _describe_torchvision(shapes: _Shapes, arch: str) -> str:
    """Return which of torchvision's ViTs it is, and for which images."""
    dim, patch = shapes["conv_proj.weight"][0], shapes["conv_proj.weight"][-1]
    depth = 1 + max((int(match[1]) for n in shapes if (match := re.search(r"encoder_layer_(\d+)\.", n))), default=-1)
    fitting = [a for a in ARCHITECTURES.values() if (a.dim, a.patch, a.depth) == (dim, patch, depth)]
    if not fitting:
        return f"These are torchvision's names of a ViT of {depth} blocks of {dim} with patches of {patch} pixels."
    positions = shapes.get("encoder.pos_embedding", (0, 0, 0))[1:2]
    edge = round((positions[0] - 1) ** 0.5) * patch if positions and positions[0] > 1 else 0
    name, at = fitting[0].name, ""
    if edge and edge != fitting[0].transform.crop:
        at = f" for images of {edge} pixels (--image-size {edge}, or --interpolate-positions)"
    elif name != arch:
        at = f": name the network too, with --arch {name}"
    return f"These are the tensors of torchvision's {name}{at}."


def _describe_timm(shapes: _Shapes) -> str:
    size = _describe_size(shapes, r"patch_embed\.proj\.weight", r"\bblocks\.(\d+)\.")
    if any(name.endswith((".ls1.gamma", "register_tokens", "reg_token")) for name in shapes):
        return f"These are timm's names of DINOv2's {size}, {_unlike('timm')}."
    if any("decoder_embed" in name for name in shapes):
        return f"These are the names of MAE's {size} with its decoder, which timm has too; {_advise_conversion(size)}"
    if any("last_layer" in name or "head.mlp" in name for name in shapes):
        return f"These are the names of DINO's {size}, which timm has too; {_advise_conversion(size)}"
    return f"These are timm's names of a {size} (DINO's and MAE's are the same); {_advise_conversion(size)}"


def _describe_size(shapes: _Shapes, projection: str, block: str) -> str:
    """Return such as "ViT-B/16"."""
    kernel = next((shape for name, shape in shapes.items() if re.search(projection + "$", name)), ())
    if len(kernel) != 4:
        return "ViT"
    blocks = {int(match[1]) for name in shapes if (match := re.search(block, name))}
    return f"ViT-{_SIZES.get(kernel[0], f'{len(blocks)}x{kernel[0]}')}/{kernel[-1]}"


def _advise_conversion(size: str) -> str:
    arch = size.lower().replace("-", "_").replace("/", "_")
    if arch not in ARCHITECTURES:
        return f"say which one with --arch, such as timm:{arch}; `featcache trunks` lists them."
    return (
        f"they are read as those of torchvision.models.{arch}() where they fit it whole: --arch {arch}, with the image "
        f"size that they are for (mind that the transform may differ)."
    )
