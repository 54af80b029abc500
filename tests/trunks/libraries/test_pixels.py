"""Our pixels are a library's own, bit by bit, or its network is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms._presets import ImageClassification

from featcache.errors import MachineError
from featcache.media import decode_image
from featcache.trunks.libraries.base import LoadedNetwork
from featcache.trunks.libraries.pixels import require_equal_pixels
from featcache.trunks.libraries.torchvision_models import transform_of
from tests.golden.networks import NETWORKS, Network, pictures, png

PRESET = ImageClassification(crop_size=224)


def own_preprocessing(network: Network):
    """The library's own preprocessing of a network, and featcache's transform; no network is built."""
    library, colon, name = network.arch.partition(":")
    if not colon:
        import torchvision

        from featcache.trunks.libraries import torchvision_models

        preset = next(iter(torchvision.models.get_model_weights(network.arch))).transforms()
        return preset, torchvision_models.transform_of(preset)
    if library == "timm":
        import timm

        from featcache.trunks.libraries import timm_models

        size = {"input_size": (3, network.image_size, network.image_size)} if network.image_size else {}
        config = timm.data.resolve_data_config(size, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        return timm.data.create_transform(**config, is_training=False), timm_models.transform_of(config)
    import open_clip

    from featcache.trunks.libraries import open_clip_models

    vision = open_clip.get_model_config(name)["vision_cfg"]
    config = open_clip.get_model_config(name).get("preprocess_cfg", {})
    preprocess = open_clip.transform.PreprocessCfg(**{"size": vision["image_size"], **config})
    own = open_clip.transform.image_transform_v2(preprocess, is_train=False)
    return own, open_clip_models.transform_of(vars(preprocess))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.arch)
def test_pixels_equal_the_librarys_own_bit_by_bit(network):
    """Twelve pictures of odd sizes come out as the library's own preprocessing has them, bit by bit."""
    preprocess, transform = own_preprocessing(network)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transform.mean, transform.std))

    for image in pictures():
        ours = torch.from_numpy(decode_image(png(image), transform))

        assert torch.equal((ours.float() / 255).sub(mean).div(std), preprocess(image))


@pytest.mark.parametrize(
    "change",
    [
        {"interpolation": "bicubic"},
        {"resize": 255},
        {"resize": 257},
        {"crop": 223},
        {"fit": "squash"},
        {"placement": "floor"},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
    ],
    ids=str,
)
def test_a_transform_that_is_nearly_right_is_refused(change):
    """A transform that differs from the library's in one step is refused before an image is embedded."""
    network = LoadedNetwork(torch.nn.Identity(), lambda pixels: pixels, None, own_pixels=PRESET)
    require_equal_pixels(network, transform_of(PRESET), "net")

    with pytest.raises(MachineError, match=r"net: its own preprocessing gives .* pixels"):
        require_equal_pixels(network, replace(transform_of(PRESET), **change), "net")


def test_pixels_are_whole_numbers_of_three_colours():
    """A decoded picture is (3, height, width) uint8, as the transform says."""
    transform = transform_of(PRESET)

    pixels = decode_image(png(pictures()[0]), transform)

    assert pixels.shape == transform.shape == (3, 224, 224)
    assert pixels.dtype == np.uint8
