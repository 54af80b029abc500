"""What can be named on this machine: names of every library that is installed, and weights that are here."""

import importlib.util
import json
from pathlib import Path

import pytest

from featcache import UsageError
from featcache.errors import MachineError
from featcache.trunks import WeightsMemo
from featcache.trunks.libraries import list_trunks, zoo
from featcache.trunks.libraries.base import import_library
from featcache.trunks.libraries.local_weights import list_hub_models


@pytest.fixture
def memo(tmp_path, monkeypatch) -> WeightsMemo:
    """An empty cache, on a machine with empty caches of torch and of the hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return WeightsMemo(tmp_path / "cache")


def hub_model(folder: Path, name: str) -> None:
    """Lay a model as the hub's cache does."""
    snapshot = folder / f"models--{name.replace('/', '--')}" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (snapshot / "model.safetensors").write_bytes(b"")


def test_a_network_is_listed_with_width_parameters_and_input_size(memo):
    """A torchvision network is built without memory; its numbers are torchvision's own."""
    (listed,) = list_trunks("resnet34", memo=memo).trunks[:1]
    assert (listed.arch, listed.width, listed.input_size) == ("resnet34", 512, (224, 224))
    assert listed.parameters == 21_797_672 - 513 * 1000


def test_only_the_first_matches_are_built(memo):
    """Of a pattern that matches many, only so many are built as were asked for."""
    listed = list_trunks("vit_*", memo=memo, limit=1)
    assert [trunk.width is not None for trunk in listed.trunks] == [True] + [False] * (len(listed.trunks) - 1)
    assert len(listed.trunks) > 5


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("resnt34", "resnet34"),
        ("vit_small_patch14_dinov2x", "timm:vit_small_patch14_dinov2"),
        ("timm:resnet5zz", "timm:resnet5"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_of_all_libraries(memo, word, name):
    """Names of every library that is installed are near; of one that was named, its own come first."""
    with pytest.raises(UsageError, match=f"did you mean {name}"):
        list_trunks(word, memo=memo)


def test_weights_on_this_machine_are_named(memo, tmp_path):
    """Files of torch's cache and models of the hub's cache are listed where no pattern is given."""
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet34-b627a593.pth").write_bytes(b"")
    hub_model(tmp_path / "hub", "google/vit-base-patch16-224")
    hub_model(tmp_path / "hub", "timm/resnet10t.c3_in1k")
    (tmp_path / "hub" / "models--nobody--empty" / "snapshots").mkdir(parents=True)
    assert list_hub_models(tmp_path / "hub") == ["google/vit-base-patch16-224", "timm/resnet10t.c3_in1k"]
    listed = {trunk.arch: trunk.weights for trunk in list_trunks(memo=memo, limit=1).trunks}
    assert listed == {
        "resnet34": ("IMAGENET1K_V1",),
        "hf:google/vit-base-patch16-224": ("pretrained",),
        "timm:resnet10t.c3_in1k": ("pretrained",),
    }


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("timm", "timm", "timm"),
        ("transformers", "transformers", "transformers"),
        ("open_clip", "open_clip_torch", "open-clip"),
    ],
)
def test_a_library_that_is_not_installed_is_one_sentence(monkeypatch, module, package, extra):
    """The message has the command of pip that brings it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as refused:
        import_library(module, package, extra)
    assert str(refused.value) == f"{package} is not installed: pip install 'featcache[{extra}]'"


def test_the_libraries_are_listed_with_what_is_missing(monkeypatch, memo):
    """Without a pattern every library stands there: its version, or how it is installed."""
    zoo.all_names.cache_clear()
    monkeypatch.setattr(zoo, "_is_installed", lambda prefix: prefix in ("", "module"))
    libraries = {library.name: library for library in list_trunks(memo=memo).libraries}
    zoo.all_names.cache_clear()
    assert libraries["timm"].install == "pip install 'featcache[timm]'"
    assert (libraries["timm"].version, libraries["timm"].models) == (None, None)
    assert libraries["torchvision"].models >= 80


@pytest.mark.parametrize(
    ("file", "arch"),
    [
        ("weights/tf_efficientnet_lite0.safetensors", "timm:tf_efficientnet_lite0"),
        ("resnet50-0676ba61.pth", "resnet50"),
        ("vit_b_16.mine.pth", "vit_b_16"),
        ("resnet5000.pth", None),
        ("model.safetensors", None),
    ],
)
def test_the_network_that_a_file_is_named_after(file, arch):
    """Of the longest name that the file's begins with; none where it goes on in letters or digits."""
    assert zoo.guess_arch(file) == arch
