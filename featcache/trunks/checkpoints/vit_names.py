"""The names that libraries give the tensors of one and the same Vision Transformer, and how one becomes another.

torchvision and timm (with it DINO and MAE) keep queries, keys and values in one matrix, in this order; transformers
keeps three. Nothing else differs but names. Torchvision's are the ones in between.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

Naming = Literal["torchvision", "timm", "transformers"]
# Names that no prefix of a network ends in; torchvision's stand where sets of weights are looked for.
VIT_ANCHORS: dict[Literal["timm", "transformers"], tuple[str, ...]] = {
    "timm": ("cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
    "transformers": ("embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"),
}

# torchvision's -> another's; {} is the number of a block.
_TIMM = {
    "class_token": "cls_token",
    "encoder.pos_embedding": "pos_embed",
    "conv_proj.": "patch_embed.proj.",
    "encoder.ln.": "norm.",
    "encoder.layers.encoder_layer_{}.ln_1.": "blocks.{}.norm1.",
    "encoder.layers.encoder_layer_{}.self_attention.in_proj_": "blocks.{}.attn.qkv.",
    "encoder.layers.encoder_layer_{}.self_attention.out_proj.": "blocks.{}.attn.proj.",
    "encoder.layers.encoder_layer_{}.ln_2.": "blocks.{}.norm2.",
    "encoder.layers.encoder_layer_{}.mlp.0.": "blocks.{}.mlp.fc1.",
    "encoder.layers.encoder_layer_{}.mlp.3.": "blocks.{}.mlp.fc2.",
}
_TRANSFORMERS = {
    "class_token": "embeddings.cls_token",
    "encoder.pos_embedding": "embeddings.position_embeddings",
    "conv_proj.": "embeddings.patch_embeddings.projection.",
    "encoder.ln.": "layernorm.",
    "encoder.layers.encoder_layer_{}.ln_1.": "encoder.layer.{}.layernorm_before.",
    "encoder.layers.encoder_layer_{}.self_attention.in_proj_": "encoder.layer.{}.attention.attention.qkv.",
    "encoder.layers.encoder_layer_{}.self_attention.out_proj.": "encoder.layer.{}.attention.output.dense.",
    "encoder.layers.encoder_layer_{}.ln_2.": "encoder.layer.{}.layernorm_after.",
    "encoder.layers.encoder_layer_{}.mlp.0.": "encoder.layer.{}.intermediate.dense.",
    "encoder.layers.encoder_layer_{}.mlp.3.": "encoder.layer.{}.output.dense.",
}
_TABLES: dict[Naming, dict[str, str]] = {"timm": _TIMM, "transformers": _TRANSFORMERS, "torchvision": {}}
# Those of the modules of transformers 5 -> those that it writes to files, which are older.
_MODULES_TO_FILES = {
    r"^layers\.": "encoder.layer.",
    r"\.attention\.q_proj\.": ".attention.attention.query.",
    r"\.attention\.k_proj\.": ".attention.attention.key.",
    r"\.attention\.v_proj\.": ".attention.attention.value.",
    r"\.attention\.o_proj\.": ".attention.output.dense.",
    r"\.mlp\.fc1\.": ".intermediate.dense.",
    r"\.mlp\.fc2\.": ".output.dense.",
}
_PARTS = ("query", "key", "value")
_CLASSIFIERS = ("head.", "heads.", "classifier.", "pooler.")


def naming_of(names: Mapping[str, Any]) -> Naming | None:
    """Return whose names of a plain Vision Transformer these are; None where they are of another network.

    Args:
        names: Of tensors, without what wrappers put before them.
    """
    if "conv_proj.weight" in names and "class_token" in names:
        return "torchvision"
    if "patch_embed.proj.weight" in names and "blocks.0.attn.qkv.weight" in names:
        return "timm"
    if "embeddings.patch_embeddings.projection.weight" in names and (
        "encoder.layer.0.attention.attention.query.weight" in names or "layers.0.attention.q_proj.weight" in names
    ):
        return "transformers"
    return None


def rename_vit(tensors: Mapping[str, Any], naming: Naming) -> dict[str, Any] | None:
    """Return a Vision Transformer's tensors by another library's names, without a classifier.

    A name that the plain network has not is kept as it is: it is then found to be foreign.

    Args:
        tensors: By the names of torchvision, timm or transformers.
        naming: Whose names are wanted.

    Returns:
        The tensors, queries, keys and values joined or apart as that library has them; None where they are of another
        network.
    """
    source = naming_of(tensors)
    if source is None:
        return None
    values = {name: value for name, value in tensors.items() if not name.startswith(_CLASSIFIERS)}
    if source == "transformers":
        values = _name_as_in_files(values)
    if source == "torchvision":  # what it called a block's two layers first
        values = {n.replace("mlp.linear_1.", "mlp.0.").replace("mlp.linear_2.", "mlp.3."): v for n, v in values.items()}
    if source == naming:
        return values
    if source == "transformers":
        values = _join(values)
    values = _apply(values, {theirs: ours for ours, theirs in _TABLES[source].items()})
    values = _apply(values, _TABLES[naming])
    return _split(values) if naming == "transformers" else values


def _apply(tensors: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    patterns = [
        (re.compile(re.escape(before).replace(r"\{\}", r"(\d+)") + ("" if before[-1] in "._" else "$")), after)
        for before, after in table.items()
    ]

    def translate(name: str) -> str:
        for pattern, after in patterns:
            if match := pattern.match(name):
                return after.format(*match.groups()) + name[match.end() :]
        return name

    return {translate(name): value for name, value in tensors.items()}


def _name_as_in_files(tensors: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in tensors.items():
        for pattern, after in _MODULES_TO_FILES.items():
            name = re.sub(pattern, after, name)
        named[name] = value
    return named


def _join(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return transformers' tensors with each block's queries, keys and values as one matrix, `qkv`."""
    import torch

    named = dict(tensors)
    for name in [name for name in named if ".attention.attention.query." in name]:
        names = [name.replace(".query.", f".{part}.") for part in _PARTS]
        parts: list[Any] = [named.get(part) for part in names]
        if all(torch.is_tensor(part) and part.ndim and part.shape == parts[0].shape for part in parts):
            named[name.replace(".query.", ".qkv.")] = torch.cat(parts)
            for part in names:
                del named[part]
    return named


def _split(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors with each `qkv` as three, as transformers has them."""
    named: dict[str, Any] = {}
    for name, value in tensors.items():
        if ".attention.attention.qkv." in name and value.ndim and len(value) % 3 == 0:
            named |= {name.replace(".qkv.", f".{p}."): part for p, part in zip(_PARTS, value.chunk(3), strict=True)}
        else:
            named[name] = value
    return named
