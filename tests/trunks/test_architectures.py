"""The numbers of the architectures, held against torchvision's own."""

import subprocess
import sys

import pytest
import torch
import torchvision
from torch.nn import Identity

from featcache.errors import UsageError
from featcache.trunks.architectures import ARCHITECTURES, architecture
from featcache.trunks.weights import build_network

PUBLISHED = [(arch, name) for arch in ARCHITECTURES.values() for name in arch.published]
NAMED = [arch for arch in ARCHITECTURES.values() if arch.published]


def ids(value: object) -> str:
    return value if isinstance(value, str) else value.name


@pytest.mark.parametrize(("arch", "name"), PUBLISHED, ids=ids)
def test_published_weights_are_torchvisions(arch, name):
    """File name and transform of every published weight are those that torchvision states."""
    theirs = torchvision.models.get_model_weights(arch.name)[name]
    ours = arch.published[name]
    assert theirs.url.rsplit("/", 1)[1] == ours.file
    preset = theirs.transforms()
    assert (ours.transform.resize, ours.transform.crop) == (preset.resize_size[0], preset.crop_size[0])
    assert (list(ours.transform.mean), list(ours.transform.std)) == (preset.mean, preset.std)
    assert ours.transform.interpolation == preset.interpolation.value
    assert ours.transform.antialias == preset.antialias
    assert ours.transform.exif == "ignore"


@pytest.mark.parametrize("arch", NAMED, ids=ids)
def test_no_published_weights_are_left_out(arch):
    """Every weight that torchvision publishes for an architecture is offered, and the default is its default."""
    theirs = torchvision.models.get_model_weights(arch.name)
    assert set(arch.published) == {weights.name for weights in theirs}
    assert arch.transform == arch.published[theirs.DEFAULT.name].transform


@pytest.mark.parametrize("arch", NAMED, ids=ids)
def test_shapes_are_torchvisions(arch):
    """Torchvision's own builder of this name makes a network of these tensors: same names, same shapes."""
    with torch.device("meta"):
        theirs = torchvision.models.get_model(arch.name)
        theirs.heads = Identity()
        ours = build_network(arch, 224)
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in ours.state_dict().items()} == shapes
    assert list(arch.shapes(224).items()) == list(shapes.items())
    assert ours.encoder.layers[0].num_heads == theirs.encoder.layers[0].num_heads == arch.heads


@pytest.mark.parametrize(("arch", "name"), PUBLISHED, ids=ids)
def test_parameters_are_counted_as_torchvision_counts_them(arch, name):
    """Frozen parameters and those of a head of 1,000 classes add up to what torchvision states for the weights."""
    weights = torchvision.models.get_model_weights(arch.name)[name]
    crop = arch.published[name].transform.crop
    assert arch.frozen_parameters(crop) + arch.head_parameters(1000) == weights.meta["num_params"]
    with torch.device("meta"):
        state = build_network(arch, crop).state_dict()
    assert sum(value.numel() for value in state.values()) == arch.frozen_parameters(crop)
    assert {name: tuple(value.shape) for name, value in state.items()} == arch.shapes(crop)


def test_the_numbers_that_info_states():
    """vit_b_16: 85,798,656 frozen parameters, 26,146 in a head of 34 classes, 197 tokens."""
    arch = architecture("vit_b_16")
    assert arch.frozen_parameters() == 85_798_656
    assert arch.head_parameters(34) == 26_146
    assert arch.tokens(224) == 197
    assert (arch.dim, arch.patch) == (768, 16)


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=ids)
def test_every_transform_fits_its_patches(arch):
    """Every crop is a whole number of patches, and no larger than what was resized."""
    for transform in (arch.transform, *(published.transform for published in arch.published.values())):
        assert transform.crop % arch.patch == 0
        assert transform.crop <= transform.resize


def test_an_unknown_architecture_lists_the_known_ones():
    """A name that there is not is refused with those that there are."""
    with pytest.raises(UsageError, match=r"no architecture 'vit_h_14'; expected one of vit_b_16, vit_b_32"):
        architecture("vit_h_14")


def test_knowing_the_architectures_needs_no_torch():
    """What a command needs to know which store it means is had without importing torch."""
    code = "import sys; import featcache.trunks.spec, featcache.trunks.architectures; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
