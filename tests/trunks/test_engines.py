"""Engines: the same embeddings, chosen by what is left to do, and never the end of a run."""

import numpy as np
import pytest
import torch

from featcache.errors import MachineError
from featcache.recipe import TrunkSection
from featcache.trunks import WeightsMemo, engines, vit
from featcache.trunks.hardware import fast_precision
from featcache.trunks.source import TrunkSource
from featcache.trunks.trunk import Trunk, load_trunk


@pytest.fixture
def trunk(nano, tmp_path):
    def make(engine: str = "eager", batch_size: int = 8, images: int = 0, compute: str = "float32") -> Trunk:
        section = TrunkSection(arch="vit_nano_16", weights=str(nano.weights), precision="auto")
        source = TrunkSource(section, WeightsMemo(tmp_path))
        spec = source.spec(compute)
        return load_trunk(source, spec, device="cpu", batch_size=batch_size, engine=engine, images=images)

    return make


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 3, 64, 64), dtype=np.uint8)


def test_openvino_gives_the_embeddings_of_eager(trunk, pixels):
    """To 1e-5 in fp32; and the record of the run says which engine it was."""
    pytest.importorskip("openvino")
    eager, other = trunk(), trunk("openvino")
    np.testing.assert_allclose(other.embed(pixels), eager.embed(pixels), rtol=1e-4, atol=1e-5)
    assert (eager.provenance()["engine"], other.provenance()["engine"]) == ("eager", "openvino")


def test_openvino_in_bfloat16_is_as_near_to_float32_as_eager(trunk, pixels):
    """The error of either, against float32, is at most twice that of the other."""
    pytest.importorskip("openvino")
    exact = trunk().embed(pixels)
    errors = [
        np.linalg.norm(trunk(engine, compute="bfloat16").embed(pixels) - exact) for engine in ("eager", "openvino")
    ]
    assert 0 < max(errors) <= 2 * min(errors)


def test_openvino_in_bfloat16_sums_no_tokens_in_float32(trunk, monkeypatch):
    """Between the patches and the embeddings no result of all tokens is float32: none is converted there and back."""
    openvino = pytest.importorskip("openvino")
    if fast_precision("cpu") != "bfloat16":
        pytest.skip("this CPU computes nothing fast in bfloat16")
    compiled = []
    compile_model = openvino.compile_model
    monkeypatch.setattr(
        openvino, "compile_model", lambda *given: compiled.append(compile_model(*given)) or compiled[-1]
    )
    network = trunk("openvino", compute="bfloat16").network
    wide = [
        operation.get_friendly_name()
        for operation in compiled[0].get_runtime_model().get_ordered_ops()
        if operation.get_type_name() != "Constant"
        and operation.get_rt_info()["layerType"].astype(str) != "Const"
        and operation.get_output_element_type(0) == openvino.Type.f32
        and list(operation.get_output_shape(0)) == [8, network.tokens, network.weight.shape[0]]
    ]
    assert wide == []


def test_an_engine_with_other_embeddings_falls_back_to_eager(trunk, pixels, monkeypatch):
    """What was traced is held against the network on other pixels than those that it was traced with."""
    pytest.importorskip("openvino")
    convert = engines._convert_to_openvino

    def mistraced(network, batch):
        forward = convert(network, batch)
        return lambda given: forward(given).flip(0) if given.any() else forward(given)

    monkeypatch.setattr(engines, "_convert_to_openvino", mistraced)
    with pytest.warns(RuntimeWarning, match="engine openvino failed, continuing with eager: its embeddings are not"):
        other = trunk("openvino")
    assert np.array_equal(other.embed(pixels), trunk().embed(pixels))


@pytest.mark.parametrize("width", [7, 48, 768])
def test_a_product_with_ones_changes_no_row(width):
    """In float32 it gives the bits that it was given, whatever the width is."""
    rows = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(engines._multiply_by_one(rows), rows)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_an_embedding_of_openvino_does_not_depend_on_its_neighbours(trunk, pixels, compute):
    """Alone in a padded batch, at another place, among others: the same bits."""
    pytest.importorskip("openvino")
    other = trunk("openvino", compute=compute)
    together = other.embed(pixels)
    assert np.array_equal(other.embed(pixels[5:6]), together[5:6])
    assert np.array_equal(other.embed(pixels[::-1].copy()), together[::-1])


@pytest.mark.parametrize("engine", ["compile", "openvino"])
def test_an_engine_that_fails_falls_back_to_eager(trunk, pixels, engine, monkeypatch):
    """With a warning that gives the reason; the embeddings are eager's, and the record says eager."""

    def broken(*_):
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(engines, "_compile", broken)
    monkeypatch.setattr(engines, "_convert_to_openvino", broken)
    with pytest.warns(RuntimeWarning, match=f"engine {engine} failed, continuing with eager: no C.. compiler$"):
        other = trunk(engine)
    assert np.array_equal(other.embed(pixels), trunk().embed(pixels))
    assert other.provenance()["engine"] == "eager"


def test_auto_is_decided_by_the_number_of_images(monkeypatch):
    """Few images stay eager; many take what is there; each choice is one line with its reason."""
    assert engines.choose_engine("auto", "cpu", 100).name == "eager"
    assert engines.choose_engine("auto", "cuda:1", 10_000).name == "eager"
    assert engines.choose_engine("auto", "cuda:1", 260_000).name == "compile"
    assert engines.choose_engine("auto", "mps", 10**6).name == "eager"
    assert engines.choose_engine("compile", "cpu", 1).sentence() == "engine compile: as requested"
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    assert engines.choose_engine("auto", "cpu", 10**6).name == "eager"
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: object())
    assert engines.choose_engine("auto", "cpu", 10**6).name == "openvino"


@pytest.mark.parametrize("said", ["DefaultCPUAllocator: can't allocate memory", torch.OutOfMemoryError("CUDA")])
def test_memory_that_runs_out_halves_the_batch(trunk, pixels, monkeypatch, said):
    """8 images do not fit, 4 do not fit, 2 do: every image has its row, and the batch stays small."""
    expected = trunk(batch_size=2).embed(pixels)
    real, seen = vit.ViT.__call__, []

    def tight(self, batch):
        seen.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError(said) if isinstance(said, str) else said
        return real(self, batch)

    monkeypatch.setattr(vit.ViT, "__call__", tight)
    small = trunk()
    with pytest.warns(UserWarning, match="out of memory: continuing with batches of"):
        assert np.array_equal(small.embed(pixels), expected)
    assert np.array_equal(small.embed(pixels), expected)
    assert seen == [8, 4] + [2] * 8
    assert small.provenance()["batch_size"] == 2


def test_no_memory_for_one_image_ends_the_run_with_advice(trunk, pixels, monkeypatch):
    """Exit class 5; any other error of the forward is passed on as it is."""

    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(vit.ViT, "__call__", full)
    with pytest.raises(MachineError, match="a single image; try another --device"):
        trunk(batch_size=1).embed(pixels[:1])

    def wrong(self, batch):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(vit.ViT, "__call__", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        trunk().embed(pixels)
