"""What libraries do differently from one network to the next, and what is read all the same."""

import pytest
import torch

from featcache.errors import UsageError
from featcache.trunks.libraries.layers import LayerReader
from featcache.trunks.libraries.registry import library_of


def load(arch, image_size=0):
    library, name = library_of(arch)
    return library.load(name, "random", image_size)


def read(network, *layers):
    assert network.transform is not None
    pixels = torch.randn(2, 3, *network.transform.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return pixels, LayerReader(network, layers)(pixels)


def test_alexnets_pooled_layer_is_wider_than_its_map():
    """Pooled is what the classifier reads, 4,096 numbers; its map has 256."""
    _, (pooled, mean, tokens) = read(load("alexnet"), "pooled", "mean", "tokens")

    assert (pooled.shape, mean.shape, tokens.shape) == ((2, 4096), (2, 256), (2, 36, 256))


@pytest.mark.parametrize("arch", ["swin_t", "timm:swin_tiny_patch4_window7_224"])
def test_swins_map_is_channels_last(arch):
    """Swin's last map is read place by place, whatever the order of its dimensions, and pooled is its mean."""
    _, (pooled, mean, tokens) = read(load(arch), "pooled", "mean", "tokens")

    assert tokens.shape == (2, 49, 768)
    torch.testing.assert_close(pooled, mean)


def test_a_named_module_is_pooled_over_its_places_in_either_order():
    """Of a network that holds maps of both orders, each module's is averaged over rows and columns."""
    network = load("swin_t")

    _, (patches, rows) = read(network, "name:features.0.0", "name:features.1")

    assert (patches.shape, rows.shape) == ((2, 96), (2, 96))


@pytest.mark.parametrize(
    "arch", ["resnet18", "swin_t", "timm:vit_wee_patch16_reg1_gap_256", "timm:mixer_s32_224", "open_clip:RN50"]
)
def test_a_network_without_class_token_says_so(arch):
    """The layer cls of a network that has no class token is refused in one sentence."""
    with pytest.raises(UsageError, match="layer cls: this network has no class token; take pooled or mean"):
        read(load(arch), "cls")


def test_registers_are_no_class_token_and_no_patches():
    """Of a ViT with a register and no class token, cls@-2 is refused, and mean@-1 is the mean of the patches alone."""
    network = load("timm:vit_wee_patch16_reg1_gap_256")
    with pytest.raises(UsageError, match="no class token"):
        read(network, "cls@-2")

    pixels, (mean, last) = read(network, "mean", "mean@-1")

    with torch.inference_mode():
        theirs = network.module.forward_features(pixels)[:, 1:].mean(dim=1)
    torch.testing.assert_close(mean, theirs)
    torch.testing.assert_close(last, theirs)


def test_a_class_token_that_comes_late_has_no_layers_block_by_block():
    """CaiT takes its class token up behind its blocks: cls@-2 would be a patch, and is refused."""
    with pytest.raises(UsageError, match="no transformer blocks that are known"):
        read(load("timm:cait_xxs24_224"), "cls@-2")


def test_class_tokens_alone_are_no_patches():
    """PiT gives its class token and nothing else: there are no patches to average."""
    with pytest.raises(UsageError, match="not known where this network keeps its patches"):
        read(load("timm:pit_ti_224"), "mean")


def test_a_list_of_modules_is_read_behind_its_last():
    """MaxViT keeps its blocks in a list, which is never called itself: its last map is that of the last block."""
    _, (pooled, mean) = read(load("maxvit_t"), "pooled", "mean")

    assert (pooled.shape, mean.shape) == ((2, 512), (2, 512))


def test_densenets_published_names_are_those_of_an_earlier_torch(tmp_path):
    """A DenseNet's file with norm.1 for norm1, as torchvision published it, is loaded whole."""
    network = load("densenet121")
    state = network.module.state_dict()
    renamed = {
        name.replace("norm1", "norm.1").replace("conv1", "conv.1").replace("norm2", "norm.2").replace("conv2", "conv.2")
        if "denselayer" in name
        else name: value + 1
        for name, value in state.items()
    }
    torch.save(renamed, tmp_path / "densenet121.pth")
    library, name = library_of("densenet121")

    loaded = library.load(name, str(tmp_path / "densenet121.pth"), 0).module.state_dict()

    assert all(torch.equal(loaded[key], value + 1) for key, value in state.items())


def test_mnasnet_is_filled_from_a_file_without_versions(tmp_path):
    """MNASNet looks for the version of its parts in a state dict; a file that has none is loaded all the same."""
    from safetensors.torch import save_file

    state = {name: value + 1 for name, value in load("mnasnet0_5").module.state_dict().items()}
    save_file(state, tmp_path / "mnasnet.safetensors")
    library, name = library_of("mnasnet0_5")

    loaded = library.load(name, str(tmp_path / "mnasnet.safetensors"), 0).module.state_dict()

    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_timm_resizes_by_the_crop_fraction_and_by_the_size_that_is_named():
    """The shorter edge is timm's: the size over the crop fraction; DINOv2 takes 518 pixels unless a size is named."""
    transforms = [
        load(arch, size).transform
        for arch, size in [
            ("timm:vit_tiny_patch16_224", 0),
            ("timm:resnet18", 0),
            ("timm:vit_small_patch14_dinov2", 224),
        ]
    ]

    assert [(t.resize, t.crop) for t in transforms] == [(248, 224), (235, 224), (224, 224)]
