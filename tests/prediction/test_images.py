"""A head on images: new ones, known ones, bad ones."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import featcache
from featcache import CacheError, DataError
from featcache.extraction import Settings
from featcache.prediction.images import find_images
from tests.conftest import ARCH, Nano


def test_training_images_get_the_labels_that_report_counted(made):
    """`predict` on the images of a split and `report` on that split give one confusion matrix; nothing is embedded."""
    for split in ("train", "val"):
        paths = made.images(split)
        found = featcache.predict(made.head, [made.data / split], **made.where)
        assert found.paths == tuple(paths)
        assert found.embedded == 0
        counted = featcache.evaluate(made.head, split=split, **made.where).confusion
        truth = [found.classes.index(Path(path).parent.name) for path in paths]
        confusion = np.zeros_like(counted)
        np.add.at(confusion, (truth, found.probabilities.argmax(axis=1)), 1)
        assert confusion.tolist() == counted.tolist()


def test_new_images_are_embedded_as_the_training_images_were(made, tmp_path):
    """What predict says of images that the store lacks is what the head says once they are extracted."""
    found = featcache.predict(made.head, [made.data / "test"], device="cpu", **made.where)
    assert found.embedded == len(made.images("test"))
    shutil.copytree(made.cache, tmp_path / "cache")
    trunk = {"arch": ARCH, "weights": str(made.weights), "precision": "fp32"}
    where = {"data": str(made.data), "cache": tmp_path / "cache"}
    featcache.extract("test", settings=Settings(device="cpu"), **trunk, **where)
    again = featcache.predict(made.head, [made.data / "test"], **where)
    assert again.embedded == 0
    assert again.probabilities.tobytes() == found.probabilities.tobytes()


def test_it_is_what_torchvision_computes(made):
    """Decoded, transformed, forwarded and answered by torchvision's own parts, the logits over the head's temperature:
    the probabilities are the same.
    """
    from PIL import Image
    from torchvision.transforms import v2

    from featcache.heads.saved import read_temperature
    from featcache.heads.saved.linear import load_head
    from featcache.trunks.architectures import architecture
    from featcache.trunks.weights import build_network

    found = featcache.predict(made.head, [made.data / "test"], device="cpu", **made.where)
    arch = architecture(ARCH)
    trunk = build_network(arch, arch.transform.crop).eval()
    trunk.load_state_dict(torch.load(made.weights, weights_only=True))
    (folder,) = made.cache.glob(f"stores/*/heads/*/*/{made.head}")
    head = load_head(folder).head
    prepare = v2.Compose([
        v2.Resize(arch.transform.resize, antialias=True), v2.CenterCrop(arch.transform.crop), v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(arch.transform.mean, arch.transform.std),
    ])  # fmt: skip
    pixels = torch.stack([prepare(Image.open(path).convert("RGB")) for path in found.paths])
    with torch.inference_mode():
        z = trunk(pixels) @ torch.from_numpy(head.weight).T + torch.from_numpy(head.bias)
    assert found.temperature == read_temperature(folder).value == found.to_json()["temperature"]
    assert np.allclose(found.probabilities, (z / (found.temperature or 1)).softmax(dim=1).numpy(), atol=1e-5)


def test_the_same_bytes_are_embedded_once_and_answered_everywhere(made, tmp_path):
    """A copy under another name, named twice, costs nothing and gets the same answer, in the order of the question."""
    one, other = made.images("test")[:2]
    copy = shutil.copy(one, tmp_path / "copy.png")
    found = featcache.predict(made.head, [one, other, copy, one], device="cpu", **made.where)
    assert (found.embedded, len(found.paths)) == (2, 4)
    assert found.probabilities[0].tolist() == found.probabilities[2].tolist() == found.probabilities[3].tolist()
    assert found.probabilities[0].tolist() != found.probabilities[1].tolist()


def test_a_bad_file_is_a_row_with_its_reason(made, tmp_path):
    """Missing, cut off, no image: each stands in its place with why, and the others are answered; also its copies."""
    whole = made.images("test")[0]
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(whole).read_bytes()[:-40])
    twin = shutil.copy(cut, tmp_path / "twin.png")
    text = tmp_path / "text.png"
    text.write_text("<html>")
    found = featcache.predict(made.head, [cut, whole, text, tmp_path / "none.png", twin], device="cpu", **made.where)
    assert [bool(reason) for reason in found.failed] == [True, False, True, True, True]
    assert "cannot be read" in found.failed[3]
    assert found.failed[0] == found.failed[4]
    assert np.isnan(found.probabilities[0]).all()
    assert found.top(0) == []
    assert sum(share for _, share in found.top(1)) == pytest.approx(1)
    assert found.to_json()["images"][0]["failed"] == found.failed[0]
    assert found.to_json()["failed"] == 4


def test_without_one_good_image_it_is_an_error(made, tmp_path):
    """None that can be used, an empty folder, no name at all: exit 4, and the message says which."""
    with pytest.raises(DataError, match=r"none\.png: cannot be read: No such file"):
        featcache.predict(made.head, [tmp_path / "none.png"], **made.where)
    with pytest.raises(DataError, match="no image in this folder"):
        featcache.predict(made.head, [tmp_path], **made.where)
    with pytest.raises(DataError, match="no image was named"):
        featcache.predict(made.head, [], **made.where)


def test_a_folder_means_every_image_below_it_in_order(tmp_path):
    """Any depth, sorted by bytes; hidden entries and other files are left out; a file is itself."""
    for name in ("b/2.JPG", "b/1.png", "a/deep/er/3.webp", ".hidden/4.png", "a/.5.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(path, tmp_path) for path in find_images(tmp_path)]
    assert found == ["a/deep/er/3.webp", "b/1.png", "b/2.JPG"]
    assert find_images("anything at all") == ["anything at all"]


def test_other_weights_are_refused(made, nano: Nano, tmp_path):
    """The trunk must be the head's: other tensors under --weights are exit 3; the same ones elsewhere will do."""
    state = torch.load(made.weights, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "other.pth")
    new = made.images("test")[0]
    with pytest.raises(CacheError, match=r"other\.pth was typed; store \S+ has weights nano\.pth \(other tensors\)"):
        featcache.predict(made.head, [new], weights=str(tmp_path / "other.pth"), **made.where)
    moved = shutil.copy(made.weights, tmp_path / "renamed.pth")
    assert featcache.predict(made.head, [new], weights=str(moved), device="cpu", **made.where).embedded == 1


