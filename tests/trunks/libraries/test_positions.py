"""Position embeddings of another image size: refused, unless interpolating them is asked for; then another identity."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from featcache.errors import Correction, MachineError
from featcache.recipe import TrunkSection
from featcache.trunks import WeightsMemo, find_weights, name_trunk
from featcache.trunks.checkpoints import interpolate_positions
from featcache.trunks.libraries.pixels import require_equal_pixels
from featcache.trunks.libraries.timm_models import TimmModels
from featcache.trunks.libraries.torchvision_models import TorchvisionModels

timm = pytest.importorskip("timm")
NAME = "test_vit"  # timm's own small ViT


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(timm.create_model(NAME, num_classes=7, img_size=96).state_dict(), path)
    return path


def test_interpolation_is_timms_own():
    """Interpolated positions are those of timm's resample_abs_pos_embed, bit by bit, prefix tokens untouched."""
    positions = torch.randn(1, 1 + 36, 8, generator=torch.Generator().manual_seed(0))
    theirs = timm.layers.resample_abs_pos_embed(positions, [10, 10], num_prefix_tokens=1)
    assert torch.equal(interpolate_positions(positions, 101), theirs)
    assert torch.equal(interpolate_positions(positions[0], 101), theirs[0])
    assert torch.equal(interpolate_positions(positions[:, 1:], 100), theirs[:, 1:])
    assert interpolate_positions(positions, 102) is None


def test_another_size_is_refused_unless_asked_for(file):
    """Weights for 96 pixels do not load at 160 in silence; asked for, they do, and the note says so."""
    with pytest.raises(
        MachineError, match=r"for images of another size: pos_embed is .*--interpolate-positions"
    ) as refused:
        TimmModels().load(NAME, str(file), 160)
    assert "with --image-size 96, or" in str(refused.value)
    assert refused.value.corrections == (Correction("--image-size", "96"),)
    network = TimmModels().load(NAME, str(file), 160, interpolate=True)
    assert network.is_interpolated
    assert "pos_embed was interpolated from 37 to 101 positions" in network.note
    assert "its classifier was left out (head.bias, head.weight)" in network.note
    expected = timm.layers.resample_abs_pos_embed(load_file(file)["pos_embed"], [10, 10], num_prefix_tokens=1)
    assert torch.equal(network.module.state_dict()["pos_embed"], expected)


def test_a_librarys_silent_resampling_is_refused(file, tmp_path):
    """Where timm's own conversion of foreign names would resize the positions, the file is refused for its size."""
    foreign = {f"module.{name}": value for name, value in load_file(file).items()}
    save_file(foreign, tmp_path / "wrapped.safetensors")
    with pytest.raises(MachineError, match="another size"):
        TimmModels().load(NAME, str(tmp_path / "wrapped.safetensors"), 160)


def test_published_weights_of_another_size_are_refused_before_they_are_fetched():
    """Published weights are for one image size: another one is refused, not resampled by the library."""
    with pytest.raises(MachineError, match=r"for images of 518 pixels, not 224.*--interpolate-positions"):
        TimmModels().load("vit_small_patch14_dinov2.lvd142m", "pretrained", 224)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_another_image_size_is_that_of_the_images_too(library):
    """A network built for another image size is given images of that size."""
    network = (
        TorchvisionModels().load("vit_b_32", "random", 96)
        if library == "torchvision"
        else TimmModels().load(NAME, "random", 96)
    )
    assert network.transform.input_size == (96, 96)
    require_equal_pixels(network, network.transform, library)
    with torch.inference_mode():
        assert network.forward(torch.zeros(1, 3, 96, 96)).pooled.shape[0] == 1


def test_interpolated_positions_are_part_of_the_identity(file, tmp_path):
    """A spec says that positions were interpolated; where they fit, the setting changes nothing."""

    def spec(**settings):
        section = TrunkSection(arch=f"timm:{NAME}", weights=str(file), **settings)
        return name_trunk(section, WeightsMemo(tmp_path / "cache")).spec("float32")

    own = spec(image_size=96)
    assert "positions" not in own.to_json()
    assert spec(image_size=96, interpolate_positions=True) == own
    for _ in range(2):  # read, then remembered
        assert spec(image_size=160, interpolate_positions=True).to_json()["positions"] == "interpolated"


@pytest.mark.parametrize("edge", [96, 160])
def test_what_a_store_was_made_with_is_found_where_the_memory_is_lost(file, tmp_path, edge):
    """The weights of a network of another image size are found by its spec alone, interpolated or not."""
    settings = {"image_size": edge, "interpolate_positions": edge != 96}
    section = TrunkSection(arch=f"timm:{NAME}", weights=str(file), **settings)
    spec = name_trunk(section, WeightsMemo(tmp_path / "cache")).spec("float32")
    source = find_weights(spec, file.name, WeightsMemo(tmp_path / "other"), str(file))
    assert source is not None
    assert source.spec("float32") == spec
