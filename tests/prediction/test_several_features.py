"""A head on several layers, or several trunks, answers for new images as for those that it was trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featcache
from featcache import UsageError
from featcache.extraction import Settings
from featcache.trunks.trunk import Trunk
from tests.conftest import ARCH, Nano, single_thread, write_images
from tests.prediction.test_model_file import prepared

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)
OTHER = "squeezenet1_1"
SEVERAL = f"{ARCH}/mean+{OTHER}/pooled+{ARCH}/cls"


@pytest.fixture(scope="module")
def where(nano: Nano, tmp_path_factory) -> dict[str, str]:
    """A cache of scans with two layers of one trunk and one of another, and a head on each set of them."""
    root = tmp_path_factory.mktemp("several")
    data = write_images(root / "digits", {"train": {"0": 9, "1": 9}, "val": {"0": 4, "1": 4}})
    where = {"data": str(data), "cache": str(root / "cache")}
    running = {"settings": Settings(device="cpu", batch_size=8), "precision": "fp32", **where}
    for split in ("train", "val"):
        featcache.extract(split, arch=ARCH, weights=str(nano.weights), layer=["cls", "mean"], **running)
        featcache.extract(split, arch=OTHER, weights="random", **running)
    for name, features in (("layers", f"{ARCH}/cls+{ARCH}/mean"), ("several", SEVERAL)):
        settings = {"epochs": 30, "check_seconds": None, "device": "cpu", "features": features, "head_name": name}
        featcache.fit_head([0.05], **settings, **where)
        if name == "layers":
            featcache.fit_head([0.05], **{**settings, "head_name": "unit", "normalize": "l2"}, **where)
    return where


@pytest.fixture(scope="module")
def new(where, tmp_path_factory) -> list[str]:
    """Five images that no store holds, of odd sizes."""
    folder = tmp_path_factory.mktemp("new")
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (30 + 7 * number, 41, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(map(str, folder.iterdir()))


def head_and_split(where: dict[str, str], name: str) -> featcache.SplitPredictions:
    return featcache.predict_split(name, split="val", **where)


@pytest.mark.parametrize("name", ["layers", "several"])
def test_what_the_stores_hold_is_not_embedded_again(where, name):
    """For the images of val, `predict` gives the probabilities that `report` counts, without a trunk."""
    images = sorted(str(path) for path in Path(where["data"], "val").rglob("*.png"))
    predictions = featcache.predict(name, images, device="cpu", **where)
    reported = head_and_split(where, name)
    assert predictions.embedded == 0
    assert reported.probabilities is not None
    order = np.argsort([str(Path(where["data"], path)) for path in reported.paths])
    assert predictions.probabilities == pytest.approx(reported.probabilities[order], abs=1e-6)


@pytest.mark.parametrize(("name", "trunks"), [("layers", 1), ("several", 2)])
def test_each_trunk_runs_once_for_an_image(where, new, nano, monkeypatch, name, trunks):
    """New images go through each trunk once, however many of its layers; the head gets their columns in order."""
    forwards: list[tuple[str, int]] = []
    embed = Trunk.embed

    def counted(trunk: Trunk, pixels: np.ndarray) -> np.ndarray:
        forwards.append((trunk.spec.arch, len(pixels)))
        return embed(trunk, pixels)

    monkeypatch.setattr(Trunk, "embed", counted)
    predictions = featcache.predict(name, new, device="cpu", batch_size=8, **where)
    assert sorted(forwards) == [(OTHER, 5), (ARCH, 5)][2 - trunks :]
    assert predictions.embedded == 5
    monkeypatch.undo()
    own = {"weights": str(nano.weights), "precision": "fp32", "device": "cpu", "batch_size": 8, **where}
    cls, mean = (featcache.embed(new, arch=ARCH, layer=layer, **own) for layer in ("cls", "mean"))
    columns = [cls, mean]
    if name == "several":
        other = featcache.embed(new, arch=OTHER, **{**own, "weights": "random"})
        columns = [mean, other, cls]
    (head,) = [head for head in featcache.compare(**where).heads if head.given_name == name]
    folder = Path(where["cache"], "stores", head.store, "heads", "digits", "all", head.name)
    from featcache.heads.saved import read_temperature
    from featcache.heads.saved.linear import load_head
    from featcache.metrics import apply_temperature

    expected = load_head(folder).predict_probabilities(np.concatenate(columns, axis=1))
    kept = read_temperature(folder)
    assert kept is not None
    expected = expected if kept.value is None else apply_temperature(expected, kept.value)
    assert predictions.probabilities == pytest.approx(expected, abs=1e-6)


def test_an_image_that_cannot_be_read_is_a_row_with_its_reason(where, new, tmp_path):
    """With several trunks, too: the others get their predictions."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    predictions = featcache.predict("several", [new[0], str(tmp_path / "bad.png"), new[1]], device="cpu", **where)
    assert [bool(reason) for reason in predictions.failed] == [False, True, False]
    assert np.isnan(predictions.probabilities[1]).all()
    assert np.isfinite(predictions.probabilities[[0, 2]]).all()


