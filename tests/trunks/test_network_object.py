"""A `torch.nn.Module` as arch=: its features are its own, its identity is that of its tensors."""

import copy
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import featcache
from featcache import CacheError, Settings, UsageError
from featcache.arguments import ArgumentError
from featcache.recipe import NetworkObject
from featcache.store.trunk_record import read_trunk, write_trunk
from tests.conftest import single_thread, write_images

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)
FLAT = "resize=16,crop=16,mean=0.5,std=0.25"


class Net(nn.Module):
    """Sixteen pixels in, six numbers out."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, pixels):
        return torch.relu(self.norm(self.stem(pixels))).mean(dim=(2, 3))


@pytest.fixture
def where(tmp_path):
    counts = {"train": {"0": 9, "1": 9}, "val": {"0": 3, "1": 3}}
    return {"data": str(write_images(tmp_path / "digits", counts)), "cache": tmp_path / "cache"}


@pytest.fixture
def extract(where):
    def run(arch, split="train", **options):
        settings = Settings(device="cpu", workers=1)
        (summary,) = featcache.extract(split, arch=arch, transform=FLAT, settings=settings, **options, **where)
        return summary

    return run


def own_loop(net, paths):
    """What a module gives of images, by torchvision's own transform."""
    from PIL import Image
    from torchvision import transforms

    steps = [transforms.Resize(16), transforms.CenterCrop(16), transforms.ToTensor(), transforms.Normalize(0.5, 0.25)]
    prepare = transforms.Compose(steps)
    with torch.inference_mode():
        return net.eval()(torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])).numpy()


def test_its_features_are_its_own(where, extract):
    """Rows equal those of the module's own loop, and load, embed and predict take the module too."""
    net = Net()
    assert extract(net).embedded == 18
    train = featcache.load("train", arch=net, **where)
    paths = [f"{where['data']}/{path}" for path in train.paths]
    assert np.abs(train.x - own_loop(copy.deepcopy(net), paths)).max() < 1e-5
    options = {"arch": net, "transform": FLAT, "device": "cpu", "workers": 1, **where}
    assert featcache.embed(paths[:4], **options).tobytes() == train.x[:4].tobytes()
    extract(net, "val")
    featcache.fit_head([0.1], arch=net, epochs=2, check_seconds=None, device="cpu", **where)
    predicted = featcache.predict(None, paths[:4], arch=net, device="cpu", workers=1, **where)
    assert predicted.probabilities.shape == (4, 2)


def test_the_same_tensors_have_the_same_name(where, extract):
    """A copy of the module, or one in half precision that holds the same numbers, finds the rows; another does not."""
    net = Net()
    with torch.no_grad():
        net.load_state_dict({name: value.half().to(value.dtype) for name, value in net.state_dict().items()})
    extract(net)
    assert extract(copy.deepcopy(net)).embedded == 0
    assert extract(copy.deepcopy(net).half()).embedded == 0
    other = Net(seed=1)
    with pytest.raises(CacheError, match="object:Net-"):
        featcache.load("train", arch=other, **where)
    assert extract(other).embedded == 18


def test_it_is_left_as_it_was(extract):
    """The program's module stays in training mode, where it was, and takes gradients."""
    net = Net().train()
    extract(net)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_changed_transform_is_another_store(where):
    """The transform that a module brings as an attribute is read at every call, although its tensors are the same."""
    net = Net()
    for std in (0.25, 0.5):
        net.transform = {"resize": 16, "crop": 16, "mean": 0.5, "std": std}
        (summary,) = featcache.extract("train", arch=net, settings=Settings(device="cpu", workers=1), **where)
        assert summary.embedded == 18


def test_another_process_says_what_it_needs(where, extract):
    """The command line cannot have the module, and says where it was; nothing is imported for it."""
    net = Net()
    extract(net)
    words = ["extract", "--data", where["data"], "--cache", str(where["cache"]), "--split", "train"]
    arch = NetworkObject.convert_argument(net)
    ran = subprocess.run(
        [sys.executable, "-m", "featcache", *words, "--arch", arch], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert f"arch {arch}: this was a torch.nn.Module in a Python program; pass the same module there" in ran.stderr


def refused_modules():
    held = Net()
    held.lock = threading.Lock()
    yield "weights", Net(), {"weights": "random"}, "load others into it, and leave weights out"
    yield "copy", held, {}, "it cannot be copied"
    yield "lazy", nn.Sequential(nn.LazyConv2d(4, 3)), {}, "has no shape before a first forward"
    yield "class", Net, {}, "expected a non-empty string, a torch.nn.Module or None"


@pytest.mark.parametrize(("module", "options", "words"), [case[1:] for case in refused_modules()])
def test_what_cannot_be_is_one_sentence(where, module, options, words):
    """Weights beside a module, one that cannot be copied or has no shape yet, a class: each is refused in words."""
    with pytest.raises((UsageError, ArgumentError), match=words):
        featcache.extract("train", arch=module, transform=FLAT, **options, **where)


def test_without_a_transform_it_is_refused(where):
    """A module that does not say what is done to an image is refused, with how to say it in Python."""
    way_out = 'does not say what is done to an image.*or pass transform="resize=36'
    with pytest.raises(UsageError, match=way_out) as refused:
        featcache.extract("train", arch=Net(), settings=Settings(device="cpu"), **where)
    assert "--transform" not in str(refused.value)


def test_its_weights_are_called_its_own(where, extract):
    """Neither the summary nor the store says "pretrained"; a store that does, of an earlier version, holds the rows."""
    net = Net()
    summary = extract(net)
    assert ", weights own, " in summary.trunk
    assert "-own-" in summary.store
    root = where["cache"] / "stores" / summary.store
    old = root.with_name(summary.store.replace("-own-", "-pretrained-"))
    root.rename(old)
    write_trunk(old, replace(read_trunk(old), weights_name="pretrained", weights_path="pretrained"))
    assert extract(net).embedded == 0
    for weights in ({}, {"weights": "own"}, {"weights": "pretrained"}):
        assert len(featcache.load("train", arch=net, **weights, **where).x) == 18
