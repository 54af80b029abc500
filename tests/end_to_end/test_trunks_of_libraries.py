"""Networks of several libraries over one data set: from files of their own formats to one table, and nothing twice."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import featcache
from featcache import CacheError
from featcache.extraction import Settings
from featcache.recipe import read_recipe, shipped_recipes
from tests.conftest import write_images

timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
HEAVY = {"torch", "torchvision", "timm", "transformers", "open_clip", "huggingface_hub", "safetensors.torch", "ownnet"}
OWN = """
from torch import nn

class Net(nn.Module):
    transform = {"resize": 16, "crop": 16, "mean": 0.5, "std": 0.5}

    def __init__(self):
        super().__init__()
        self.only = nn.Conv2d(3, 5, 4, stride=4)

    def forward(self, x):
        return self.only(x)
"""


@dataclass(frozen=True)
class Zoo:
    """A data set, its cache, a folder with a module of one's own, and how each trunk is named."""

    data: Path
    cache: Path
    here: Path
    trunks: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory) -> Zoo:
    """A cache of scans, embedded by a small network of each kind, with a head on each."""
    root = tmp_path_factory.mktemp("zoo")
    data = write_images(root / "digits", {"train": {"0": 6, "1": 6}, "val": {"0": 3, "1": 3}})
    (root / "ownnet.py").write_text(OWN)
    torch.manual_seed(1)
    torch.save(featcache_free_squeezenet(), root / "squeezenet.pth")
    torch.save({"state_dict": timm.create_model("test_vit2").state_dict()}, root / "test_vit2.pth")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    transformers.ViTModel(config).save_pretrained(root / "tiny-vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / "tiny-vit")
    trunks = {
        "torchvision": {"arch": "squeezenet1_1", "weights": str(root / "squeezenet.pth")},
        "timm": {"arch": "timm:test_vit2", "weights": str(root / "test_vit2.pth")},
        "transformers": {"arch": f"hf:{root / 'tiny-vit'}"},
        "open_clip": {"arch": "open_clip:ViT-S-32", "weights": "random"},
        "own": {"arch": "ownnet:Net", "weights": "random"},
    }
    zoo = Zoo(data, root / "cache", root, trunks)
    for file in root.rglob("*"):
        if file.is_file():
            os.utime(file, ns=(10**18, 10**18))  # old files: their stats are trusted at once
    before = os.getcwd()
    os.chdir(root)
    try:
        for trunk in trunks.values():
            featcache.extract(data=str(data), cache=zoo.cache, settings=Settings(device="cpu", workers=1), **trunk)
    finally:
        os.chdir(before)
    for store in featcache.info(data=str(data), cache=zoo.cache)["stores"]:
        featcache.fit_head(
            [0.1], epochs=3, check_seconds=None, device="cpu", data=str(data), cache=zoo.cache, store=store["name"]
        )
    return zoo


def featcache_free_squeezenet() -> dict[str, torch.Tensor]:
    from torchvision.models import squeezenet1_1

    return squeezenet1_1().state_dict()


def test_the_heads_of_all_trunks_stand_in_one_table(extracted):
    """Compare lists heads behind networks of every library together."""
    table = featcache.compare(data=str(extracted.data), cache=extracted.cache)
    assert len({head.store for head in table.heads}) == len(table.heads) == 5


@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers", "open_clip", "own"])
def test_a_run_that_has_nothing_to_do_imports_no_library(extracted, library):
    """An extract of what the cache holds imports neither torch nor the network's library, nor code of one's own."""
    flags = [word for name, value in extracted.trunks[library].items() for word in (f"--{name}", value)]
    where = ["--data", str(extracted.data), "--cache", str(extracted.cache)]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "featcache", "extract", *where, *flags], capture_output=True,
        text=True, cwd=extracted.here, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert "0 embedded" in done.stdout
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert imported & HEAVY == set()


