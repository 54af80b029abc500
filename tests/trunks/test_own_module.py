"""A module of one's own: imported by its path, its weights, transform and forward held to what is promised."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

import featcache
from featcache import CacheError, UsageError
from featcache.errors import Correction
from featcache.extraction import Settings
from featcache.media import ImageTransform
from featcache.recipe.recipe import TrunkSection
from featcache.trunks import WeightsMemo, find_weights, name_trunk
from featcache.trunks.libraries.own_transform import read_transform

NET = """
    import torch
    from torch import nn


    class Net(nn.Module):
        transform = {"resize": 36, "crop": 32, "mean": [0.5, 0.4, 0.3], "std": 0.25, "interpolation": "bicubic"}

        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.deep = nn.Conv2d(8, 6, 3, stride=2)
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            x = torch.relu(self.norm(self.stem(x)))
            x = nn.functional.avg_pool2d(torch.relu(self.deep(x)), 7)
            return self.drop(x).view(len(x), -1)  # which fails where the channels lie last
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of Python into the current folder, which is on no path, and forget it afterwards."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before, modules = list(sys.path), set(sys.modules)

    def write(name: str, text: str) -> Path:
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))
        return path

    yield write
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def source(arch: str, tmp_path: Path, **section: object):
    return name_trunk(TrunkSection(arch=arch, **section), WeightsMemo(tmp_path / "cache"))


def refusal(arch: str, tmp_path: Path, **section: object) -> str:
    with pytest.raises(UsageError) as refused:
        _ = source(arch, tmp_path, **section).facts
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_dot_in_place_of_the_colon_is_corrected(write, tmp_path):
    """`own_net.Net` of a module that is here is answered with `own_net:Net`; of one that is not, with what there is."""
    write("own_net", NET)
    with pytest.raises(UsageError, match="a module of your own is named own_net:Net") as refused:
        _ = source("own_net.Net", tmp_path).facts
    assert refused.value.corrections == (Correction("--arch", "own_net:Net"),)
    assert "of your own" not in refusal("no_such_net.Net", tmp_path)


