"""A head behind a library's network, as one file for other tools."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import featcache
from featcache import UsageError
from featcache.extraction import Settings
from tests.prediction.test_model_file import prepared

timm = pytest.importorskip("timm")
ARCH = "timm:test_resnet"  # 160 pixels, half a million parameters


@pytest.fixture(scope="module")
def cache(tmp_path_factory, request) -> dict[str, object]:
    """A cache of scans behind a small timm network with seeded weights, with a head."""
    from tests.conftest import write_images

    root = tmp_path_factory.mktemp("library")
    counts = {"train": {"0": 8, "1": 8}, "val": {"0": 4, "1": 4}}
    where = {"data": str(write_images(root / "digits", counts)), "cache": root / "cache"}
    torch.manual_seed(3)
    torch.save(timm.create_model("test_resnet").state_dict(), root / "small.pth")
    trunk = {"arch": ARCH, "weights": str(root / "small.pth"), "precision": "fp32"}
    featcache.extract(settings=Settings(device="cpu", workers=1), **trunk, **where)
    featcache.fit_head([0.05], epochs=20, check_seconds=None, device="cpu", **where)
    return where


@pytest.fixture(scope="module")
def predictions(cache) -> featcache.Predictions:
    paths = sorted((Path(str(cache["data"])) / "val").rglob("*.png"))
    return featcache.predict(None, paths, device="cpu", workers=1, **cache)


def test_the_librarys_own_class_and_the_head_answer_as_predict_does(cache, predictions, tmp_path):
    """model.pt holds the tensors under the library's own names, and the linear layer."""
    featcache.export_model(None, tmp_path / "model.pt", **cache)
    about = json.loads((tmp_path / "model.json").read_text())
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    network = timm.create_model("test_resnet", num_classes=0).eval()
    trunk = {name.removeprefix("trunk."): value for name, value in state.items() if name.startswith("trunk.")}
    network.load_state_dict(trunk, strict=True)
    with torch.inference_mode():
        logits = network(prepared(predictions.paths, about)) @ state["heads.weight"].T + state["heads.bias"]
    assert np.abs(logits.softmax(1).numpy() - predictions.probabilities).max() < 1e-4
    assert about["network"].startswith("trunk.*: timm.create_model('test_resnet', num_classes=0)")
    assert about["input"]["shape"] == ["images", 3, 160, 160]


def test_the_json_says_that_the_temperature_is_applied(cache, tmp_path):
    """Its number, that it is applied, and a note that says so."""
    featcache.export_model(None, tmp_path / "model.pt", **cache)
    about = json.loads((tmp_path / "model.json").read_text())
    value = about["output"]["divided_by_temperature"]
    assert value > 0
    assert about["output"]["temperature"] == {"value": value, "applied": True}
    assert f"the outputs are already divided by the head's temperature {value:.4g}: " in " ".join(about["notes"])


def test_onnxruntime_answers_as_predict_does_behind_a_library(cache, predictions, tmp_path):
    """The ONNX file takes any number of images, and agrees to 1e-4."""
    onnxruntime = pytest.importorskip("onnxruntime")
    featcache.export_model(None, tmp_path / "model.onnx", **cache)
    about = json.loads((tmp_path / "model.json").read_text())
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"pixels": prepared(predictions.paths, about).numpy()})[0]
    theirs = torch.from_numpy(logits).softmax(1).numpy()
    assert np.abs(theirs - predictions.probabilities).max() < 1e-4


def test_a_network_that_onnx_cannot_express_is_one_sentence(cache, tmp_path, monkeypatch):
    """Whatever the exporter raises, the message says that a model.pt is the way out; nothing is written."""

    def export(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Unsupported: aten::something\nlong trace")

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(UsageError) as refused:
        featcache.export_model(None, tmp_path / "model.onnx", **cache)
    assert str(refused.value) == (
        f"{ARCH} cannot be written as ONNX: Unsupported: aten::something. --to model.pt writes its tensors instead"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_attention_head_says_what_its_files_need(cache, tmp_path):
    """The state dict needs featcache's class, as its notes say; the ONNX file does not, and answers as predict does."""
    onnxruntime = pytest.importorskip("onnxruntime")
    where = {"data": cache["data"], "cache": tmp_path / "cache"}
    weights = str(Path(str(cache["cache"])).parent / "small.pth")
    featcache.extract(
        arch=ARCH, weights=weights, layer="grid5", precision="fp32", settings=Settings(device="cpu", workers=1), **where
    )
    featcache.fit_head([0.01], head="attention", epochs=2, check_seconds=None, device="cpu", **where)
    needed = "building this head needs featcache (featcache.heads.modules.attention."
    done = featcache.export_model(None, tmp_path / "model.pt", **where)
    assert any(note.startswith(needed) for note in done.notes)
    assert set(done.notes) <= set(json.loads(done.about.read_text())["notes"])
    done = featcache.export_model(None, tmp_path / "other.onnx", **where)
    assert not any(note.startswith(needed) for note in done.notes)
    paths = sorted((Path(str(cache["data"])) / "val").rglob("*.png"))
    predicted = featcache.predict(None, paths, device="cpu", workers=1, **where)
    session = onnxruntime.InferenceSession(str(done.model), providers=["CPUExecutionProvider"])
    pixels = prepared(predicted.paths, json.loads(done.about.read_text())).numpy()
    logits = torch.from_numpy(session.run(["logits"], {"pixels": pixels})[0])
    assert np.abs(logits.softmax(1).numpy() - predicted.probabilities).max() < 1e-4