def test_the_weights_that_are_typed_are_known_without_the_library(extracted):
    """Export --weights FILE finds the store of a library's network by the file's stat, and imports nothing for it."""
    flags = ["--data", str(extracted.data), "--cache", str(extracted.cache), "--arch", "timm:test_vit2"]
    flags += ["--weights", extracted.trunks["timm"]["weights"]]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "featcache", "export", "val", "--to", "val.npz", *flags],
        capture_output=True, text=True, cwd=extracted.here, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    assert {line.rpartition("|")[2].strip() for line in lines} & HEAVY == set()


def test_a_copy_of_the_weights_is_known_by_its_tensors(extracted, tmp_path):
    """A file that this cache has never read, of a library's network: its store is found, and not for other weights."""
    where = {"data": str(extracted.data), "cache": extracted.cache}
    copy, other = tmp_path / "copy.pth", tmp_path / "other.pth"
    copy.write_bytes(Path(extracted.trunks["timm"]["weights"]).read_bytes())
    where = {**where, "arch": "timm:test_vit2"}  # else the file is tried as every network that the cache has
    meant = featcache.load("val", **where).source
    assert featcache.load("val", weights=str(copy), **where).source == meant

    torch.save(timm.create_model("test_vit2").state_dict(), other)
    with pytest.raises(CacheError, match="other tensors"):
        featcache.load("val", weights=str(other), **where)


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("resnet34", "resnet34"), ("alexnet", "alexnet"), ("vgg16", "vgg16"), ("timm-resnet50", "timm:resnet50"),
        ("hf-vit-base", "hf:google/vit-base-patch16-224"),
    ],
)  # fmt: skip
def test_a_recipe_that_ships_names_its_network(name, arch):
    """Each of the five recipes for other trunks is valid, and leaves the weights to be typed."""
    recipe = read_recipe(shipped_recipes() / f"{name}.toml")
    assert (recipe.name, recipe.trunk.arch) == ("photos", arch)
    assert "weights" not in recipe.trunk.model_fields_set


THEIRS = """
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

Path("ran").touch()


class TheirConfig(PretrainedConfig):
    model_type = "theirs"


class Theirs(PreTrainedModel):
    config_class = TheirConfig

    def __init__(self, config):
        super().__init__(config)
        self.patches = torch.nn.Conv2d(3, 8, 16, stride=16)
        self.post_init()

    def forward(self, pixels):
        return BaseModelOutput(last_hidden_state=self.patches(pixels).flatten(2).transpose(1, 2))
"""


def test_code_that_a_folder_brings_runs_only_in_a_module_of_ones_own(tmp_path):
    """A folder with code of its own is refused as hf:FOLDER; the guide's module around it, typed by its path, runs."""
    page = (Path(__file__).parents[2] / "docs/guides/trunks.md").read_text()
    module = re.search(r"```python\n(# mynets/hub\.py.*?)```", page, re.DOTALL)[1]
    here = tmp_path / "here"
    (here / "mynets").mkdir(parents=True)
    (here / "mynets" / "hub.py").write_text(module.replace('"resize": 256, "crop": 224', '"resize": 32, "crop": 32'))
    folder = here / "models" / "theirs"
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    (folder / "theirs.py").write_text(THEIRS)
    classes = {"AutoConfig": "theirs.TheirConfig", "AutoModel": "theirs.Theirs"}
    (folder / "config.json").write_text(json.dumps({"model_type": "theirs", "auto_map": classes}))
    tensors = {"patches.weight": torch.rand(8, 3, 16, 16), "patches.bias": torch.rand(8)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    data = write_images(tmp_path / "digits", {"train": {"0": 3, "1": 3}})

    def extract(arch):
        command = [sys.executable, "-m", "featcache", "extract", str(data), "--arch", arch, "--device", "cpu"]
        environment = {**os.environ, "HF_HOME": str(tmp_path / "hub")}
        return subprocess.run(command, cwd=here, capture_output=True, text=True, env=environment, check=False)

    refused = extract("hf:models/theirs")
    assert refused.returncode == 5
    assert "brings Python code of its own (auto_map), which is never run" in refused.stderr
    assert not (here / "ran").exists()

    embedded = extract("mynets.hub:Trusted")
    assert embedded.returncode == 0, embedded.stderr[-500:]
    assert "6 embedded" in embedded.stdout
    assert (here / "ran").exists()