def save_weights(file: Path) -> torch.nn.Module:
    """Save seeded weights of Net under its own names, and return it with them."""
    from own_net import Net

    module = Net()
    numbers = torch.Generator().manual_seed(5)
    state = {
        name: torch.rand(value.shape, generator=numbers) if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    torch.save(state, file)
    return module.eval()


def test_features_are_the_modules_own(write, folder, tmp_path):
    """A 32-pixel network with names and weights of its own gives what it gives in the user's own loop."""
    write("own_net", NET)
    sys.path.insert(0, str(Path.cwd()))
    module = save_weights(Path("own.pth"))
    sys.path.pop(0)
    images = sorted((folder / "test").rglob("*.png"))
    prepare = v1.Compose([
        v1.Resize(36, InterpolationMode.BICUBIC), v1.CenterCrop(32), v1.ToTensor(),
        v1.Normalize([0.5, 0.4, 0.3], [0.25] * 3),
    ])  # fmt: skip
    with torch.inference_mode():
        own = module(torch.stack([prepare(Image.open(path).convert("RGB")) for path in images])).numpy()
    options = {"arch": "own_net:Net", "weights": "own.pth", "data": str(folder), "cache": tmp_path / "cache"}
    rows = featcache.embed(images, device="cpu", workers=1, **options)
    assert rows.shape == (12, 24)
    np.testing.assert_allclose(rows, own, rtol=1e-5, atol=1e-6)


def test_a_cache_does_not_import_what_nobody_typed(write, folder, tmp_path):
    """A head behind a module of one's own predicts on new images only where --arch names the module."""
    write("own_net", NET)
    where = {"data": str(folder), "cache": tmp_path / "cache"}
    settings = Settings(device="cpu", workers=1)
    featcache.extract(arch="own_net:Net", weights="random", settings=settings, **where)
    featcache.fit_head([0.1], epochs=2, check_seconds=None, device="cpu", **where)
    Image.new("RGB", (50, 40), "red").save(tmp_path / "new.png")
    with pytest.raises(CacheError, match=r"imported, which runs its code, only where it is typed. Add --arch own_net"):
        featcache.predict("best", [str(tmp_path / "new.png")], device="cpu", **where)
    assert featcache.predict("best", [str(tmp_path / "new.png")], device="cpu", arch="own_net:Net", **where).embedded
    (store,) = featcache.info(**where)["stores"]
    with pytest.raises(CacheError, match="no store that holds"):
        featcache.predict("best", [str(tmp_path / "new.png")], device="cpu", arch="own_net:Other", **where)
    assert store["arch"] == "own_net:Net"


def test_a_hostile_cache_imports_nothing(write, tmp_path):
    """Neither a trunk.json nor a weights.json that names an import path has it imported."""
    marker = tmp_path / "imported"
    write("hostile", f"open({str(marker)!r}, 'w')")
    spec = source("vit_nano_16", tmp_path, weights="random").spec("float32")
    with pytest.raises(CacheError, match="Add --arch hostile:make"):
        find_weights(replace(spec, arch="hostile:make"), "x.pth", WeightsMemo(tmp_path / "cache"), "x.pth")
    assert not marker.exists()


def test_a_recipe_imports_nothing(write, tmp_path):
    """A recipe that names an import path is refused, with the flag that may say it."""
    recipe = Path("r.toml")
    recipe.write_text('name = "x"\n[data]\nroot = "."\n[trunk]\narch = "hostile:make"\n')
    with pytest.raises(UsageError, match="type --arch hostile:make"):
        featcache.extract(pipeline="r.toml", cache=tmp_path / "cache")


def test_other_code_is_held_against_the_old_rows(write, folder, tmp_path):
    """Code that was changed and gives other features is refused; a changed comment is not."""
    write("own_net", NET)
    where = {"data": str(folder), "cache": tmp_path / "cache", "settings": Settings(device="cpu", workers=1)}
    trunk = {"arch": "own_net:Net", "weights": "random"}
    featcache.extract("train", **trunk, **where)
    del sys.modules["own_net"]
    write("own_net", NET + "    # a comment\n")
    featcache.extract("val", **trunk, **where)
    del sys.modules["own_net"]
    write("own_net", NET.replace("torch.relu(self.deep(x))", "torch.tanh(self.deep(x))"))
    with pytest.raises(CacheError, match=r"own_net [0-9a-f]{12}"):
        featcache.extract("test", **trunk, **where)


def test_a_class_a_function_a_partial_and_a_module_are_taken(write, tmp_path):
    """What makes the module may be anything that can be called without arguments, or the module itself."""
    weights = "{name: value * 0 + 0.1 for name, value in m.state_dict().items()}"
    write("makers", NET + f'''
    import functools

    def make(scale=1):
        m = Net()
        m.load_state_dict({weights})
        return m

    class Maker:
        @staticmethod
        def build():
            return make()

    partial = functools.partial(make, scale=2)
    ready = make()
    ''')  # fmt: skip
    hashes = {source(f"makers:{name}", tmp_path).sha256 for name in ("make", "Maker.build", "partial", "ready")}
    assert len(hashes) == 1


CASES = {
    "no module": ("nowhere_at_all:Net", {}, "there is no module nowhere_at_all in"),
    "a file": ("broken.py:Net", {}, "broken:Net"),
    "a misspelt name": ("own_net:Nett", {}, "did you mean Net?"),
    "no callable": ("own_net:nn.functional", {}, "is of type module, expected a torch.nn.Module"),
    "a broken import": ("broken:Net", {}, r"NameError: name 'nonsense' is not defined .*broken.py, line 2"),
    "broken syntax": ("syntax:Net", {}, "SyntaxError: .* line 1"),
    "it exits": ("exits:Net", {}, "SystemExit: 3"),
    "a missing package": ("needs:Net", {}, "No module named 'not_installed_anywhere' .*needs.py, line 1"),
    "it fails": ("fails:make", {}, "calling it without arguments failed: ValueError: no size"),
    "no module comes": ("fails:text", {}, "it returned a str, expected a torch.nn.Module"),
    "lazy": ("fails:lazy", {}, "0.weight has no shape before a first forward"),
    "random weights": ("own_net:Net", {"weights": "IMAGENET1K_V1"}, "drawn at random whenever it is made"),
    "not seeded": ("fails:urandom", {}, "are others each time, although every generator is seeded"),
    "an image size": ("own_net:Net", {"image_size": 64}, "--image-size has no effect on a module of your own"),
    "no transform": ("fails:plain", {}, "does not say what is done to an image before it: give the module"),
    "a wrong transform": ("fails:strange", {}, "has a key 'size', expected resize, crop"),
    "the wrong input": ("own_net:Net", {"transform": "resize=8,crop=8"}, "its forward fails on 2 images of 8 x 8"),
    "a dropout": ("fails:drops", {}, "gives other features each time for the same image"),
    "a batch norm": ("fails:batch", {}, "depend on the other images of its batch"),
    "a tuple": ("fails:pair", {}, "its forward gives a tuple, expected a tensor"),
    "one vector": ("fails:summed", {}, r"for 2 images its forward gives a tensor \(1, 3\)"),
}
FAILS = """
    import os, torch
    from torch import nn
    SIZE = {"resize": 8, "crop": 8, "mean": 0.5, "std": 0.5}

    def with_size(function, transform=SIZE):
        class Inner(nn.Module):
            def forward(self, x):
                return function(x)
        made = Inner()
        made.transform = transform
        return made

    def make(): raise ValueError("no size")
    def text(): return "a module"
    def lazy(): return nn.Sequential(nn.LazyLinear(4))
    def urandom():
        made = nn.Linear(2, 2)
        made.weight.data[0, 0] = int.from_bytes(os.urandom(2), "little")
        return made
    def plain(): return nn.Flatten()
    def strange(): return with_size(lambda x: x.mean((2, 3)), {"size": 3})
    def drops(): return with_size(lambda x: nn.functional.dropout(x.flatten(1)))
    def batch(): return with_size(lambda x: x.flatten(1) - x.flatten(1).mean(0))
    def pair(): return with_size(lambda x: (x, x))
    def summed(): return with_size(lambda x: x.mean((0, 2, 3))[None])
"""


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_module_is_one_sentence(write, tmp_path, case):
    """Whatever a user's own code does wrong, the message says what, where it is known in which line."""
    write("own_net", NET)
    write("fails", FAILS)
    write("broken", "x = 1\nnonsense\n")
    write("syntax", "def (:\n")
    write("exits", "raise SystemExit(3)\n")
    write("needs", "import not_installed_anywhere\n")
    arch, section, message = CASES[case]
    weights = "IMAGENET1K_V1" if arch.startswith("fails") and case != "not seeded" else "random"
    text = refusal(arch, tmp_path, **{"weights": weights, **section})
    assert re.search(message, text), text


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
_RGB = {"mean": MEAN, "std": STD}


@pytest.mark.parametrize(
    ("given", "transform"),
    [
        ({"resize": 36, "crop": 32, "mean": 0.5, "std": [1, 1, 1]}, {"mean": (0.5,) * 3, "std": (1.0,) * 3}),
        (v1.Compose([v1.Resize(36), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize(MEAN, STD)]), _RGB),
        (
            v2.Compose([
                v2.Resize(36), v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]),
            _RGB,
        ),
        (
            v1.Compose([v1.Resize((32, 48)), v1.ToTensor()]),
            {
                "resize": 48, "crop": 48, "height": 32, "resize_height": 32, "fit": "squash", "mean": (0.0,) * 3,
                "std": (1.0,) * 3,
            },
        ),
        (ImageTransform(resize=36, crop=32, exif="apply", **_RGB), _RGB),
    ],
    ids=["dict", "v1", "v2", "squash", "ours"],
)  # fmt: skip
def test_a_transform_is_read_in_any_of_its_spellings(given, transform):
    """A dict, torchvision's steps of either version and our own value give one transform."""
    assert read_transform(given) == ImageTransform(**{"resize": 36, "crop": 32, **transform})


def test_torchvisions_preset_is_read():
    """What torchvision publishes with its weights can stand as a module's transform."""
    from torchvision.models import ResNet18_Weights

    preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert read_transform(preset).resize == 256


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([v1.Resize(36), v1.ToTensor()], "images would differ in size"),
        ([v1.ToTensor(), v1.Resize(36), v1.CenterCrop(32)], "Resize after ToTensor"),
        ([v1.Resize(36), v1.RandomCrop(32), v1.ToTensor()], "RandomCrop, which cannot be reproduced"),
        ([v1.Resize(36), v1.CenterCrop(32)], "makes no float tensor"),
        ([v1.CenterCrop(32), v1.ToTensor()], "no Resize"),
    ],
)
def test_a_step_that_is_not_reproduced_is_named(steps, reason):
    """Torchvision's steps that would give other pixels are refused by their name."""
    with pytest.raises(UsageError, match=reason):
        read_transform(v1.Compose(steps))


def test_a_process_of_its_own_imports_the_same_module(write, folder, tmp_path, monkeypatch):
    """A trunk that runs in another process finds a module of the current folder, and its weights beside it."""
    from featcache.extraction import job
    from featcache.extraction.placement import Placement

    write("own_net", NET)
    where = {"data": str(folder), "settings": Settings(device="cpu", workers=1)}
    trunk = {"arch": "own_net:Net", "weights": "random"}
    featcache.extract("val", cache=tmp_path / "one", **trunk, **where)
    monkeypatch.setattr(job, "choose_placements", lambda _: [Placement("cpu"), Placement("cpu")])
    featcache.extract("val", cache=tmp_path / "two", **trunk, **where)
    one, two = (featcache.load("val", data=str(folder), cache=tmp_path / cache).x for cache in ("one", "two"))
    np.testing.assert_array_equal(one, two)
