"""Checkpoints with the names of EfficientNet-PyTorch load into timm's EfficientNets."""

import pytest
import torch
from safetensors.torch import save_file

from featcache.errors import MachineError
from featcache.trunks.checkpoints import rename_efficientnet
from featcache.trunks.libraries.timm_models import TimmModels
from tests.golden.features import real_weights, weights_file

timm = pytest.importorskip("timm")
ORDER = {3: ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")}
ORDER[2] = ORDER[3][2:]


def as_authors_save(state):
    """The same tensors, named as EfficientNet-PyTorch does: block by block, each part by what it does."""
    renamed, number = {}, -1
    blocks = {name.rpartition(".conv_dw")[0]: None for name in state if ".conv_dw." in name}
    for block in blocks:
        number += 1
        own = [name for name in state if name.startswith(f"{block}.")]
        parts = dict.fromkeys(name.removeprefix(f"{block}.").split(".")[0] for name in own)
        plain = [part for part in parts if part != "se"]
        names = dict(zip(plain, ORDER[len(plain) // 2], strict=True))
        for name in own:
            part, _, rest = name.removeprefix(f"{block}.").partition(".")
            if part == "se":
                part, rest = rest.split(".")
                new = {"conv_reduce": "_se_reduce", "conv_expand": "_se_expand"}[part]
            else:
                new = names[part]
            renamed[f"_blocks.{number}.{new}.{rest}"] = state[name]
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    for name in state:
        part, _, rest = name.partition(".")
        if part in outside:
            renamed[f"{outside[part]}.{rest}"] = state[name]
    return renamed


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2", "efficientnet_b0", "efficientnet_b3"]
)
def test_renaming_undoes_the_authors_names(name):
    """Every tensor of the network comes back under its name in timm, of networks with and without squeezing."""
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    theirs = as_authors_save(state)
    assert set(theirs).isdisjoint(state)
    renamed = rename_efficientnet(theirs, state)
    assert renamed.keys() == state.keys()
    assert all(renamed[key] is state[key] for key in state)


def test_the_published_file_loads_as_it_is():
    """The file of the package gives the tensors of the renamed copy, and the note says what was undone."""
    network = TimmModels().load("tf_efficientnet_lite0", str(weights_file()), 0)
    expected = real_weights()
    assert all(torch.equal(value, expected[name]) for name, value in network.module.state_dict().items())
    assert "its tensors were renamed to those of timm's tf_efficientnet_lite0" in network.note
    assert "its classifier was left out (_fc.weight, _fc.bias)" in network.note


def test_the_file_of_another_size_is_refused(tmp_path):
    """A checkpoint of Lite0 is not taken for Lite2, whose first blocks it would fill."""
    with pytest.raises(MachineError, match="not those of timm's tf_efficientnet_lite2"):
        TimmModels().load("tf_efficientnet_lite2", str(weights_file()), 0)


def test_a_wrapped_one_is_unwrapped(tmp_path):
    """What a trainer puts around the names is taken off here too."""
    state = torch.load(weights_file(), weights_only=True)
    save_file({f"module.{name}": value.contiguous() for name, value in state.items()}, tmp_path / "w.safetensors")
    network = TimmModels().load("tf_efficientnet_lite0", str(tmp_path / "w.safetensors"), 0)
    assert torch.equal(network.module.conv_stem.weight, state["_conv_stem.weight"])