def test_weights_that_are_gone_are_asked_for_only_where_they_are_needed(made, tmp_path):
    """A cache without its trunk answers for the images that it holds; for others it says what to name."""
    shutil.copytree(made.cache, tmp_path / "cache")
    (tmp_path / "cache" / "weights.json").unlink()
    where = {"data": str(made.data), "cache": tmp_path / "cache"}
    assert featcache.predict(made.head, [made.data / "val"], **where).embedded == 0
    with pytest.raises(CacheError, match=r"its weights are nano\.pth. Name their file with --weights"):
        featcache.predict(made.head, [made.data / "test"], **where)


def test_one_path_is_one_image_and_who_answers_is_said(made):
    """A text or a Path, not a list of its characters; and which head a word stood for, in one sentence."""
    image = made.images("val")[0]
    by_text, by_path = (featcache.predict(word, image, **made.where) for word, image in
                        ((None, str(image)), ("best", Path(image))))  # fmt: skip
    assert by_text.paths == by_path.paths == (str(image),)
    assert by_text.chosen == by_path.chosen == by_text.to_json()["chosen"]
    assert re.match(rf"head #\d+ {re.escape(by_text.head)}: the ", by_text.chosen)
    assert featcache.predict(made.head, (path for path in [image]), **made.where).to_json()["chosen"] is None


def test_a_head_can_be_named_by_its_folder(made):
    """Without a word on the data set or the cache: the folder that fit-head printed says it all."""
    (folder,) = made.cache.glob(f"stores/*/heads/*/*/{made.head}")
    by_folder = featcache.predict(str(folder), [made.data / "val"])
    by_name = featcache.predict(made.head[:8], [made.data / "val"], **made.where)
    assert by_folder.head == by_name.head == made.head
    assert by_folder.probabilities.tobytes() == by_name.probabilities.tobytes()


def test_other_classifiers_answer_too(made):
    """A k-NN gives its votes; one that knows no probabilities gives its label, and says so."""
    from featcache.heads.fit_classifier import fit

    knn = fit("knn", **made.where)
    found = featcache.predict(knn.best.name, [made.data / "test"], device="cpu", **made.where)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(24))
    centroid = fit("linear-svm", **made.where)
    found = featcache.predict(centroid.best.name, [made.data / "val"], **made.where)
    assert set(found.probabilities.ravel().tolist()) == {0.0, 1.0}
    assert any("labels, not probabilities" in note for note in found.notes)


def test_a_classifier_is_found_by_its_folder_as_a_head_is(made, tmp_path):
    """Whatever --data and --cache say: a path is the classifier in that folder, and answers as it does by its name."""
    knn = featcache.fit("knn", {"k": 3}, **made.where).best
    images = made.images("test")[:5]
    by_name = featcache.predict(knn.name, images, device="cpu", workers=1, **made.where)
    for path in (knn.folder, os.path.relpath(knn.folder)):
        found = featcache.predict(str(path), images, device="cpu", workers=1, cache=tmp_path, data=str(tmp_path))
        assert (found.head, found.classes) == (knn.name, by_name.classes)
        assert found.probabilities == pytest.approx(by_name.probabilities)
    featcache.fit_head([0.05], **made.where, epochs=30, check_seconds=None, device="cpu")  # the newest again
