"""Files that hold no weights of the trunk: each ends as one error that says what to do."""

import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from torchvision.models import VisionTransformer

from featcache.trunks.architectures import architecture
from tests.trunks.saving import Canary, refused, saved

SHARED = Path(__file__).parents[3] / "shared" / "data"


NANO = architecture("vit_nano_16")


B_16 = architecture("vit_b_16")


TOKEN = "class_token"


# --- what is refused ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["resnet18-5c106cde.pth", "resnet18-f37072fd.pth"])
def test_real_files_that_are_no_checkpoints(name):
    """Two real files that pass for checkpoints by their names are refused with one clear sentence each."""
    file = SHARED / "bad_checkpoints" / name
    if not file.is_file():
        pytest.skip("../shared/data/bad_checkpoints is not here")
    said = refused(str(file), B_16)
    assert f"{name}: this is not a complete checkpoint ({file.stat().st_size:,} bytes)" in said
    assert "fetch or save it again" in said


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, tensors, suffix, share):
    """A file cut off anywhere, to nothing too, is no complete checkpoint."""
    path = tmp_path / f"x{suffix}"
    saved(path, dict(tensors))
    os.truncate(path, int(path.stat().st_size * share))
    said = "this is not a complete checkpoint" if path.stat().st_size else "this file is empty (0 bytes)"
    assert said in refused(str(path))


@pytest.mark.parametrize("carrier", ["torch", "pickle", "legacy", "in a state dict"])
def test_code_in_a_checkpoint_is_not_executed(tmp_path, tensors, carrier):
    """A checkpoint that holds code is refused, and the code is not run."""
    canary, path = Canary(tmp_path / "sang"), tmp_path / "x.pth"
    if carrier == "pickle":
        path.write_bytes(pickle.dumps(canary))
    elif carrier == "legacy":
        torch.save(canary, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({**tensors, "extra": canary} if carrier == "in a state dict" else canary, path)
    said = refused(str(path))
    assert "which only running code of the file could read" in said
    assert carrier == "pickle" or "mkdir" in said
    assert not (tmp_path / "sang").exists()
    pickle.loads(pickle.dumps(canary))
    assert (tmp_path / "sang").exists()  # it can sing


@pytest.mark.parametrize("value", [torch.zeros(3), [1, 2], {}, {1: torch.zeros(1)}, 7, "text", None])
def test_what_is_no_state_dict_says_what_it_is(tmp_path, value):
    """A file that torch can read, but that holds no names to tensors, is refused by its type."""
    said = refused(saved(tmp_path / "x.pth", value))
    assert "expected a state dict (names to tensors)" in said or "not a complete checkpoint" in said


def test_missing_foreign_and_misshapen_tensors_are_counted_and_named(tmp_path, tensors):
    """One error counts what is missing, what is foreign and what has another shape, and names the first of each."""
    state = dict(tensors)
    del state["encoder.ln.weight"], state["encoder.ln.bias"]
    state["fc.weight"] = torch.zeros(1)
    state[TOKEN] = torch.zeros(1, 1, 65)
    said = refused(saved(tmp_path / "x.pth", state))
    assert "2 tensors missing (first: encoder.ln.weight)" in said
    assert "1 that vit_nano_16 does not have (first: fc.weight)" in said
    assert "1 of another shape (first: class_token is (1, 1, 65), expected (1, 1, 64))" in said
    assert "These are the tensors of torchvision's vit_nano_16" in said


def test_weights_of_another_architecture_or_size_are_refused(tmp_path, tensors):
    """vit_nano_16's tensors are not vit_b_16's, and those of another image size do not fit either."""
    path = saved(tmp_path / "x.pth", dict(tensors))
    assert "not those of torchvision's vit_b_16 at 224 pixels" in refused(path, B_16)
    larger = VisionTransformer(80, 16, 2, 2, 64, 128).state_dict()
    assert "encoder.pos_embedding is (1, 26, 64), expected (1, 17, 64)" in refused(saved(tmp_path / "y.pth", larger))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, tensors, value):
    """A single nan or inf is found before it makes every embedding one."""
    state = {name: tensor.clone() for name, tensor in tensors.items()}
    state["encoder.layers.encoder_layer_1.mlp.3.weight"][3, 5] = value
    said = refused(saved(tmp_path / "x.pth", state))
    assert "1 tensors hold nan or inf (first: encoder.layers.encoder_layer_1.mlp.3.weight)" in said


def test_doubles_that_overflow_are_refused(tmp_path, tensors):
    """1e300 is finite as it is saved, and is not as it would be used."""
    assert "nan or inf" in refused(
        saved(tmp_path / "x.pth", {**tensors, TOKEN: torch.full((1, 1, 64), 1e300, dtype=torch.float64)})
    )


STRANGE = {
    "a string": lambda _: "here",
    "whole numbers": lambda value: value.int(),
    "complex": lambda value: value.to(torch.complex64),
    "on no device": lambda value: value.to("meta"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_plain_tensor_is_refused(tmp_path, tensors, kind):
    """A string, whole or complex numbers, or a tensor without contents is named, not a traceback."""
    said = refused(saved(tmp_path / "x.pth", {**tensors, TOKEN: STRANGE[kind](tensors[TOKEN])}))
    assert "1 of another shape (first: class_token is " in said


def test_a_sparse_tensor_is_refused(tmp_path, tensors):
    """A sparse tensor of the right shape is named too."""
    path = saved(tmp_path / "x.pth", {**tensors, TOKEN: tensors[TOKEN].to_sparse()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about what it checks
        assert "sparse_coo" in refused(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.pth", "no such file"), ("folder.pth", "cannot be read: it is a folder, not a regular file")],
)
def test_a_file_that_is_none_is_named(tmp_path, name, said):
    """A missing file, and a folder in its place, are named with the option that names another."""
    (tmp_path / "folder.pth").mkdir()
    assert f"{name}: {said}; name a .pth or .safetensors file with --weights" in refused(str(tmp_path / name))