def test_a_head_is_found_by_its_folder(where, new):
    """Its folder says which stores it needs; what is typed beside it has no effect, and that is said."""
    (head,) = [head for head in featcache.compare(**where).heads if head.given_name == "several"]
    folder = Path(where["cache"], "stores", head.store, "heads", "digits", "all", head.name)
    by_folder = featcache.predict(str(folder), new, device="cpu", features="cls")
    by_name = featcache.predict("several", new, device="cpu", **where)
    assert by_folder.probabilities == pytest.approx(by_name.probabilities)
    assert any("--features has no effect" in note for note in by_folder.notes)


@pytest.mark.parametrize("name", ["layers", "unit"])
def test_layers_of_one_trunk_are_one_network(where, new, tmp_path, name):
    """The ONNX file answers as `predict` does, with the layers side by side, each of length 1 where that is wanted."""
    onnxruntime = pytest.importorskip("onnxruntime")
    featcache.export_model(name, tmp_path / "model.onnx", **where)
    about = json.loads((tmp_path / "model.json").read_text())
    assert "its layers cls+mean, side by side" in about["network"]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"pixels": prepared(new, about).numpy()})[0]
    predictions = featcache.predict(name, new, device="cpu", **where)
    assert torch.from_numpy(logits).softmax(1).numpy() == pytest.approx(predictions.probabilities, abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"head": "attention"}])
def test_a_grid_of_patches_is_part_of_a_network(where, new, nano, tmp_path, settings):
    """The ONNX file takes any number of images, whether a linear head or attention reads the cells."""
    onnxruntime = pytest.importorskip("onnxruntime")
    where = {**where, "cache": str(tmp_path / "cache")}
    for split in ("train", "val"):
        running = Settings(device="cpu", batch_size=8)
        featcache.extract(
            split, arch=ARCH, weights=str(nano.weights), layer="grid2", settings=running, precision="fp32", **where
        )
    featcache.fit_head([0.05], epochs=5, check_seconds=None, device="cpu", **settings, **where)
    featcache.export_model("best", tmp_path / "model.onnx", **where)
    about = json.loads((tmp_path / "model.json").read_text())
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"pixels": prepared(new, about).numpy()})[0]
    predictions = featcache.predict("best", new, device="cpu", **where)
    assert torch.from_numpy(logits).softmax(1).numpy() == pytest.approx(predictions.probabilities, abs=1e-3)


def test_two_trunks_are_not_one_network(where, tmp_path):
    """The error names both, and nothing is written."""
    with pytest.raises(UsageError, match=f"features of 2 trunks, {ARCH} and {OTHER}, which are not one network"):
        featcache.export_model("several", tmp_path / "model.pt", **where)
    assert list(tmp_path.iterdir()) == []
