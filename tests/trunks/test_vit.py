"""Our forward pass: torchvision's numbers, and an image's embedding that nothing but the image decides."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import VisionTransformer
from torchvision.transforms import functional as F  # noqa: N812 (as everybody calls it)

from featcache.media import decode_image
from featcache.trunks import vit, vit_blocks, weights
from featcache.trunks.architectures import Architecture, architecture

NANO, B_16 = architecture("vit_nano_16"), architecture("vit_b_16")
PRECISIONS = [torch.float32, torch.bfloat16]


def seeded(arch: Architecture, seed: int, scale: float = 0.05) -> dict[str, torch.Tensor]:
    """Weights with no zeros and no ones where training would have left none: every tensor of the network matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = weights.build_network(arch, arch.transform.crop).state_dict()
        return {name: value + scale * torch.randn_like(value) for name, value in state.items()}


def images(count: int, crop: int, seed: int = 0) -> torch.Tensor:
    """(count, 3, crop, crop) uint8; each with its own brightness and texture."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(crop, crop), mode="bicubic", align_corners=False)
    return (smooth * 255 + 20 * torch.randn(count, 3, crop, crop, generator=generator)).clamp(0, 255).to(torch.uint8)


def torchvisions(state: dict[str, torch.Tensor], arch: Architecture, pixels: torch.Tensor) -> torch.Tensor:
    """Plain torchvision: its own class, its own normalisation, the head replaced by Identity, float32."""
    model = VisionTransformer(arch.transform.crop, arch.patch, arch.depth, arch.heads, arch.dim, arch.mlp)
    model.heads = torch.nn.Identity()
    model.load_state_dict(state)
    mean, std = arch.transform.mean, arch.transform.std
    with torch.inference_mode():
        return model.eval()(F.normalize(F.convert_image_dtype(pixels, torch.float), list(mean), list(std)))


def embedded(network: vit.ViT, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(pixels)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of the worst image, in relative norm."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.fixture(scope="module")
def b_16() -> dict[str, torch.Tensor]:
    return seeded(B_16, 0, scale=0.02)


@st.composite
def small_architectures(draw) -> Architecture:
    heads = draw(st.integers(1, 3))
    patch = draw(st.integers(1, 9))
    crop = patch * draw(st.integers(1, 5))
    unit = st.floats(0.1, 0.9)
    return Architecture(
        name="small",
        patch=patch,
        dim=heads * draw(st.sampled_from([8, 12, 16])),
        depth=draw(st.integers(1, 3)),
        heads=heads,
        mlp=draw(st.integers(5, 70)),
        transform=replace(
            NANO.transform,
            resize=crop,
            crop=crop,
            mean=draw(st.tuples(unit, unit, unit)),
            std=draw(st.tuples(unit, unit, unit)),
        ),
    )


@settings(max_examples=50, deadline=None)
@given(arch=small_architectures(), seed=st.integers(0, 99), count=st.integers(1, 9))
def test_embeddings_are_torchvisions(arch, seed, count):
    """Any shape of network, any weights, any normalisation: torchvision's embedding to 1e-5, image by image."""
    state, pixels = seeded(arch, seed), images(count, arch.transform.crop, seed)
    found = embedded(vit.build(state, arch, arch.transform), pixels)
    assert (found.shape, found.dtype) == ((count, arch.dim), torch.float32)
    assert error(found, torchvisions(state, arch, pixels)) < 1e-5


@pytest.mark.parametrize("value", [0, 128, 255])
def test_black_and_white_images_are_torchvisions_too(value):
    """The folded normalisation is right at both ends of the range."""
    state, pixels = seeded(NANO, 0), torch.full((2, 3, 64, 64), value, dtype=torch.uint8)
    assert error(embedded(vit.build(state, NANO, NANO.transform), pixels), torchvisions(state, NANO, pixels)) < 1e-5


@pytest.mark.parametrize("name", sorted(weights.build_network(NANO, 64).state_dict()))
def test_every_tensor_takes_part(name):
    """Each tensor of the network, changed alone, changes the embedding."""
    state, pixels = seeded(NANO, 0), images(2, 64)
    before = embedded(vit.build(state, NANO, NANO.transform), pixels)
    changed = {**state, name: state[name] + 0.1 * torch.randn(state[name].shape, generator=torch.Generator())}
    assert error(embedded(vit.build(changed, NANO, NANO.transform), pixels), before) > 1e-4


def test_vit_b_16_is_torchvisions(b_16):
    """The whole vit_b_16 with seeded weights on four images: fp32 to 1e-5 relative, bf16 to 3e-2, image by image."""
    pixels = images(4, 224)
    expected = torchvisions(b_16, B_16, pixels)
    distances = torch.cdist(expected, expected) + 1e9 * torch.eye(4)
    assert distances.min() > 0.1 * expected.norm(dim=1).min()  # four embeddings that differ: the comparison can fail
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        found = embedded(vit.build(b_16, B_16, B_16.transform, dtype=dtype), pixels)
        assert found.dtype == torch.float32
        assert error(found, expected) < bound


