"""A trunk that is asked for: its identity, known without reading its weights twice."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from featcache.recipe.recipe import TrunkSection
from featcache.trunks import WeightsMemo, hardware, weights
from featcache.trunks.architectures import architecture
from featcache.trunks.naming import find_weights
from featcache.trunks.source import TrunkSource
from tests.trunks.saving import load_tensors

NANO, B_16 = architecture("vit_nano_16"), architecture("vit_b_16")


def no_device() -> str:
    raise AssertionError("the hardware was asked")


def test_a_source_says_what_was_asked_for(source, nano):
    """The spec holds the architecture, the tensors' digest, the weights' transform, precision and EXIF policy."""
    asked = source(exif="apply", stored="float16")
    spec = asked.spec("bfloat16")
    assert (spec.arch, spec.compute, spec.stored) == ("vit_nano_16", "bfloat16", "float16")
    assert spec.transform == replace(NANO.transform, exif="apply")
    assert spec.weights_sha256 == weights.hash_tensors(load_tensors(NANO, str(nano.weights)))
    assert (asked.kind, asked.label) == ("file", "nano.pth")
    assert source(weights="random").label == "random"


def test_published_weights_bring_their_transform_without_being_there(tmp_path):
    """Which images a published trunk sees is known before its weights are."""
    section = TrunkSection(weights="IMAGENET1K_SWAG_E2E_V1")
    asked = TrunkSource(section, WeightsMemo(tmp_path))
    assert asked.transform == B_16.published["IMAGENET1K_SWAG_E2E_V1"].transform
    assert asked.label == "IMAGENET1K_SWAG_E2E_V1"


def test_the_path_of_the_weights_is_no_part_of_the_identity(source, nano, tmp_path):
    """A copy of the file elsewhere is the same trunk; other tensors are another."""
    copy = tmp_path / "copy.pth"
    shutil.copy(nano.weights, copy)
    assert source(weights=str(copy)).spec("float32") == source().spec("float32")
    assert source(weights="random").spec("float32") != source().spec("float32")


def test_known_weights_are_not_opened_again(source, nano, tmp_path):
    """The digest of a file that was hashed before comes from its stat, without torch."""
    expected = source().sha256
    cache = str(tmp_path / "cache")
    code = f"""
import sys
from pathlib import Path
from featcache.recipe.recipe import TrunkSection
from featcache.trunks import WeightsMemo
from featcache.trunks.source import TrunkSource
section = TrunkSection(arch="vit_nano_16", weights={str(nano.weights)!r})
asked = TrunkSource(section, WeightsMemo(Path({cache!r})))
assert asked.spec("float32").weights_sha256 == {expected!r}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_changed_weights_are_noticed(source, tmp_path):
    """Other tensors under the same path and size are another trunk."""
    path = tmp_path / "x.pth"
    state = load_tensors(NANO, "random")
    torch.save(state, path)
    first = source(weights=str(path)).sha256
    time.sleep(0.05)
    torch.save({**state, "class_token": state["class_token"] + 1}, path)
    assert source(weights=str(path)).sha256 != first


def test_what_is_typed_is_taken(source):
    """A precision that is named is used, whatever stores there are, and no hardware is asked."""
    held = [source().spec("bfloat16")]
    assert [spec.compute for spec in source(precision="fp32").choose(held, no_device)] == ["float32"]
    assert [spec.compute for spec in source(precision="bf16").choose([], no_device)] == ["bfloat16"]


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_auto_adopts_the_store_that_fits(source, compute):
    """With "auto" the precision of the one store that fits otherwise is used, and no hardware is asked."""
    held = [source().spec(compute), source(weights="random").spec("float32"), source(exif="apply").spec("bfloat16")]
    assert source().choose(held, no_device) == (source().spec(compute),)


def test_auto_asks_the_hardware_only_then(source):
    """With "auto" and no fitting store, or two, the device decides."""
    asked = source()
    expected = asked.spec(hardware.fast_precision("cpu"))
    assert asked.choose([], lambda: "cpu") == (expected,)
    both = [asked.spec("float32"), asked.spec("bfloat16")]
    assert asked.choose(both, lambda: "cpu") == (expected,)


def test_weights_are_located_by_their_tensors(tmp_path, nano):
    """As typed, else where the cache remembers them, else by their name; others are not taken for them."""
    memo = WeightsMemo(tmp_path / "cache")
    spec = TrunkSource(TrunkSection(arch="vit_nano_16", weights=str(nano.weights)), memo).spec("float32")
    assert find_weights(spec, "nano.pth", memo, None) is not None  # remembered
    assert find_weights(spec, "nano.pth", WeightsMemo(tmp_path / "new"), None) is None
    assert find_weights(spec, "nano.pth", WeightsMemo(tmp_path / "new"), str(nano.weights)) is not None
    other = replace(spec, weights_sha256="00" * 32)
    assert find_weights(other, "nano.pth", memo, str(nano.weights)) is None
