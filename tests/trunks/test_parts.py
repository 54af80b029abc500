"""How a forward on a CPU is run changes its time, and not a bit of what it gives."""

from dataclasses import replace

import pytest
import torch

from featcache.trunks import parts, vit
from featcache.trunks.parts import measure_part, pack_weights
from featcache.trunks.vit_blocks import has_fused
from tests.trunks.test_vit import NANO, seeded

PART = 32


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def network(request):
    """A small ViT in each precision."""
    return vit.build(seeded(NANO, 0), NANO, NANO.transform, dtype=request.param)


@pytest.fixture
def pixels(network):
    """One whole part of images."""
    return parts._noise(network, PART)


def test_packed_weights_change_no_bit(network, pixels, monkeypatch):
    """Every layer has the bits that it has without, for a whole part and for any other number of images."""
    monkeypatch.setattr(parts, "_WORTHWHILE", float("inf"))
    for layers in (("cls",), ("cls", "mean", "cls@-2"), ("tokens",)):
        plain = replace(network, layers=layers)
        packed = pack_weights(plain, PART)
        assert (packed is not plain) == has_fused(network.weight.dtype)
        with torch.inference_mode():
            for images in (PART, PART - 1, 1):
                assert torch.equal(packed(pixels[:images]), plain(pixels[:images]))


def test_weights_are_packed_only_where_that_is_faster(network, monkeypatch):
    """Where it takes longer, or gives other bits, the network is returned as it is."""
    monkeypatch.setattr(parts, "_WORTHWHILE", 0.0)
    assert pack_weights(network, PART) is network
    monkeypatch.setattr(parts, "_WORTHWHILE", float("inf"))
    monkeypatch.setattr(torch, "equal", lambda *_: False)
    assert pack_weights(network, PART) is network


def test_a_copy_in_another_precision_has_no_packed_weights(network, monkeypatch, pixels):
    """A packed network that is cast to float32 gives what the plain one gives in float32."""
    monkeypatch.setattr(parts, "_WORTHWHILE", float("inf"))
    packed = pack_weights(network, PART)
    with packed.in_float32() as copy, network.in_float32() as plain, torch.inference_mode():
        assert torch.equal(copy(pixels), plain(pixels))


def test_the_number_of_images_is_one_that_changes_no_bit(network, pixels):
    """The rows of a whole batch are those of the parts that are chosen."""
    part = measure_part(network, PART)
    with torch.inference_mode():
        split = torch.cat([network(few) for few in torch.split(pixels, part)])
        assert torch.equal(split, network(pixels))
