"""Checkpoints as trainers leave them: read, or refused with a reason that is true of the file and says what to do."""

import argparse
import contextlib
import io
import os
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from featcache.errors import MachineError
from featcache.trunks import weights
from featcache.trunks.architectures import architecture
from featcache.trunks.checkpoints import tensor_names
from tests.trunks.saving import load_tensors

NANO = architecture("vit_nano_16")
B_16 = architecture("vit_b_16")
SHARED = Path(__file__).parents[3] / "shared" / "data"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors(nano) -> State:
    return load_tensors(NANO, str(nano.weights))


@pytest.fixture(scope="module")
def others(tensors) -> State:
    """Another set of weights of the same network."""
    return {name: value + 0.01 for name, value in tensors.items()}


def save(path: Path, document: object) -> str:
    torch.save(document, path)
    return str(path)


def refused(asked: str, arch=NANO) -> str:
    with pytest.raises(MachineError) as caught:
        load_tensors(arch, asked)
    return str(caught.value)


def follow(said: str, folder: Path) -> None:
    """Run the lines of Python that a message gives, in this folder."""
    with contextlib.chdir(folder):
        exec("\n".join(line.strip() for line in said.split("\n")[1:]), {})


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def compiled_inside(state: State) -> State:
    return {name.replace("encoder.layers.", "encoder._orig_mod.layers.", 1): value for name, value in state.items()}


NAMES = {
    "compiled": lambda state: prefixed("_orig_mod.", state),
    "parallel": lambda state: prefixed("module.", state),
    "a part compiled": compiled_inside,
    "lightning": lambda state: prefixed("model.", state) | {"criterion.weight": torch.ones(3)},
    "a backbone": lambda state: prefixed("backbone.", state) | {"fc.weight": torch.ones(2, 64)},
    "averaged": lambda state: {"n_averaged": torch.tensor(5), **prefixed("module.", state)},
    "a classifier": lambda state: state | {"heads.head.weight": torch.ones(7, 64), "heads.head.bias": torch.ones(7)},
}
KEYS = {
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "hyper_parameters": {"lr": 0.1}, "callbacks": {}},
    "model": lambda state: {"model": state, "optimizer": adam(state), "scaler": {"scale": 2.0}},
    "net": lambda state: {"net": state, "best": 0.5},
    "an equal average": lambda state: {"model": state, "model_ema": {"module": state, "updates": 7}},
    "ema of another kind": lambda state: {"ema": {"shadow": {"decay": 0.9}}, "weights": state},
}


def adam(state: State) -> dict[str, object]:
    moments = {number: {"step": torch.tensor(1.0), "exp_avg": value} for number, value in enumerate(state.values())}
    return {"state": moments, "param_groups": [{"lr": 0.1, "params": list(moments)}]}


