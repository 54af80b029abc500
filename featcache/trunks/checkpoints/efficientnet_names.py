"""The names of an EfficientNet's tensors as EfficientNet-PyTorch saves them, and how they become timm's."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Names that no prefix of a network ends in.
EFFICIENTNET_ANCHORS = ("_conv_stem.weight", "_blocks.0._depthwise_conv.weight")

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# Of a block that widens its input first, and of one that does not.
_EXPANDING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3", **_SQUEEZE,
}  # fmt: skip
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_SQUEEZE}


def rename_efficientnet(tensors: Mapping[str, Any], timm_names: Iterable[str]) -> dict[str, Any] | None:
    """Return an EfficientNet's tensors by timm's names.

    A name that the network has not is kept as it is: it is then found to be foreign.

    Args:
        tensors: By the names of EfficientNet-PyTorch, which counts all blocks in one row.
        timm_names: Of the network in timm, which counts blocks stage by stage.

    Returns:
        The tensors, a classifier included; None where they are of another network.
    """
    if any(name not in tensors for name in EFFICIENTNET_ANCHORS):
        return None
    places = {
        (int(match[1]), int(match[2])) for name in timm_names if (match := re.match(r"blocks\.(\d+)\.(\d+)", name))
    }
    blocks = [f"blocks.{stage}.{number}" for stage, number in sorted(places)]

    def translate(name: str) -> str:
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match is None:
            part, _, rest = name.partition(".")
            return f"{_OUTSIDE[part]}.{rest}" if part in _OUTSIDE else name
        number, part, rest = int(match[1]), match[2], match[3]
        parts = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in tensors else _PLAIN
        return f"{blocks[number]}.{parts[part]}.{rest}" if number < len(blocks) and part in parts else name

    return {translate(name): value for name, value in tensors.items()}
