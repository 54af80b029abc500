"""A head to take along: the file answers as `predict` does."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featcache
from featcache import CacheError, UsageError
from featcache.extraction import Settings
from tests.conftest import ARCH, Nano


@pytest.fixture(scope="module")
def insects(nano: Nano, hymenoptera: Path, tmp_path_factory) -> dict[str, object]:
    """A cache of real photographs, train and val, with a head."""
    where = {"data": str(hymenoptera), "cache": tmp_path_factory.mktemp("insects")}
    trunk = {"arch": ARCH, "weights": str(nano.weights), "precision": "fp32"}
    for split in ("train", "val"):
        featcache.extract(split, settings=Settings(device="cpu", max_bad=1), **trunk, **where)
    featcache.fit_head([0.05], epochs=30, check_seconds=None, device="cpu", **where)
    return where


def prepared(paths, about) -> torch.Tensor:
    """The images as the JSON beside a model says, by torchvision's transforms."""
    from torchvision.transforms import v2

    told = about["transform"]
    prepare = v2.Compose([
        v2.Resize(told["resize"], v2.InterpolationMode(told["interpolation"]), antialias=told["antialias"]),
        v2.CenterCrop(told["crop"]), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(told["mean"], told["std"]),
    ])  # fmt: skip
    return torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])


def asked(insects, hymenoptera: Path) -> featcache.Predictions:
    """`predict` on 200 real photographs."""
    paths = sorted((hymenoptera / "train").rglob("*.jpg"))[:200]
    found = featcache.predict(None, paths, **insects)
    assert (len(found.paths), any(found.failed)) == (200, False)
    return found


def test_torchvision_answers_as_predict_does(insects, hymenoptera, tmp_path):
    """The state dict loads strictly and weights_only into torchvision's class; 200 photographs agree to 1e-4."""
    from torchvision.models import VisionTransformer

    done = featcache.export_model(None, tmp_path / "model.pt", **insects)
    about = json.loads((tmp_path / "model.json").read_text())
    network = VisionTransformer(64, 16, 2, 2, 64, 128, num_classes=2).eval()
    assert about["network"] == "torchvision.models.VisionTransformer(64, 16, 2, 2, 64, 128, num_classes=2)"
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert done.parameters == about["parameters"] == sum(value.numel() for value in network.parameters())
    found = asked(insects, hymenoptera)
    with torch.inference_mode():
        theirs = network(prepared(found.paths, about)).softmax(dim=1).numpy()
    assert np.abs(theirs - found.probabilities).max() < 1e-4
    assert tuple(about["classes"]) == found.classes == ("ants", "bees")


def test_onnxruntime_answers_as_predict_does(insects, hymenoptera, tmp_path):
    """The ONNX file passes its checker, takes any number of images, and 200 photographs agree to 1e-4."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    featcache.export_model(None, tmp_path / "model.onnx", **insects)
    about = json.loads((tmp_path / "model.json").read_text())
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = asked(insects, hymenoptera)
    pixels = prepared(found.paths, about).numpy()
    logits = np.concatenate([session.run(["logits"], {"pixels": part})[0] for part in (pixels[:1], pixels[1:])])
    theirs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(theirs - found.probabilities).max() < 1e-4


def test_the_full_network_has_the_parameters_of_the_recipe(made, tmp_path):
    """vit_b_16 with 34 classes has 85,824,802 parameters, and torchvision's own class takes every one of them."""
    from torchvision.models import vit_b_16

    with torch.device("meta"):
        network = vit_b_16(num_classes=34)
    assert sum(value.numel() for value in network.parameters()) == 85_824_802
    from featcache.trunks.architectures import architecture

    arch = architecture("vit_b_16")
    assert arch.frozen_parameters() + arch.head_parameters(34) == 85_824_802


def test_what_cannot_be_is_refused_before_anything_is_written(made, tmp_path):
    """Another suffix, no folder, a classifier that is no layer: exit 2, and the folder stays empty."""
    from featcache.heads.fit_classifier import fit

    with pytest.raises(UsageError, match=r"expected a name that ends in .pt or .onnx"):
        featcache.export_model(made.head, tmp_path / "model.bin", **made.where)
    with pytest.raises(UsageError, match="a folder that exists"):
        featcache.export_model(made.head, tmp_path / "none" / "model.pt", **made.where)
    with pytest.raises(UsageError, match="only a head of `featcache fit-head`, or logreg, ridge, lda or"):
        featcache.export_model(fit("knn", **made.where).best.name, tmp_path / "model.pt", **made.where)
    with pytest.raises(CacheError, match="no head is called"):
        featcache.export_model("nobody", tmp_path / "model.pt", **made.where)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["ridge", "logreg", "lda", "linear-svm"])