def at(arch: Architecture, *, depth: int, crop: int) -> Architecture:
    """The same widths and heads with fewer blocks, for images of another size."""
    return replace(arch, depth=depth, transform=replace(arch.transform, resize=crop, crop=crop))


@pytest.mark.parametrize(
    "arch",
    [
        architecture("vit_b_32"),
        at(architecture("vit_l_16"), depth=3, crop=224),
        at(B_16, depth=3, crop=384),
        at(architecture("vit_l_16"), depth=1, crop=512),
    ],
    ids=lambda arch: f"{arch.name} of {arch.depth} blocks at {arch.transform.crop}",
)
def test_other_widths_patches_and_sizes_are_torchvisions(arch):
    """Of the other published networks, some with fewer blocks: fp32 to 1e-5 relative, image by image."""
    state, pixels = seeded(arch, 1, scale=0.02), images(2, arch.transform.crop)
    expected = torchvisions(state, arch, pixels)
    assert torch.dist(expected[0], expected[1]) > 0.1 * expected.norm(dim=1).min()
    assert error(embedded(vit.build(state, arch, arch.transform), pixels), expected) < 1e-5


def test_real_photographs_are_embedded_as_torchvision_does(b_16, hymenoptera):
    """From the file to the embedding: two photographs, against the weights' own preset and torchvision's network."""
    from PIL import Image
    from torchvision.models import ViT_B_16_Weights

    files = sorted((hymenoptera / "train/bees").iterdir())[:2]
    preset = ViT_B_16_Weights.IMAGENET1K_V1.transforms()
    model = VisionTransformer(224, 16, 12, 12, 768, 3072)
    model.heads = torch.nn.Identity()
    model.load_state_dict(b_16)
    with torch.inference_mode():
        expected = model.eval()(torch.stack([preset(Image.open(file).convert("RGB")) for file in files]))
    pixels = torch.stack([torch.from_numpy(decode_image(file.read_bytes(), B_16.transform)) for file in files])
    assert error(embedded(vit.build(b_16, B_16, B_16.transform), pixels), expected) < 1e-5


def same_wherever_they_stand(network: vit.ViT, pixels: torch.Tensor, order: torch.Tensor, kept: int) -> None:
    """Assert that the first `kept` of `order` have the same bits at other places, the rest of the batch zeroed."""
    before = embedded(network, pixels)
    moved = pixels[order]
    moved[kept:] = 0
    assert torch.equal(embedded(network, moved)[:kept], before[order[:kept]])


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@settings(max_examples=30, deadline=None)
@given(data=st.data(), count=st.integers(1, 36))
def test_an_embedding_depends_on_nothing_but_its_image(dtype, data, count):
    """At any batch size: not on the place in the batch, not on the neighbours, not on the padding; bit by bit."""
    order = data.draw(st.permutations(range(count)))
    kept = data.draw(st.integers(1, count))
    network = vit.build(seeded(NANO, 3), NANO, NANO.transform, dtype=dtype)
    same_wherever_they_stand(network, images(count, 64), torch.tensor(order), kept)


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 32), (torch.float32, 5), (torch.bfloat16, 8)], ids=str)
def test_an_embedding_of_vit_b_16_depends_on_nothing_but_its_image(b_16, dtype, count):
    """The same for the real network, in the batch size that a CPU uses and in odd ones."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    network = vit.build(b_16, B_16, B_16.transform, dtype=dtype)
    same_wherever_they_stand(network, images(count, 224), order, max(1, count * 2 // 3))


def test_building_leaves_the_tensors_alone():
    """The tensors that a network is built from are not changed, whatever the precision."""
    state = seeded(NANO, 0)
    before = weights.hash_tensors(state)
    for dtype in PRECISIONS:
        embedded(vit.build(state, NANO, NANO.transform, dtype=dtype), images(2, 64))
    assert weights.hash_tensors(state) == before


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_cpu_without_the_fused_product(dtype, monkeypatch):
    """Where oneDNN refuses the fused product, as for bfloat16 on a CPU without AVX-512, torch's own is taken."""

    def refuses(*args):
        raise RuntimeError("could not create a primitive descriptor")

    state, pixels = seeded(NANO, seed=3), images(4, NANO.transform.crop)
    built = vit.build(state, NANO, NANO.transform, dtype=dtype)
    with torch.inference_mode():
        expected = built(pixels)
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", refuses)
        vit_blocks.has_fused.cache_clear()
        try:
            found = built(pixels)
            assert not vit_blocks.has_fused(dtype)
        finally:
            vit_blocks.has_fused.cache_clear()
    assert torch.linalg.vector_norm(found - expected) < 0.02 * torch.linalg.vector_norm(expected)
