"""Weights from wherever they come end as the same tensors."""

import shutil
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Linear
from torchvision.models import VisionTransformer

from featcache.errors import UsageError
from featcache.trunks import weights
from featcache.trunks.architectures import architecture, weights_kind
from tests.trunks.saving import load_tensors, saved

NANO = architecture("vit_nano_16")


B_16 = architecture("vit_b_16")


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
    assert weights_kind(B_16, asked) == kind


@pytest.mark.parametrize("asked", ["IMAGENET1K_V2", "imagenet1k_v1", "Random", "", "mine.xyz"])
def test_an_unknown_name_lists_what_there_is(asked):
    """A name that is nothing is the user's mistake, answered with the names that there are."""
    with pytest.raises(UsageError, match=r"IMAGENET1K_V1, .*, a \.pth or \.safetensors file, random"):
        load_tensors(B_16, asked)


def test_published_weights_of_another_architecture_are_unknown():
    """Nobody published weights for vit_nano_16."""
    with pytest.raises(UsageError, match="no published weights of vit_nano_16"):
        weights_kind(NANO, "IMAGENET1K_V1")


@pytest.mark.parametrize("environment", [{}, {"TORCH_HOME": "/t"}, {"TORCH_HOME": "~/t"}, {"XDG_CACHE_HOME": "/x"}])
def test_a_download_lies_where_torch_would_look(monkeypatch, environment):
    """The file of published weights is the one in torch.hub's own folder."""
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    expected = Path(torch.hub.get_dir()) / "checkpoints" / "vit_b_16-c867db91.pth"
    assert weights.weights_path(B_16, "IMAGENET1K_V1") == expected
    assert weights.weights_path(B_16, "random") is None
    assert weights.weights_path(B_16, "a/b.pth") == Path("a/b.pth")


def test_weights_bring_their_transform():
    """Published weights have their own transform; a file and random ones that of the architecture."""
    assert weights.transform_for(B_16, "IMAGENET1K_SWAG_E2E_V1").crop == 384
    assert weights.transform_for(B_16, "x.pth") == weights.transform_for(B_16, "random") == B_16.transform


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
    found = load_tensors(NANO, saved(tmp_path / "x.pth", CARRIERS[carrier](tensors)))
    assert list(found) == list(tensors)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == torch.float32 for name in tensors)
    assert weights.hash_tensors(found) == weights.hash_tensors(tensors)


@pytest.mark.parametrize("carrier", ["as it is", "with a classifier", "from DataParallel", "legacy names"])
def test_safetensors_carry_the_same(tmp_path, tensors, carrier):
    """A .safetensors file is as good as a .pth."""
    found = load_tensors(NANO, saved(tmp_path / "x.safetensors", CARRIERS[carrier](tensors)))
    assert weights.hash_tensors(found) == weights.hash_tensors(tensors)


def test_torchvisions_own_checkpoint_is_taken_as_it_is(tmp_path):
    """What torch.save(model.state_dict()) of torchvision's own network with a classifier writes is loaded."""
    torch.manual_seed(0)
    model = VisionTransformer(64, 16, 2, 2, 64, 128, num_classes=7)
    found = load_tensors(NANO, saved(tmp_path / "own.pth", model.state_dict()))
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
    assert weights.hash_tensors(changed) != weights.hash_tensors(tensors)


def test_the_digest_knows_names_and_shapes(tensors):
    """The same bytes under another name or in another shape are another digest."""
    one = torch.arange(4.0)
    assert len({weights.hash_tensors(state) for state in ({"a": one}, {"b": one}, {"a": one.view(2, 2)}, {})}) == 4
    assert weights.hash_tensors({"a": one, "b": one}) == weights.hash_tensors({"b": one, "a": one})


def test_random_weights_are_the_same_every_time():
    """`random` is seeded, whatever the state of torch's generator, and leaves that as it was."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = weights.hash_tensors(load_tensors(NANO, "random"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert weights.hash_tensors(load_tensors(NANO, "random")) == one
    assert version("torch") in weights.memo_key("random")


def test_a_file_beside_its_like_is_its_own(tmp_path, nano):
    """A copy of the weights under another name, and one with spaces and non-ASCII letters in it, is the same trunk."""
    copy = tmp_path / "mine é ü.pth"
    shutil.copy(nano.weights, copy)
    assert weights.hash_tensors(load_tensors(NANO, str(copy))) == weights.hash_tensors(
        load_tensors(NANO, str(nano.weights))
    )
