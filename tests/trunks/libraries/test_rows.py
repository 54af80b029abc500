"""A row depends on its image alone: not on the batch, nor on the place in it."""

import pytest
import torch

from featcache.trunks.libraries.network import LibraryNetwork
from featcache.trunks.libraries.registry import library_of

NETWORKS = [
    ("alexnet", 0, "float32"),  # its linear layers are 9,216 numbers wide
    ("alexnet", 0, "bfloat16"),
    ("resnet18", 0, "float32"),
    ("resnet18", 0, "bfloat16"),
    ("timm:tf_efficientnet_lite0", 0, "float32"),
    ("mobilenet_v3_small", 0, "float32"),
    ("timm:convnext_atto", 0, "float32"),
    pytest.param("swin_t", 0, "float32", marks=pytest.mark.slow),
    pytest.param("swin_t", 0, "bfloat16", marks=pytest.mark.slow),
    ("timm:vit_tiny_patch16_224", 64, "float32"),
    ("timm:vit_tiny_patch16_224", 64, "bfloat16"),
    ("open_clip:ViT-S-32", 64, "float32"),
]


@pytest.mark.parametrize(("arch", "size", "dtype"), NETWORKS)
def test_rows_do_not_depend_on_their_batch(arch, size, dtype):
    """The bytes of a row are the same in a batch of 32, of 8, and of 5, wherever it stands in it."""
    library, name = library_of(arch)
    loaded = library.load(name, "random", size)
    assert loaded.transform is not None
    trunk = LibraryNetwork(loaded, ["pooled", "mean"], loaded.transform, dtype=getattr(torch, dtype), device="cpu")
    noise = torch.Generator().manual_seed(0)
    edge = (64, 64) if arch in ("resnet18", "mobilenet_v3_small") else loaded.transform.input_size
    pixels = torch.randint(0, 256, (32, 3, *edge), dtype=torch.uint8, generator=noise)

    with torch.inference_mode():
        rows = trunk(pixels)

        assert torch.equal(trunk(pixels[3:11]), rows[3:11])
        assert torch.equal(trunk(pixels[7:12]), rows[7:12])
        assert torch.equal(trunk(pixels.flip(0)).flip(0), rows)
