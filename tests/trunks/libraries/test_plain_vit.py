"""The fast forward runs every plain ViT of every library, with its library's own features, and nothing else."""

import math

import numpy as np
import pytest
import timm
import torch
from timm.layers import GluMlp, SwiGLU
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from featcache.media import decode_image
from featcache.recipe import TrunkSection
from featcache.trunks import ViT, WeightsMemo, load_trunk
from featcache.trunks.libraries import LibrarySource, timm_models
from featcache.trunks.libraries.base import freeze
from featcache.trunks.libraries.network import LibraryNetwork
from featcache.trunks.libraries.plain_vit import NotPlainError
from featcache.trunks.libraries.registry import library_of
from featcache.trunks.libraries.running import build_network, build_plain_vit
from featcache.trunks.libraries.transformers_models import TransformersModels
from tests.golden.networks import GOLDEN, NETWORKS, pictures, png, set_weights, sketch
from tests.trunks.libraries.folders import FAMILIES

UNUSED = ("timm:mixer_s32_224", "timm:vit_small_patch16_224")  # no ViT; as the tiny one
PLAIN = [
    network
    for network in NETWORKS
    if "tokens" in network.layers and not network.is_large and network.arch not in UNUSED
]
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
VARIANTS = {
    "layer scale, registers": (VisionTransformer, {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True}),
    "pre-norm, QuickGELU": (VisionTransformer, {"pre_norm": True, "act_layer": "quick_gelu"}),
    "tanh GELU, pooled by attention": (
        VisionTransformer, {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"},
    ),
    "averaged, then normalised": (VisionTransformer, {"class_token": False, "global_pool": "avg", "fc_norm": True}),
    "qk-norm, inner norms": (VisionTransformer, {"qk_norm": True, "scale_attn_norm": True, "scale_mlp_norm": True}),
    "SwiGLU in one product": (
        VisionTransformer, {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU, "mlp_ratio": 4},
    ),
    "SwiGLU apart, no biases": (VisionTransformer, {"mlp_layer": SwiGLU, "act_layer": "silu", "qkv_bias": False}),
    "rotated neighbours": (
        Eva, {"use_rot_pos_emb": True, "swiglu_mlp": True, "scale_mlp": True, "qk_norm": True},
    ),
    "rotated halves": (
        Eva, {
            "use_rot_pos_emb": True, "use_abs_pos_emb": False, "rope_type": "dinov3", "rope_rotate_half": True,
            "num_reg_tokens": 2, "init_values": 0.1, "dynamic_img_size": True,
        },
    ),
}  # fmt: skip


def small(name):
    """Return a small network of timm's, and the layers that it has."""
    class_, options = VARIANTS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = freeze(class_(**SMALL | options))
    set_weights(module)
    network = timm_models.network_of(module, "", timm, image_size=32)
    layers = ["mean", "pooled", "tokens", "grid2", "mean@-2", *(["cls", "cls@-2"] if network.has_class_token else [])]
    return network, layers


def build(network, layers, dtype=torch.float32):
    return build_plain_vit(network, layers, network.transform, dtype=dtype, device="cpu")


@pytest.mark.parametrize("network", PLAIN, ids=lambda network: network.arch)
def test_every_layer_equals_the_librarys_own_loop(network):
    """In float32 no layer differs from what its library's loop gave, for other pictures and long ago, by 1e-5."""
    library, name = library_of(network.arch)
    loaded = library.load(name, "random", network.image_size)
    set_weights(loaded.module, "visual." if network.arch.startswith("open_clip:") else "")
    images = pictures()[1::8]
    pixels = torch.from_numpy(np.stack([decode_image(png(image), loaded.transform) for image in images]))
    golden = np.load(GOLDEN)

    fast = build(loaded, network.layers)

    width, patches = fast.prefix.shape[-1], fast.grid[0] * fast.grid[1]
    widths = {"tokens": patches * width, "grid2": 4 * width}
    if "open_clip" in network.arch:
        widths["pooled"] = fast.pooling.head.weight.shape[0]
    with torch.inference_mode():
        columns = torch.split(fast(pixels), [widths.get(layer, width) for layer in network.layers], dim=1)
    for layer, rows in zip(network.layers, columns, strict=True):
        expected = golden[f"{network.arch}/{layer}"][1::8]
        assert np.abs(sketch(rows.numpy()) - expected).max() <= 1e-5 * expected[:, -1].min(), layer


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_of_a_block_runs_fast(name):
    """What DINOv2, DINOv3, CLIP, SigLIP and EVA add to a ViT: each layer as the module gives it, in bfloat16 nearly."""
    network, layers = small(name)
    pixels = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = LibraryNetwork(network, layers, network.transform, dtype=torch.float32, device="cpu")(pixels)
        for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
            rows = build(network, layers, dtype)(pixels)
            assert ((rows - expected).norm(dim=1) / expected.norm(dim=1)).max() < bound


@pytest.mark.parametrize("family", ["vit", "deit", "dinov2", "dinov2_with_registers", "clip", "siglip"])
def test_the_families_of_transformers_run_fast(family, tmp_path):
    """Each of them is described, and equal to its library's module on images that it was not compared on."""
    FAMILIES[family].save(tmp_path)
    network = TransformersModels().load(str(tmp_path), "pretrained", 0)
    layers = ["pooled", "mean", "tokens", "mean@-2", *(["cls", "cls@-2"] if FAMILIES[family].prefix_tokens else [])]
    pixels = torch.randint(0, 256, (5, 3, *network.transform.input_size), dtype=torch.uint8)
    with torch.inference_mode():
        rows = build(network, layers)(pixels)
        expected = LibraryNetwork(network, layers, network.transform, dtype=torch.float32, device="cpu")(pixels)
    assert ((rows - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-5


@pytest.mark.parametrize(
    ("arch", "size", "layer", "reason"),
    [
        ("timm:resnet18", 0, "pooled", "it is no ViT"),
        ("timm:beit_base_patch16_224", 64, "cls", "the fast forward differs from it by"),
        ("timm:vit_tiny_patch16_224", 64, "name:blocks.3", "layer name:blocks.3 is read from it"),
    ],
)
def test_other_networks_run_by_their_librarys_module(arch, size, layer, reason):
    """What is no plain ViT, or read from a module of its own, is run by that module; the reason is noted."""
    library, name = library_of(arch)
    loaded = library.load(name, "random", size)
    set_weights(loaded.module)
    built = build_network(
        loaded, [layer], loaded.transform, dtype=torch.float32, device="cpu", versions={}, package="timm"
    )
    assert isinstance(built, LibraryNetwork)
    assert built.note.startswith(f"timm's own module ({reason}")


@pytest.mark.parametrize("change", ["attn", "norm1", "mlp"])
def test_a_module_that_computes_something_else_is_not_run_fast(change):
    """A part that does more than its type says is seen by what it gives, and the module is run as it is."""
    network, layers = small("layer scale, registers")
    part = getattr(network.blocks[1], change)
    part.register_forward_hook(lambda _module, _inputs, output: output * 1.001)
    with pytest.raises(NotPlainError, match="the fast forward differs from it by"):
        build(network, layers)


def test_a_gated_mlp_of_another_order_is_not_run_fast():
    """A gate in the second half in place of the first shows as well."""
    network, layers = small("SwiGLU in one product")
    for block in network.blocks:
        assert isinstance(block.mlp, GluMlp)
        block.mlp.gate_last = True
    with pytest.raises(NotPlainError, match="differs"):
        build(network, layers)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rows_do_not_depend_on_their_batch(precision, tmp_path):
    """The bytes of a row are the same in a batch of 32, of 8, and of 5, wherever it stands in it."""
    section = TrunkSection(
        arch="timm:vit_tiny_patch16_224", weights="random", image_size=64, precision=precision, layer=("cls", "mean")
    )
    source = LibrarySource(section, WeightsMemo(tmp_path))
    spec = source.specs({"fp32": "float32", "bf16": "bfloat16"}[precision])[0]
    trunk = load_trunk(source, spec, device="cpu", layers=("cls", "mean"))
    pixels = np.random.default_rng(0).integers(0, 256, (35, 3, 64, 64), dtype=np.uint8)
    assert isinstance(trunk.network, ViT)
    assert trunk.engine.sentence() == "engine eager: as requested; the fast forward of ViTs"

    rows = trunk.embed(pixels)

    assert not math.isnan(rows.sum())
    assert np.array_equal(trunk.embed(pixels[3:11]), rows[3:11])
    assert np.array_equal(trunk.embed(pixels[7:12]), rows[7:12])
    assert np.array_equal(trunk.embed(pixels[::-1].copy())[::-1], rows)
    small_batches = load_trunk(source, spec, device="cpu", layers=("cls", "mean"), batch_size=8)
    assert np.array_equal(small_batches.embed(pixels), rows)
    assert trunk.provenance()["versions"]["timm"] == timm.__version__
