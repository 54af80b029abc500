"""A trunk on a device: rows that do not depend on their batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.recipe.recipe import TrunkSection
from featcache.trunks import WeightsMemo, hardware
from featcache.trunks import trunk as trunk_module
from featcache.trunks.architectures import architecture
from featcache.trunks.source import TrunkSource

NANO, B_16 = architecture("vit_nano_16"), architecture("vit_b_16")


@pytest.fixture(scope="module")
def trunk(nano, tmp_path_factory) -> trunk_module.Trunk:
    section = TrunkSection(arch=NANO.name, weights=str(nano.weights))
    source = TrunkSource(section, WeightsMemo(tmp_path_factory.mktemp("cache")))
    return trunk_module.load_trunk(source, source.spec("float32"), device="cpu", batch_size=8)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)


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
    made = trunk.provenance()
    assert (made["engine"], made["batch_size"]) == ("eager", 8)
    assert made["device"].startswith("cpu (")
    assert set(made["versions"]) == {"torch", "torchvision", "pillow", "numpy", "featcache"}
    asked = source()
    assert trunk_module.load_trunk(asked, asked.spec("float32"), device="cpu").batch_size == hardware.BATCH["cpu"]
