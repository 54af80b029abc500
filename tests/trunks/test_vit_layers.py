"""Layers beside the class token, read from one forward: torchvision's own, and the class token as it is alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import VisionTransformer
from torchvision.transforms import functional as F  # noqa: N812 (as everybody calls it)

from featcache.errors import UsageError
from featcache.trunks import vit
from featcache.trunks.architectures import Architecture, architecture
from featcache.trunks.vit_layers import vit_layer_width
from tests.trunks.test_vit import NANO, PRECISIONS, at, embedded, error, images, same_wherever_they_stand, seeded

LAYERS = ("mean", "cls", "tokens", "grid2", "cls@-2", "mean@-2", "pooled", "mean@-1", "cls@-1", "grid3")
B_16 = at(architecture("vit_b_16"), depth=2, crop=224)


def keep(arch: Architecture, state: dict, pixels: torch.Tensor, layers: tuple[str, ...], **options) -> dict:
    """Return each layer of one forward, (n, width)."""
    rows = embedded(vit.build(state, arch, arch.transform, layers=layers, **options), pixels)
    widths = [vit_layer_width(arch, arch.transform.crop, layer) for layer in layers]
    return dict(zip(layers, rows.split(widths, dim=1), strict=True))


def torchvision_layers(state: dict, arch: Architecture, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each layer by plain torchvision: its blocks one by one, its last normalisation behind any of them."""
    model = VisionTransformer(arch.transform.crop, arch.patch, arch.depth, arch.heads, arch.dim, arch.mlp).eval()
    model.load_state_dict(state, strict=False)
    mean, std = list(arch.transform.mean), list(arch.transform.std)
    with torch.inference_mode():
        patches = model._process_input(F.normalize(F.convert_image_dtype(pixels, torch.float), mean, std))
        z = torch.cat([model.class_token.expand(len(pixels), -1, -1), patches], dim=1) + model.encoder.pos_embedding
        tokens = [model.encoder.ln(z := block(z)) for block in model.encoder.layers]
    last, before = tokens[-1], tokens[-2]
    edge = arch.transform.crop // arch.patch
    grid = last[:, 1:].transpose(1, 2).reshape(len(pixels), arch.dim, edge, edge)

    def cells(count: int) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(grid, count).permute(0, 2, 3, 1).flatten(1)

    return {
        "cls": last[:, 0], "pooled": last[:, 0], "cls@-1": last[:, 0], "cls@-2": before[:, 0],
        "mean": last[:, 1:].mean(1), "mean@-1": last[:, 1:].mean(1), "mean@-2": before[:, 1:].mean(1),
        "tokens": last[:, 1:].flatten(1), "grid2": cells(2), "grid3": cells(3),
    }  # fmt: skip


@pytest.mark.parametrize("arch", [NANO, B_16], ids=lambda arch: arch.name)
def test_every_layer_is_torchvisions(arch):
    """Of one forward each layer is what plain torchvision gives, to 1e-5 relative, image by image."""
    state, pixels = seeded(arch, 0, 0.02), images(3, arch.transform.crop)
    kept, expected = keep(arch, state, pixels, LAYERS), torchvision_layers(state, arch, pixels)
    assert {layer: error(rows, expected[layer]) < 1e-5 for layer, rows in kept.items()} == dict.fromkeys(LAYERS, True)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("arch", [NANO, B_16], ids=lambda arch: arch.name)
def test_a_layer_has_the_same_bytes_whatever_is_kept_beside_it(arch, dtype):
    """The class token above all, which is computed in another way where it is alone."""
    state, pixels = seeded(arch, 0, 0.02), images(4, arch.transform.crop)
    together = keep(arch, state, pixels, LAYERS, dtype=dtype)
    for layer in LAYERS:
        assert torch.equal(keep(arch, state, pixels, (layer,), dtype=dtype)[layer], together[layer]), layer
    assert torch.equal(together["cls"], together["pooled"])


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), count=st.integers(1, 20))
def test_every_layer_depends_on_nothing_but_its_image(dtype, data, count):
    """Not on the place in the batch, not on the neighbours, not on the padding; bit by bit."""
    order = torch.tensor(data.draw(st.permutations(range(count))))
    network = vit.build(seeded(NANO, 0), NANO, NANO.transform, dtype=dtype, layers=LAYERS)
    same_wherever_they_stand(network, images(count, 64), order, data.draw(st.integers(1, count)))


def test_what_the_network_lacks_is_refused():
    """A block before the first, or more cells than patches; the message says what there is."""
    for layer, message in (("mean@-3", "2 blocks; .* is mean@-2"), ("grid15", "14 x 14 patches; grid14")):
        with pytest.raises(UsageError, match=message):
            vit_layer_width(B_16, 224, layer)
