"""Weights from wherever they come end as the same tensors, or as one error that says what to do."""

import io
import os
import pickle
import shutil
import time
import warnings
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import Linear
from torchvision.models import VisionTransformer

from featcache.errors import MachineError, UsageError
from featcache.trunks import weights
from featcache.trunks.architectures import architecture

SHARED = Path(__file__).parents[3] / "shared" / "data"
NANO = architecture("vit_nano_16")
B_16 = architecture("vit_b_16")
TOKEN = "class_token"


@pytest.fixture(scope="module")
def tensors(nano) -> dict[str, torch.Tensor]:
    return weights.load(NANO, str(nano.weights))


def saved(path: Path, state: object) -> str:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def refused(asked: str, arch=NANO) -> str:
    with pytest.raises(MachineError) as caught:
        weights.load(arch, asked)
    assert caught.value.exit_code == 5
    return str(caught.value)


# --- what a name means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("random", "random"),
        ("IMAGENET1K_V1", "published"),
        ("IMAGENET1K_SWAG_E2E_V1", "published"),
        ("mine.pth", "file"),
        ("mine.safetensors", "file"),
        ("folder/mine", "file"),
        ("./random", "file"),
        ("./IMAGENET1K_V1", "file"),
    ],
)
def test_a_name_means_one_thing(asked, kind):
    """Published names, `random` and files are told apart by the name alone."""
    assert weights.kind(B_16, asked) == kind


@pytest.mark.parametrize("asked", ["IMAGENET1K_V2", "imagenet1k_v1", "Random", "", "mine.xyz"])
def test_an_unknown_name_lists_what_there_is(asked):
    """A name that is nothing is the user's mistake, answered with the names that there are."""
    with pytest.raises(UsageError, match=r"IMAGENET1K_V1, .*, a \.pth or \.safetensors file, random"):
        weights.load(B_16, asked)


def test_published_weights_of_another_architecture_are_unknown():
    """Nobody published weights for vit_nano_16."""
    with pytest.raises(UsageError, match="no published weights of vit_nano_16"):
        weights.kind(NANO, "IMAGENET1K_V1")


@pytest.mark.parametrize("environment", [{}, {"TORCH_HOME": "/t"}, {"TORCH_HOME": "~/t"}, {"XDG_CACHE_HOME": "/x"}])
def test_a_download_lies_where_torch_would_look(monkeypatch, environment):
    """The file of published weights is the one in torch.hub's own folder."""
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    expected = Path(torch.hub.get_dir()) / "checkpoints" / "vit_b_16-c867db91.pth"
    assert weights.file_of(B_16, "IMAGENET1K_V1") == expected
    assert weights.file_of(B_16, "random") is None
    assert weights.file_of(B_16, "a/b.pth") == Path("a/b.pth")


def test_weights_bring_their_transform():
    """Published weights have their own transform; a file and random ones that of the architecture."""
    assert weights.transform_of(B_16, "IMAGENET1K_SWAG_E2E_V1").crop == 384
    assert weights.transform_of(B_16, "x.pth") == weights.transform_of(B_16, "random") == B_16.transform


# --- the same tensors, whatever carried them ------------------------------------------------------------------------


def with_heads(state):
    return {**state, "heads.head.weight": torch.ones(34, 64), "heads.head.bias": torch.ones(34)}


def legacy(state):
    renamed = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for name, v in state.items()}
    assert renamed.keys() != state.keys()
    return renamed


CARRIERS = {
    "as it is": lambda state: state,
    "with a classifier": with_heads,
    "from DataParallel": lambda state: {f"module.{name}": value for name, value in with_heads(state).items()},
    "in state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "in model": lambda state: {"model": with_heads(state), "args": None},
    "in state_dict from DataParallel": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "legacy names": legacy,
    "legacy names from DataParallel": lambda state: {f"module.{k}": v for k, v in legacy(with_heads(state)).items()},
    "another order": lambda state: OrderedDict(reversed(state.items())),
    "as parameters": lambda state: {name: torch.nn.Parameter(value) for name, value in state.items()},
    "as doubles": lambda state: {name: value.double() for name, value in state.items()},
    "not contiguous": lambda state: {k: v.mT.contiguous().mT if v.dim() > 1 else v for k, v in state.items()},
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_digest_is_of_the_tensors_not_of_the_file(tmp_path, tensors, carrier):
    """However a .pth carries the tensors, what is loaded and its digest are the same."""
    found = weights.load(NANO, saved(tmp_path / "x.pth", CARRIERS[carrier](tensors)))
    assert list(found) == list(tensors)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == torch.float32 for name in tensors)
    assert weights.digest(found) == weights.digest(tensors)


@pytest.mark.parametrize("carrier", ["as it is", "with a classifier", "from DataParallel", "legacy names"])
def test_safetensors_carry_the_same(tmp_path, tensors, carrier):
    """A .safetensors file is as good as a .pth."""
    found = weights.load(NANO, saved(tmp_path / "x.safetensors", CARRIERS[carrier](tensors)))
    assert weights.digest(found) == weights.digest(tensors)


