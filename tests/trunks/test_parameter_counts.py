"""The networks of published systems have the parameters that are stated for them, counted without memory."""

import pytest
import torch
import torchvision
from torch import nn

from featcache.trunks.libraries.registry import library_of

CLASSES = 10


def parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def alexnet_of_the_paper(classes: int) -> nn.Module:
    """Return AlexNet as of 2012 (Krizhevsky et al.), in one tower: 96, 256, 384, 384 and 256 filters."""
    maps = nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4), nn.Conv2d(96, 256, 5), nn.Conv2d(256, 384, 3), nn.Conv2d(384, 384, 3),
        nn.Conv2d(384, 256, 3),
    )  # fmt: skip
    return nn.Sequential(maps, nn.Linear(256 * 6 * 6, 4096), nn.Linear(4096, 4096), nn.Linear(4096, classes))


@pytest.mark.parametrize(
    ("arch", "trunk", "width"),
    [
        ("alexnet", 57_003_840, 4096),
        ("vgg16", 134_260_544, 4096),
        ("resnet34", 21_284_672, 512),
        ("resnet50", 23_508_032, 2048),
        ("vit_b_16", 85_798_656, 768),
    ],
)
def test_a_trunk_and_its_classifier_are_the_whole_network(arch, trunk, width):
    """What the loader keeps and a linear classifier on it have as many parameters as torchvision's whole network."""
    library, name = library_of(arch)
    with torch.device("meta"):
        kept = library.load(name, "random", 0).module
        whole = torchvision.models.get_model(arch, num_classes=CLASSES)
    assert parameters(kept) == trunk
    assert parameters(whole) == trunk + (width + 1) * CLASSES


@pytest.mark.parametrize(("arch", "published"), [("vgg16", 134_301_514), ("resnet34", 21_289_802)])
def test_ten_classes_have_the_published_count(arch, published):
    """VGG16 for ten classes has 134,301,514 parameters, ResNet-34 21,289,802."""
    with torch.device("meta"):
        assert parameters(torchvision.models.get_model(arch, num_classes=CLASSES)) == published


def test_torchvisions_alexnet_is_the_smaller_of_two():
    """For ten classes the network of the 2012 paper has 58,322,314; torchvision's is that of 2014, with 57,044,810."""
    with torch.device("meta"):
        assert parameters(alexnet_of_the_paper(CLASSES)) == 58_322_314
        assert parameters(torchvision.models.alexnet(num_classes=CLASSES)) == 57_044_810
