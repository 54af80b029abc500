"""From what a recipe asks for to a spec, without torch where the weights are known, and to a trunk that embeds."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.recipe import TrunkSection
from featcache.trunks import WeightsMemo, hardware, weights
from featcache.trunks import trunk as trunk_module
from featcache.trunks.architectures import architecture
from featcache.trunks.trunk import TrunkSource

NANO, B_16 = architecture("vit_nano_16"), architecture("vit_b_16")


def no_device() -> str:
    raise AssertionError("the hardware was asked")


@pytest.fixture
def source(nano, tmp_path):
    def make(**section: object) -> TrunkSource:
        asked = {"arch": NANO.name, "weights": str(nano.weights), **section}
        return TrunkSource(TrunkSection(**asked), WeightsMemo(tmp_path / "cache"))

    return make


@pytest.fixture(scope="module")
def trunk(nano, tmp_path_factory) -> trunk_module.Trunk:
    section = TrunkSection(arch=NANO.name, weights=str(nano.weights))
    source = TrunkSource(section, WeightsMemo(tmp_path_factory.mktemp("cache")))
    return trunk_module.load_trunk(source, source.spec("float32"), device="cpu", batch_size=8)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)


def test_a_source_says_what_was_asked_for(source, nano):
    """The spec holds the architecture, the tensors' digest, the weights' transform, precision and EXIF policy."""
    asked = source(exif="apply", stored="float16")
    spec = asked.spec("bfloat16")
    assert (spec.arch, spec.compute, spec.stored) == ("vit_nano_16", "bfloat16", "float16")
    assert spec.transform == replace(NANO.transform, exif="apply")
    assert spec.weights_sha256 == weights.digest(weights.load(NANO, str(nano.weights)))
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
from featcache.recipe import TrunkSection
from featcache.store import WeightsMemo
from featcache.trunks.trunk import TrunkSource
section = TrunkSection(arch="vit_nano_16", weights={str(nano.weights)!r})
asked = TrunkSource(section, WeightsMemo(Path({cache!r})))
assert asked.spec("float32").weights_sha256 == {expected!r}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_changed_weights_are_noticed(source, tmp_path):
    """Other tensors under the same path and size are another trunk."""
    path = tmp_path / "x.pth"
    state = weights.load(NANO, "random")
    torch.save(state, path)
    first = source(weights=str(path)).sha256
    time.sleep(0.05)
    torch.save({**state, "class_token": state["class_token"] + 1}, path)
    assert source(weights=str(path)).sha256 != first


def test_what_is_typed_is_taken(source):
    """A precision that is named is used, whatever stores there are, and no hardware is asked."""
    held = [source().spec("bfloat16")]
    assert source(precision="fp32").choose(held, no_device).compute == "float32"
    assert source(precision="bf16").choose([], no_device).compute == "bfloat16"


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_auto_adopts_the_store_that_fits(source, compute):
    """With "auto" the precision of the one store that fits otherwise is used, and no hardware is asked."""
    held = [source().spec(compute), source(weights="random").spec("float32"), source(exif="apply").spec("bfloat16")]
    assert source().choose(held, no_device) == source().spec(compute)


def test_auto_asks_the_hardware_only_then(source):
    """With "auto" and no fitting store, or two, the device decides."""
    asked = source()
    expected = asked.spec(hardware.fast_precision("cpu"))
    assert asked.choose([], lambda: "cpu") == expected
    both = [asked.spec("float32"), asked.spec("bfloat16")]
    assert asked.choose(both, lambda: "cpu") == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8))
def test_a_part_of_a_batch_is_embedded_like_the_whole(trunk, count):
    """Fewer images than a batch give the same bits as in a full one: every forward is padded."""
    whole = trunk.embed(pixels(8))
    found = trunk.embed(pixels(8)[:count])
    assert (found.shape, found.dtype) == ((count, 64), np.float32)
    np.testing.assert_array_equal(found, whole[:count])


def test_a_batch_that_was_uploaded_is_embedded_like_any_other(trunk):
    """From a buffer of its own, whole or in part; the buffer can be filled anew once the batch is embedded."""
    buffer = trunk.buffer()
    for count in (8, 5):
        buffer[:count] = pixels(count)
        np.testing.assert_array_equal(trunk.embed(trunk.upload(buffer[:count])), trunk.embed(pixels(count)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_copies_that_overlap_compute_change_nothing(source):
    """Batches copied while others compute, from page-locked buffers: what they give one by one."""
    asked = source(precision="fp32")
    trunk = trunk_module.load_trunk(asked, asked.spec("float32"), device="cuda", batch_size=8)
    expected = trunk.embed(pixels(8))
    buffers = [trunk.buffer(), trunk.buffer()]
    for buffer in buffers:
        buffer[:] = pixels(8)
    for number in range(50):
        uploaded = [trunk.upload(buffer[: 8 - number % 3]) for buffer in buffers]
        for batch in uploaded:
            np.testing.assert_array_equal(trunk.embed(batch), expected[: 8 - number % 3])


def test_every_forward_has_the_full_batch(trunk):
    """Whatever it is given, the network sees one shape: kernels, and with them the last bits, are chosen by shape."""
    seen = []

    def watched(batch: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(batch.shape))
        return trunk.network(batch)

    for count in (1, 3, 8):
        np.testing.assert_array_equal(replace(trunk, forward=watched).embed(pixels(count)), trunk.embed(pixels(count)))
    assert seen == [(8, 3, 64, 64)] * 3


def test_the_spec_decides_the_precision(source):
    """A trunk computes in its spec's precision: bf16 is near fp32 and not it."""
    asked = source()
    exact, near = (
        trunk_module.load_trunk(asked, asked.spec(compute), device="cpu", batch_size=8).embed(pixels(3))
        for compute in ("float32", "bfloat16")
    )
    assert near.dtype == np.float32
    assert not np.array_equal(exact, near)
    np.testing.assert_allclose(near, exact, atol=0.1)


def test_a_trunk_says_where_it_ran(trunk, source):
    """What is not keyed is recorded: device, engine, versions, and the batch size, by default the device's own."""
    made = trunk.made()
    assert (made["engine"], made["batch_size"]) == ("eager", 8)
    assert made["device"].startswith("cpu (")
    assert set(made["versions"]) == {"torch", "torchvision", "pillow", "numpy", "featcache"}
    asked = source()
    assert trunk_module.load_trunk(asked, asked.spec("float32"), device="cpu").batch_size == hardware.BATCH["cpu"]


def test_weights_are_located_by_their_tensors(tmp_path, nano):
    """As typed, else where the cache remembers them, else by their name; others are not taken for them."""
    memo = WeightsMemo(tmp_path / "cache")
    spec = TrunkSource(TrunkSection(arch="vit_nano_16", weights=str(nano.weights)), memo).spec("float32")
    assert trunk_module.find_weights(spec, "nano.pth", memo, None) is not None  # remembered
    assert trunk_module.find_weights(spec, "nano.pth", WeightsMemo(tmp_path / "new"), None) is None
    assert trunk_module.find_weights(spec, "nano.pth", WeightsMemo(tmp_path / "new"), str(nano.weights)) is not None
    other = replace(spec, weights_sha256="00" * 32)
    assert trunk_module.find_weights(other, "nano.pth", memo, str(nano.weights)) is None
