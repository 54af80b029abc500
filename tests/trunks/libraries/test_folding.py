"""Batch normalisations are folded into convolutions where that changes nothing, and only there."""

import copy

import pytest
import torch
from torch import nn

from featcache.media import ImageTransform
from featcache.trunks.libraries.base import FeatureMaps, LoadedNetwork, freeze
from featcache.trunks.libraries.network import LibraryNetwork
from featcache.trunks.libraries.registry import library_of
from featcache.trunks.libraries.running import build_network
from tests.golden.networks import set_weights

PIXELS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
TRANSFORM = ImageTransform(resize=32, crop=32, **PIXELS)


def run(network, layers=("pooled",), transform=TRANSFORM, package="timm"):
    """Return the network as it is run, in float32."""
    return build_network(
        network, layers, transform, dtype=torch.float32, device="cpu", versions={}, package=package
    )  # fmt: skip


def norms(module):
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("arch", ["resnet18", "timm:tf_efficientnet_lite0", "densenet121"])
def test_a_folded_network_gives_the_same(arch):
    """Torchvision's and timm's CNNs lose their normalisations, and every layer stays the same to 1e-5."""
    library, name = library_of(arch)
    layers = ["pooled", "mean", "grid2"]
    loaded = library.load(name, "random", 0)
    set_weights(loaded.module)
    edge = 64 if arch != "densenet121" else 96
    transform = ImageTransform(resize=edge, crop=edge, **PIXELS)
    pixels = torch.randint(0, 256, (3, 3, edge, edge), dtype=torch.uint8)
    before = norms(loaded.module)
    with torch.inference_mode():
        expected = LibraryNetwork(loaded, layers, transform, dtype=torch.float32, device="cpu")(pixels)
        rows = run(loaded, layers, transform)(pixels)
    assert norms(loaded.module) < before
    assert norms(loaded.module) == 0 or arch == "densenet121"  # some of its norms stand before their convolution
    assert ((rows - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-5


class Misleading(nn.Module):
    """Its normalisation was made behind the convolution, and is computed before it."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.bn.running_mean.fill_(0.5)
        self.bn.bias.data.fill_(0.25)

    def forward(self, pixels):
        return self.conv(self.bn(pixels))


def small(module):
    module = freeze(module)
    return LoadedNetwork(module, lambda pixels: FeatureMaps(module(pixels).mean(dim=(2, 3))), TRANSFORM)


def test_a_normalisation_that_stands_elsewhere_stays():
    """Where the order of the parts misleads, the features show it, and the module is as it was."""
    network = small(Misleading())
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = LibraryNetwork(network, ["pooled"], TRANSFORM, dtype=torch.float32, device="cpu")(pixels)
        assert torch.equal(run(network)(pixels), expected)
    assert norms(network.module) == 1


def test_a_module_of_ones_own_is_left_alone():
    """Nothing is folded where the network is no library's."""
    network = small(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    run(network, ("pooled",), package="")
    assert norms(network.module) == 1


def test_a_folded_convolution_is_read_as_it_was():
    """Its output is a layer like any other, and what is kept beside it has the bits that it has alone."""
    torch.manual_seed(3)
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    for norm in (first[1], first[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    second, third = copy.deepcopy(first), copy.deepcopy(first)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    layers = ("pooled", "name:0", "name:1", "name:3")
    with torch.inference_mode():
        expected = LibraryNetwork(small(first), layers, TRANSFORM, dtype=torch.float32, device="cpu")(pixels)
        beside, alone = run(small(second), layers)(pixels), run(small(third))(pixels)
    assert norms(second) == 0
    assert ((beside - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-5
    assert torch.equal(beside[:, : alone.shape[1]], alone)
