"""`cnn`: a plain convolutional network whose shape a recipe's [trunk.cnn] section states, for training from scratch.

Five blocks of convolution, batch normalisation, activation and 2 x 2 max pooling, and a dense layer on the last map.
With s the input's edge in pixels, k_i the edge of block i's filters, c_i their number, c_0 = 3, and d dense units, it
has

    sum over i of (k_i^2 c_{i-1} + 1) c_i + 2 c_i [batch_norm]  +  (floor(s / 32)^2 c_5 + 1) d

parameters, and a classifier of C classes on it (d + 1) C more.
"""

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import nn

from featcache.errors import UsageError
from featcache.media import ImageTransform
from featcache.recipe import CNN, CNN_BLOCKS, CnnSection
from featcache.trunks import RANDOM, seeded
from featcache.trunks.libraries.base import FeatureMaps, LoadedNetwork, freeze, spatial
from featcache.trunks.libraries.tensors import LoadedWeights, load_weights_file
from featcache.trunks.libraries.weights_argument import classify_weights

if TYPE_CHECKING:
    from torch import Tensor

CNN_IMAGE_SIZE = 224  # edge of the input, pixels, where nobody states another
_POOLED: int = 2**CNN_BLOCKS  # pixels of the input to one place of the last map
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "mish": nn.Mish, "tanh": nn.Tanh,
}  # fmt: skip
_FACTORS = {"constant": (1, 1), "doubling": (2, 1), "halving": (1, 2)}


def count_filters(settings: CnnSection) -> tuple[int, ...]:
    """Return how many filters each of the blocks has, at least one.

    Args:
        settings: The network's.
    """
    times, divided = _FACTORS[settings.progression]
    return tuple(max(1, settings.filters * times**block // divided**block) for block in range(CNN_BLOCKS))


def filter_edges(settings: CnnSection) -> tuple[int, ...]:
    """Return the edge of each block's filters, pixels.

    Args:
        settings: The network's.
    """
    edges = tuple(map(int, settings.filter_size.split(",")))
    return edges * CNN_BLOCKS if len(edges) == 1 else edges


def count_cnn_parameters(settings: CnnSection, image_size: int = CNN_IMAGE_SIZE, classes: int = 0) -> int:
    """Return how many parameters the network has, by the formula above.

    Args:
        settings: The network's.
        image_size: The input's edge, pixels.
        classes: Outputs of a classifier on it; 0: without one.
    """
    filters, dense = count_filters(settings), settings.dense
    convolutions = sum(
        (edge**2 * before + 1) * own
        for edge, (before, own) in zip(filter_edges(settings), pairwise((3, *filters)), strict=True)
    )
    norms = 2 * sum(filters) * settings.batch_norm
    return convolutions + norms + ((image_size // _POOLED) ** 2 * filters[-1] + 1) * dense + (dense + 1) * classes


@dataclass(frozen=True, slots=True)
class ConvolutionalNetworks:
    """The networks that `cnn` names: one for each choice of its settings."""

    settings: CnnSection
    prefix = CNN
    package = "torch"

    def match_names(self, pattern: str) -> list[str]:
        """Return the name, where it matches."""
        return [CNN] if pattern.casefold().strip("*") in CNN else []

    def load(self, name: str, weights: str, image_size: int, *, interpolate: bool = False) -> LoadedNetwork:
        """Return the network with its weights, as `Library.load`; random ones are drawn from a seed."""
        kind, edge, loaded = classify_weights(weights), image_size or CNN_IMAGE_SIZE, LoadedWeights()
        if kind == "published":
            raise UsageError(
                f"--arch {name}: nobody has published weights of it; name a file of trained ones with --weights FILE, "
                f"or type --weights {RANDOM}"
            ).correct("--weights", RANDOM)
        if edge < _POOLED:
            raise UsageError(
                f"--image-size {edge}: {name} halves its input {CNN_BLOCKS} times; expected at least {_POOLED} pixels"
            ).correct("--image-size", str(_POOLED))
        with seeded():
            module = build_cnn(self.settings, edge)
        if kind == "file":
            loaded = load_weights_file(
                module, weights, f"{name} with the settings of [trunk.cnn]", interpolate=interpolate
            )
        transform = ImageTransform(resize=edge, crop=edge, mean=(0.5,) * 3, std=(0.5,) * 3, fit="squash")
        return LoadedNetwork(
            freeze(module), lambda pixels: _forward(module, pixels), transform, note=loaded.note,
            config=_hash_settings(self.settings),
        )  # fmt: skip


class ConvolutionalBlock(nn.Module):
    """A convolution, batch normalisation or none, an activation, and 2 x 2 max pooling."""

    def __init__(self, settings: CnnSection, before: int, own: int, edge: int) -> None:
        """Draw its weights.

        Args:
            settings: The network's.
            before: How many channels it gets.
            own: How many filters it has.
            edge: Of a filter, pixels.
        """
        super().__init__()
        self.convolution = nn.Conv2d(before, own, edge, padding=edge // 2)
        self.norm = nn.BatchNorm2d(own) if settings.batch_norm else nn.Identity()
        self.activation = _activation(settings)
        self.pooling = nn.MaxPool2d(2)

    def forward(self, maps: "Tensor") -> "Tensor":
        """Return half as large maps, (n, own, height, width), of (n, before, 2 height, 2 width)."""
        pooled: Tensor = self.pooling(self.activation(self.norm(self.convolution(maps))))
        return pooled


def build_cnn(settings: CnnSection, image_size: int = CNN_IMAGE_SIZE) -> nn.Sequential:
    """Return the network with random weights: (n, 3, image_size, image_size) normalised -> (n, settings.dense).

    Args:
        settings: Its shape.
        image_size: The input's edge, pixels.
    """
    filters = count_filters(settings)
    sizes = zip(pairwise((3, *filters)), filter_edges(settings), strict=True)
    blocks = [ConvolutionalBlock(settings, before, own, edge) for (before, own), edge in sizes]
    dense = [
        nn.Flatten(),
        nn.Linear((image_size // _POOLED) ** 2 * filters[-1], settings.dense),
        _activation(settings),
        nn.Dropout(settings.dropout),
    ]
    return nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks), dense=nn.Sequential(*dense)))


def _activation(settings: CnnSection) -> nn.Module:
    return _ACTIVATIONS[settings.activation]()


def _forward(module: Any, pixels: "Tensor") -> FeatureMaps:
    last_map = module.blocks(pixels)
    return FeatureMaps(module.dense(last_map), *spatial(last_map))


def _hash_settings(settings: CnnSection) -> str:
    """Return the sha256 of the settings that differ from the defaults: what the name alone does not say."""
    stated = settings.model_dump(exclude_defaults=True)
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest() if stated else ""
