"""Where a network of transformers comes from: a folder, shards, the hub's cache; and what is not taken from it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from featcache.errors import MachineError
from featcache.recipe import TrunkSection
from featcache.trunks import WeightsMemo, name_trunk
from featcache.trunks.libraries.transformers_models import TransformersModels

pytest.importorskip("transformers")
from tests.trunks.libraries.folders import FAMILIES


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / "vit"
    FAMILIES["vit"].save(folder)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, which is out of reach."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def lay_out(cache, name, folder, commit):
    """Put a network's files where the hub's client keeps them."""
    place = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs, head = place / "snapshots" / commit, place / "blobs", place / "refs" / "main"
    for directory in (snapshot, blobs, head.parent):
        directory.mkdir(parents=True, exist_ok=True)
    head.write_text(commit)
    for file in ("config.json", "preprocessor_config.json", "model.safetensors"):
        blob = blobs / f"{commit}-{file}"
        shutil.copy(folder / file, blob)
        (snapshot / file).symlink_to(os.path.relpath(blob, snapshot))


def load(name, weights="pretrained", **settings):
    return TransformersModels().load(str(name), str(weights), 0, **settings).named


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_network_of_the_hub_comes_from_its_cache_without_a_network(cache, vit):
    """`hf:ORG/NAME` is read from the hub's cache, links and all, where the hub cannot be reached."""
    lay_out(cache, "acme/tiny", vit, "c0ffee")
    assert are_equal(load("acme/tiny"), load(vit))


def test_weights_of_a_folder_or_file_stand_in_for_those_of_the_hub(cache, vit):
    """With a folder as its weights a name needs no hub; with a file, the hub's configuration alone."""
    assert are_equal(load("acme/tiny", vit), load(vit))
    lay_out(cache, "acme/tiny", vit, "c0ffee")
    (cache / "models--acme--tiny" / "snapshots" / "c0ffee" / "model.safetensors").unlink()
    assert are_equal(load("acme/tiny", vit / "model.safetensors"), load(vit))
    with pytest.raises(MachineError, match="not in the hub's cache"):
        load("acme/tiny")


def test_another_version_in_the_hubs_cache_is_another_identity(cache, vit, tmp_path):
    """What is remembered of a name is forgotten when the cache holds another version of it."""
    lay_out(cache, "acme/tiny", vit, "c0ffee")
    memo = WeightsMemo(tmp_path / "cache")

    def sha256():
        return name_trunk(TrunkSection(arch="hf:acme/tiny", weights="pretrained"), memo).spec("float32").weights_sha256

    before = sha256()
    assert sha256() == before
    other = tmp_path / "other"
    shutil.copytree(vit, other)
    state = load_file(other / "model.safetensors")
    save_file(state | {"vit.layernorm.bias": state["vit.layernorm.bias"] + 1}, other / "model.safetensors")
    lay_out(cache, "acme/tiny", other, "decade")
    assert sha256() != before


def test_shards_are_read_as_one(vit, tmp_path):
    """Weights spread over several files, and those of torch.save, load as those of one file do."""
    expected = load(vit)
    state = load_file(vit / "model.safetensors")
    folder = tmp_path / "shards"
    shutil.copytree(vit, folder)
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert are_equal(load(folder), expected)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    for file, members in parts.items():
        save_file({name: state[name] for name in members}, folder / file)
    places = {name: file for file, members in parts.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert are_equal(load(folder), expected)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_code_in_a_folder_is_not_run(vit, tmp_path, file):
    """A folder that brings code of its own is refused, and the code is not even imported."""
    folder = tmp_path / "code"
    shutil.copytree(vit, folder)
    document = json.loads((folder / file).read_text())
    keys = ("AutoConfig", "AutoModel", "AutoImageProcessor")
    document |= {"auto_map": dict.fromkeys(keys, "code.Thing"), "model_type": "own"}
    (folder / file).write_text(json.dumps(document))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Thing: pass\n")
    with pytest.raises(MachineError, match=r"brings Python code of its own \(auto_map\), which is never run"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_beside_the_weights_is_not_applied(vit, tmp_path):
    """What lies in a folder beside its weights changes nothing: an adapter is not read."""
    folder = tmp_path / "adapter"
    shutil.copytree(vit, folder)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    assert are_equal(load(folder), load(vit))


def test_another_image_size_is_the_processors_too(vit):
    """With `--image-size` and interpolation, network and images are both of that size."""
    network = TransformersModels().load(str(vit), "pretrained", 96, interpolate=True)
    assert network.is_interpolated
    assert network.transform.input_size == (96, 96)
    with torch.inference_mode():
        assert network.forward(torch.zeros(1, 3, 96, 96)).grid == (6, 6)
    with pytest.raises(MachineError, match="for images of another size"):
        TransformersModels().load(str(vit), "pretrained", 96)


def test_a_folder_of_any_name_has_a_spec_that_can_be_read(vit, tmp_path):
    """A folder's name becomes part of a spec whatever characters it has."""
    from featcache.trunks import TrunkSpec

    folder = tmp_path / "é my model (2)"
    shutil.copytree(vit, folder)
    section = TrunkSection(arch=f"hf:{folder}", weights="pretrained")
    spec = name_trunk(section, WeightsMemo(tmp_path / "cache")).spec("float32")
    assert TrunkSpec.from_json(spec.to_json()) == spec


def test_a_known_network_is_named_without_its_library(vit, tmp_path):
    """Once it was read, a folder's identity is known without torch and without transformers."""
    script = (
        "import sys; from pathlib import Path; from featcache.recipe import TrunkSection\n"
        "from featcache.trunks import WeightsMemo, name_trunk\n"
        f"section = TrunkSection(arch={f'hf:{vit}'!r}, weights='pretrained')\n"
        f"print(name_trunk(section, WeightsMemo(Path({str(tmp_path)!r}))).spec('float32').fingerprint())\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]
    assert runs[0][0] == runs[1][0]
    assert runs[1][1] == "set()"


@pytest.mark.parametrize("source", ["torchvision", "timm", "transformers"])
def test_one_file_loads_into_every_librarys_network(tmp_path, source):
    """A ViT's file in any library's names fills timm's, transformers' and torchvision's network alike."""
    timm = pytest.importorskip("timm")
    import transformers

    from featcache.trunks.checkpoints import rename_vit
    from featcache.trunks.libraries.timm_models import TimmModels
    from featcache.trunks.libraries.torchvision_models import TorchvisionModels

    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=3).eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    file = tmp_path / "weights.pth"
    torch.save({f"module.{name}": value for name, value in rename_vit(state, source).items()}, file)
    config = transformers.ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, layer_norm_eps=1e-6
    )
    config.save_pretrained(tmp_path / "folder")
    transformers.ViTImageProcessorPil().save_pretrained(tmp_path / "folder")
    loaded = [
        TimmModels().load("vit_tiny_patch16_224", str(file), 0),
        TransformersModels().load(str(tmp_path / "folder"), str(file), 0),
    ]
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = network.forward_features(pixels)[:, 0]
        for one in loaded:
            torch.testing.assert_close(one.forward(pixels).cls, expected, rtol=1e-5, atol=2e-5)
    with pytest.raises(MachineError, match="not those of torchvision's vit_b_32"):
        TorchvisionModels().load("vit_b_32", str(file), 0)
