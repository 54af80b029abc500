"""One Vision Transformer under the tensor names of torchvision, timm (DINO, MAE) and transformers."""

import pytest
import torch

from featcache.trunks import hash_tensors
from featcache.trunks.checkpoints import naming_of, rename_vit
from tests.trunks.saving import NANO, load_tensors, refused, saved

CROP = NANO.transform.crop
NAMINGS = ("torchvision", "timm", "transformers")
WRAPPINGS = {
    "bare": lambda state: state,
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "state_dict, model.": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
    "teacher.backbone.": lambda state: {"teacher": {f"backbone.{name}": value for name, value in state.items()}},
}


@pytest.fixture
def state(tensors):
    return dict(tensors)


@pytest.mark.parametrize("source", NAMINGS)
@pytest.mark.parametrize("target", NAMINGS)
def test_names_go_there_and_back(state, source, target):
    """Renaming to any library's names and on to another's loses and changes nothing."""
    named = rename_vit(rename_vit(state, source), target)
    assert naming_of(named) == target
    back = rename_vit(named, "torchvision")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_one_network_has_one_hash_under_every_librarys_names(tmp_path, state, naming, wrapping):
    """Weights in torchvision's, timm's and transformers' names load into the same trunk, whatever wraps them."""
    file = saved(tmp_path / "weights.pth", WRAPPINGS[wrapping](rename_vit(state, naming)))
    assert hash_tensors(load_tensors(NANO, file)) == hash_tensors(state)


def test_a_librarys_own_network_writes_names_that_are_read(tmp_path):
    """What timm's and transformers' own ViT save computes the same as torchvision's network filled with it."""
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=CROP, patch_size=NANO.patch, embed_dim=NANO.dim, depth=NANO.depth, num_heads=NANO.heads,
        mlp_ratio=NANO.mlp / NANO.dim, num_classes=5,
    ).eval()  # fmt: skip
    tensors = load_tensors(NANO, saved(tmp_path / "timm.pth", theirs.state_dict()))
    pixels = torch.randn(3, 3, CROP, CROP)
    ours = _torchvision(tensors)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels), theirs.forward_features(pixels)[:, 0], rtol=1e-5, atol=1e-5)
    config = transformers.ViTConfig(
        image_size=CROP, patch_size=NANO.patch, hidden_size=NANO.dim, num_hidden_layers=NANO.depth,
        num_attention_heads=NANO.heads, intermediate_size=NANO.mlp, layer_norm_eps=1e-6,
    )  # fmt: skip
    other = transformers.ViTForImageClassification(config).eval()
    for state in (other.state_dict(), other.vit.state_dict()):  # as its modules are called
        ours = _torchvision(load_tensors(NANO, saved(tmp_path / "state.pth", state)))
        with torch.inference_mode():
            expected = other.vit(pixel_values=pixels).last_hidden_state[:, 0]
            torch.testing.assert_close(ours(pixels), expected, rtol=1e-5, atol=1e-5)
    other.save_pretrained(tmp_path / "folder")  # as its files are written
    file = str(tmp_path / "folder" / "model.safetensors")
    assert hash_tensors(load_tensors(NANO, file)) == hash_tensors(load_tensors(NANO, str(tmp_path / "state.pth")))


def _torchvision(tensors):
    from featcache.trunks.weights import build_network

    network = build_network(NANO, CROP).eval()
    network.load_state_dict(tensors, strict=True)
    return network


@pytest.mark.parametrize("naming", ["timm", "transformers"])
def test_half_a_network_under_other_names_is_refused(tmp_path, state, naming):
    """A renamed checkpoint that lacks one block's keys, or has a tensor too many, loads nothing."""
    named = rename_vit(state, naming)
    part = "blocks.1.attn.qkv.weight" if naming == "timm" else "encoder.layer.1.attention.attention.key.weight"
    less = {name: value for name, value in named.items() if name != part}
    assert "tensors missing (first: encoder.layers.encoder_layer_1" in refused(saved(tmp_path / "less.pth", less))
    more = named | {"blocks.0.ls1.gamma": torch.ones(NANO.dim)}
    assert "1 that vit_nano_16 does not have (first: blocks.0.ls1" in refused(saved(tmp_path / "more.pth", more))


def test_a_teacher_and_a_student_that_differ_are_refused(tmp_path, state):
    """DINO's full checkpoint holds two networks; none is chosen, and the message names both."""
    named = rename_vit(state, "timm")
    other = {name: value + 1 for name, value in named.items()}
    document = {
        "teacher": {f"backbone.{name}": value for name, value in named.items()},
        "student": {f"module.backbone.{name}": value for name, value in other.items()},
    }
    message = refused(saved(tmp_path / "dino.pth", document))
    assert "2 sets of weights of this network, and they differ" in message
    assert "['teacher']" in message
    assert "['student']" in message


def test_a_classifier_under_other_names_is_left_out(tmp_path, state):
    """A head, and transformers' pooler, do not change the identity of the trunk."""
    head = {"head.weight": torch.ones(5, NANO.dim), "head.bias": torch.ones(5)}
    file = saved(tmp_path / "timm.pth", rename_vit(state, "timm") | head)
    assert hash_tensors(load_tensors(NANO, file)) == hash_tensors(state)
    named = {f"vit.{name}": value for name, value in rename_vit(state, "transformers").items()}
    named |= {"classifier.weight": torch.ones(5, NANO.dim), "vit.pooler.dense.weight": torch.ones(NANO.dim, NANO.dim)}
    assert hash_tensors(load_tensors(NANO, saved(tmp_path / "hf.pth", named))) == hash_tensors(state)