def test_any_linear_model_answers_in_the_network_as_it_does_in_predict(insects, hymenoptera, tmp_path, kind):
    """On 40 photographs: the same labels; where the JSON says so, the softmax of the outputs is its probabilities."""
    from torchvision.models import VisionTransformer

    name = featcache.fit(kind, **insects).best.name
    done = featcache.export_model(name, tmp_path / "model.pt", **insects)
    about = json.loads(done.about.read_text())
    network = VisionTransformer(64, 16, 2, 2, 64, 128, num_classes=2).eval()
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    found = featcache.predict(name, sorted((hymenoptera / "train").rglob("*.jpg"))[:40], **insects)
    with torch.inference_mode():
        logits = network(prepared(found.paths, about))
    assert logits.argmax(dim=1).tolist() == found.probabilities.argmax(axis=1).tolist()
    assert about["output"]["gives_probabilities"] == (kind in ("logreg", "lda"))
    assert any("softmax is not its probabilities" in note for note in about["notes"]) == (kind not in ("logreg", "lda"))
    if about["output"]["gives_probabilities"]:
        assert np.abs(logits.softmax(dim=1).numpy() - found.probabilities).max() < 1e-4


def test_two_files_of_one_name_have_each_their_own_description(made, tmp_path):
    """`model.json` stays that of the file it is about; a second file's goes beside it, under that file's whole name."""
    pytest.importorskip("onnx")
    first = featcache.export_model(made.head, tmp_path / "model.pt", **made.where)
    assert first.about == tmp_path / "model.json"
    kept = first.about.read_bytes()
    second = featcache.export_model(made.head, tmp_path / "model.onnx", **made.where)
    assert second.about == tmp_path / "model.onnx.json"
    assert first.about.read_bytes() == kept
    assert json.loads(second.about.read_text())["model"] == "model.onnx"
    assert featcache.export_model(made.head, tmp_path / "model.pt", **made.where).about == first.about


def test_a_json_file_of_somebody_else_is_not_replaced(made, tmp_path):
    """A `model.json` that describes no model, or is no JSON at all, stays as it is."""
    for content in (b'{"layers": 3}', b"[]", b"\xff"):
        (tmp_path / "model.json").write_bytes(content)
        done = featcache.export_model(made.head, tmp_path / "model.pt", **made.where)
        assert done.about.name == "model.pt.json"
        assert (tmp_path / "model.json").read_bytes() == content


def test_a_head_on_rows_of_length_one_is_exported_with_that_step(insects, hymenoptera, tmp_path):
    """The ONNX file scales embeddings as `predict` does; a state dict has no place for it, and is refused."""
    onnxruntime = pytest.importorskip("onnxruntime")
    where = {key: insects[key] for key in ("data", "cache") if key in insects}
    head = featcache.fit_head(0.3, normalize="l2", epochs=3, check_seconds=None, device="cpu", **where).heads[0]
    with pytest.raises(UsageError, match=r"--normalize l2.*ends in \.onnx"):
        featcache.export_model(head.name, tmp_path / "model.pt", **insects)
    featcache.export_model(head.name, tmp_path / "model.onnx", **insects)
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["embedding"] == "each embedding is divided by its Euclidean length before the last layer"
    assert any(about["embedding"] in note for note in about["notes"])
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    predictions = featcache.predict(head.name, [hymenoptera / "val" / "ants"], **insects)
    pixels = prepared(predictions.paths[:20], json.loads((tmp_path / "model.json").read_text())).numpy()
    logits = session.run(["logits"], {"pixels": pixels})[0]
    theirs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(theirs - predictions.probabilities[:20]).max() < 1e-4


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_an_mlp_answers_in_the_network_as_it_does_in_predict(insects, hymenoptera, tmp_path, suffix):
    """Its layers stand in the place of the class's own; the JSON says which; 40 photographs agree to 1e-4."""
    from torchvision.models import VisionTransformer

    name = featcache.fit_head(
        0.05, head="mlp", hidden="16,8", dropout=0.2, standardize=True, epochs=5, device="cpu", **insects
    ).best.name
    if suffix == ".onnx":
        pytest.importorskip("onnx")
    done = featcache.export_model(name, tmp_path / f"model{suffix}", **insects)
    about = json.loads(done.about.read_text())
    found = featcache.predict(name, sorted((hymenoptera / "train").rglob("*.jpg"))[:40], **insects)
    pixels = prepared(found.paths, about)
    if suffix == ".pt":
        constructor, _, heads = about["network"].partition(", with heads = ")
        assert constructor == "torchvision.models.VisionTransformer(64, 16, 2, 2, 64, 128, num_classes=2)"
        network = VisionTransformer(64, 16, 2, 2, 64, 128, num_classes=2)
        network.heads = eval(heads, {"torch": torch})
        network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
        with torch.inference_mode():
            logits = network.eval()(pixels)
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "model.onnx")
        logits = torch.from_numpy(session.run(["logits"], {"pixels": pixels.numpy()})[0])
    assert np.abs(logits.softmax(dim=1).numpy() - found.probabilities).max() < 1e-4