@settings(max_examples=15)
@given(st.lists(st.sampled_from(sorted(NAMES)), max_size=3, unique=True), st.sampled_from(["", *sorted(KEYS)]))
def test_wrapping_changes_nothing(tensors, tmp_path_factory, around, below):
    """Whatever wrappers add to the names, in any order, and whatever keys stand above them: the digest is the same."""
    state = dict(tensors)
    for wrapper in around:
        state = NAMES[wrapper](state)
    document = KEYS[below](state) if below else state
    path = save(tmp_path_factory.mktemp("x") / "x.pth", document)
    assert weights.hash_tensors(load_tensors(NANO, path)) == weights.hash_tensors(tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(tmp_path, tensors, dtype):
    """Tensors saved in half precision are those numbers in float32."""
    half = {name: value.to(dtype) for name, value in tensors.items()}
    found = load_tensors(NANO, save(tmp_path / "x.pth", half))
    assert all(torch.equal(found[name], half[name].float()) for name in tensors)


AMBIGUOUS = {
    "an average beside it": lambda a, b: {"model": a, "model_ema": prefixed("module.", b)},
    "lightning's average": lambda a, b: {"state_dict": prefixed("model.", a) | prefixed("ema_model.", b)},
    "teacher and student": lambda a, b: {"student": a, "teacher": prefixed("backbone.", b)},
    "x and module.x": lambda a, b: a | prefixed("module.", b),
    "x and _orig_mod.x": lambda a, b: a | prefixed("_orig_mod.", b),
    "an average deep inside": lambda a, b: {"model": a, "callbacks": {"ema": {"state": b}}},
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_of_several_sets_none_is_chosen(tmp_path, tensors, others, kind):
    """Where sets of weights differ the file is refused, and the lines that the message gives do save one of them."""
    path = save(tmp_path / "x.pth", AMBIGUOUS[kind](dict(tensors), others))
    said = refused(path)
    assert "it holds 2 sets of weights of this network, and they differ" in said
    follow(said, tmp_path)
    found = weights.hash_tensors(load_tensors(NANO, str(tmp_path / "x-weights.pth")))
    assert found in (weights.hash_tensors(tensors), weights.hash_tensors(others))


def test_what_needs_code_says_how_to_save_the_tensors(tmp_path, tensors):
    """Training arguments beside the weights (torchvision's own scripts): the lines in the message give a file that
    loads, and nothing was run before.
    """
    path = save(tmp_path / "x.pth", {"model": dict(tensors), "args": argparse.Namespace(lr=1)})
    said = refused(path)
    assert "argparse.Namespace" in said
    follow(said, tmp_path)
    assert weights.hash_tensors(load_tensors(NANO, str(tmp_path / "x-weights.pth"))) == weights.hash_tensors(tensors)


def test_a_whole_model_is_called_one(tmp_path):
    """A pickled module, and a TorchScript program, are named as such, with the lines that save their tensors."""
    model = weights.build_network(NANO, 64)
    assert "a whole model" in refused(save(tmp_path / "x.pth", model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: nobody should make such files any more
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "y.pt"))
    assert "TorchScript" in refused(str(tmp_path / "y.pt"))


def test_safetensors_under_any_name(tmp_path, tensors):
    """What a file is shows in its bytes: safetensors named .pth, with metadata, and torch's format named so."""
    state = {name: value.contiguous() for name, value in prefixed("model.", dict(tensors)).items()}
    save_file(state, tmp_path / "x.pth", metadata={"format": "pt"})
    torch.save(dict(tensors), tmp_path / "y.safetensors")
    for name in ("x.pth", "y.safetensors"):
        assert weights.hash_tensors(load_tensors(NANO, str(tmp_path / name))) == weights.hash_tensors(tensors)


def archive_of(content: bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def jax_file() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"Transformer/encoderblock_0/LayerNorm_0/scale": np.ones(3)})
    return buffer.getvalue()


def tar_file() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return buffer.getvalue()


FILES = {
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 330000000\n",
    "a web page": b"\n<!DOCTYPE html><html><head><title>Sign in</title>",
    "this file is empty": b"",
    'text that begins with \'{"error"': b'{"error": "not found"}',
    "arrays (.npz), as the original ViT's weights for JAX come": jax_file(),
    "a zip archive that torch.save did not write": archive_of(b"x", "weights/readme.txt"),
    "a tar archive": tar_file(),
    "a compressed archive": b"\x1f\x8b\x08\x00" + bytes(100),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "an ONNX model": b"\x08\x08\x12\x07pytorch\x1a\x052.4.0" + bytes(100),
    "not a complete checkpoint (100 bytes)": b"\x80\x02" + bytes(98),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_is_called_what_it_is(tmp_path, what):
    """What is no checkpoint is named as what it is."""
    path = tmp_path / "x.pth"
    path.write_bytes(FILES[what])
    assert what in refused(str(path))


def test_places_that_are_no_files(tmp_path):
    """A folder, a pipe and nothing at all are told apart, and a pipe is not waited for."""
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    assert "it is a folder, not a regular file" in refused(str(tmp_path / "folder.pth"))
    assert "it is a pipe, not a regular file" in refused(str(tmp_path / "pipe.pth"))
    assert "no such file" in refused(str(tmp_path / "none.pth"))


def timm(dim: int, depth: int, patch: int) -> dict[str, tuple[int, ...]]:
    blocks = {f"blocks.{n}.attn.qkv.weight": (3 * dim, dim) for n in range(depth)}
    return {"cls_token": (1, 1, dim), "patch_embed.proj.weight": (dim, 3, patch, patch), **blocks}


def hugging_face(prefix: str) -> dict[str, tuple[int, ...]]:
    layers = {f"{prefix}encoder.layer.{n}.attention.attention.query.weight": (768, 768) for n in range(12)}
    return {f"{prefix}embeddings.patch_embeddings.projection.weight": (768, 3, 16, 16), **layers}


FOREIGN = {
    "timm's names of a ViT-B/16": timm(768, 12, 16),
    "timm's names of a ViT-S/16": timm(384, 12, 16),
    "timm's names of DINOv2's ViT-S/14": timm(384, 12, 14) | {"blocks.0.ls1.gamma": (384,)},
    "names of MAE's ViT-L/16": timm(1024, 24, 16) | {"decoder_embed.weight": (512, 1024)},
    "Hugging Face's names of a ViT-B/16": hugging_face("vit."),
    "Hugging Face's names of a  ViT-B/16".replace("  ", " "): hugging_face(""),
    "names of CLIP's ViT-B/32": {
        "visual.class_embedding": (768,), "visual.conv1.weight": (768, 3, 32, 32),
        "visual.transformer.resblocks.11.attn.in_proj_weight": (2304, 768), "token_embedding.weight": (49408, 512),
    },
    "names of a ResNet": {"conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,), "layer1.0.conv1.weight": (64,)},
    "torchvision's vit_l_16": B_16.shapes(224) | architecture("vit_l_16").shapes(224),
    "torchvision's vit_b_16 for images of 384 pixels": B_16.shapes(384),
}  # fmt: skip


@pytest.mark.parametrize("whose", FOREIGN)
def test_names_are_told_apart(whose):
    """Other libraries' names of a ViT, and other networks, are named as what they are."""
    assert whose in tensor_names.recognize_names(FOREIGN[whose])


def test_a_foreign_checkpoint_is_named_in_the_refusal(tmp_path):
    """The sentence of the error says whose names these are, and what to do."""
    state = {name: torch.zeros(shape) for name, shape in timm(768, 2, 16).items()}
    said = refused(save(tmp_path / "x.pth", {"model": state}), B_16)
    assert "not those of torchvision's vit_b_16 at 224 pixels" in said
    assert "These are timm's names of a ViT-B/16" in said
    assert "torchvision.models.vit_b_16()" in said


@pytest.mark.parametrize(
    ("name", "why"), [("resnet18-5c106cde.pth", "cut short"), ("resnet18-f37072fd.pth", "cut short")]
)
def test_real_files_that_are_no_checkpoints(name, why):
    """Two real files that pass for checkpoints by their names are refused, each with what it is."""
    file = SHARED / "bad_checkpoints" / name
    if not file.is_file():
        pytest.skip("../shared/data/bad_checkpoints is not here")
    assert why in refused(str(file), B_16)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_zeros_in_the_place_of_a_checkpoint_are_not_held(tmp_path, name):
    """A file that nothing can be read from takes no more memory than the part that is looked at."""
    file = tmp_path / name
    with file.open("wb") as opened:
        opened.truncate(1 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(MachineError, match="not a complete checkpoint"):
            load_tensors(NANO, str(file))
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()