def test_torchvisions_own_checkpoint_is_taken_as_it_is(tmp_path):
    """What torch.save(model.state_dict()) of torchvision's own network with a classifier writes is loaded."""
    torch.manual_seed(0)
    model = VisionTransformer(64, 16, 2, 2, 64, 128, num_classes=7)
    found = weights.load(NANO, saved(tmp_path / "own.pth", model.state_dict()))
    model.heads = Linear(64, 1)
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("heads.")}
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_change_of_one_number_changes_the_digest(tensors, data):
    """One weight of one tensor changed in its last bit is another digest."""
    name = data.draw(st.sampled_from(sorted(tensors)))
    changed = {**tensors, name: tensors[name].clone()}
    flat = changed[name].view(-1)
    place = data.draw(st.integers(0, len(flat) - 1))
    flat[place] = torch.nextafter(flat[place], torch.tensor(float("inf")))
    assert weights.digest(changed) != weights.digest(tensors)


def test_the_digest_knows_names_and_shapes(tensors):
    """The same bytes under another name or in another shape are another digest."""
    one = torch.arange(4.0)
    assert len({weights.digest(state) for state in ({"a": one}, {"b": one}, {"a": one.view(2, 2)}, {})}) == 4
    assert weights.digest({"a": one, "b": one}) == weights.digest({"b": one, "a": one})


def test_random_weights_are_the_same_every_time():
    """`random` is seeded, whatever the state of torch's generator, and leaves that as it was."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = weights.digest(weights.load(NANO, "random"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert weights.digest(weights.load(NANO, "random")) == one
    assert version("torch") in weights.memo_name("random")


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18-5c106cde.pth", "resnet18-f37072fd.pth"])
def test_real_files_that_are_no_checkpoints(name):
    """Two real files that pass for checkpoints by their names are refused with one clear sentence each."""
    file = SHARED / "bad_checkpoints" / name
    if not file.is_file():
        pytest.skip("../shared/data/bad_checkpoints is not here")
    said = refused(str(file), B_16)
    assert f"{name}: this is no complete checkpoint ({file.stat().st_size:,} bytes)" in said
    assert "fetch or save it again" in said


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, tensors, suffix, share):
    """A file cut off anywhere, to nothing too, is no complete checkpoint."""
    path = tmp_path / f"x{suffix}"
    saved(path, dict(tensors))
    os.truncate(path, int(path.stat().st_size * share))
    said = "this is no complete checkpoint" if path.stat().st_size else "this file is empty (0 bytes)"
    assert said in refused(str(path))


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


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
    assert "expected a state dict (names to tensors)" in said or "no complete checkpoint" in said


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


# --- published weights ----------------------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """No network, whatever the machine has, and an empty torch home; gives the folder of the checkpoints."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/checkpoints"


def test_weights_out_of_reach_say_what_to_do(offline, capsys):
    """Without a network the error names the file to bring, where to put it, and the other ways; stdout stays empty."""
    said = refused("IMAGENET1K_V1", B_16)
    assert "weights IMAGENET1K_V1 of vit_b_16 are out of reach: " in said
    assert f"Copy vit_b_16-c867db91.pth to {offline}" in said
    assert "--weights FILE" in said
    assert "--weights random" in said
    assert capsys.readouterr().out == ""
    assert not list(offline.glob("*"))


@pytest.mark.parametrize("content", ["garbage", "nothing", "pickle", "canary", "checkpoint"])
def test_a_download_that_is_not_what_its_name_says_is_never_opened(offline, tensors, tmp_path, content):
    """A file in the download's place whose sha256 is wrong is refused before a byte of it is unpickled."""
    offline.mkdir(parents=True)
    file = offline / "vit_b_16-c867db91.pth"
    buffer = io.BytesIO()
    torch.save({"x": Canary(tmp_path / "sang")}, buffer)
    file.write_bytes(
        {"garbage": b"garbage", "nothing": b"", "pickle": pickle.dumps(Canary(tmp_path / "sang"))}.get(
            content, buffer.getvalue()
        )
    )
    if content == "checkpoint":
        saved(file, dict(tensors))
    said = refused("IMAGENET1K_V1", B_16)
    assert f"{file}: its sha256 does not start with c867db91: damaged. Remove it" in said
    assert not (tmp_path / "sang").exists()
    assert file.exists()


def test_reachable_is_a_question_with_a_time_limit(offline):
    """Weights on disk are in reach; without a network they are not, and the answer does not take longer than asked."""
    begun = time.monotonic()
    assert not weights.reachable(B_16, "IMAGENET1K_V1", 2.0)
    assert time.monotonic() - begun < 4.0
    offline.mkdir(parents=True)
    (offline / "vit_b_16-c867db91.pth").touch()
    assert weights.reachable(B_16, "IMAGENET1K_V1", 2.0)


def test_a_file_beside_its_like_is_its_own(tmp_path, nano):
    """A copy of the weights under another name, and one with spaces and non-ASCII letters in it, is the same trunk."""
    copy = tmp_path / "mine é ü.pth"
    shutil.copy(nano.weights, copy)
    assert weights.digest(weights.load(NANO, str(copy))) == weights.digest(weights.load(NANO, str(nano.weights)))
