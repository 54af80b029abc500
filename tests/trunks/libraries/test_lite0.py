"""EfficientNet-Lite0 with its real weights on photographs: answers and scores, not only software."""

import numpy as np
import pytest
import torch
from PIL import Image

import featcache
from featcache import Settings
from tests.conftest import single_thread
from tests.golden.features import real_weights, weights_file

IMAGENET = {"ants": 310, "bees": 309}
PER_CLASS = 10
one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)
ARCH = "timm:tf_efficientnet_lite0"
NEAR = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}  # most networks'


@pytest.fixture(scope="module")
def photographs(hymenoptera, tmp_path_factory):
    """Ten ants and ten bees, copied into a data set of their own."""
    root = tmp_path_factory.mktemp("labelled")
    for name in IMAGENET:
        (root / "val" / name).mkdir(parents=True)
        for path in sorted((hymenoptera / "val" / name).glob("*.jpg"))[:PER_CLASS]:
            (root / "val" / name / path.name).write_bytes(path.read_bytes())
    return root


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Ten windows of many shapes out of scikit-learn's two photographs, which need no shared data."""
    from sklearn.datasets import load_sample_images

    root, random = tmp_path_factory.mktemp("windows"), np.random.default_rng(0)
    for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
        (root / "val" / name).mkdir(parents=True)
        for number in range(5):
            width, height = (int(random.integers(120, edge)) for edge in (640, 427))
            left, top = int(random.integers(640 - width)), int(random.integers(427 - height))
            window = Image.fromarray(pixels).crop((left, top, left + width, top + height))
            window.save(root / "val" / name / f"{number}.png")
    return root


def plain_loop(files, **changes):
    """(images, 1000): what timm's own loop answers, with the network's own transform, or with a changed one."""
    import timm

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(real_weights())
    config = {**timm.data.resolve_model_data_config(model), **changes}
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        return model(torch.stack([transform(Image.open(file).convert("RGB")) for file in files])).numpy()


def answers(root, cache):
    """Through featcache: the split, its files, and (images, 1000), the network's own classifier on its features."""
    where = {"data": str(root), "cache": cache}
    settings = Settings(device="cpu", workers=1)
    featcache.extract("val", **where, arch=ARCH, weights=str(weights_file()), precision="fp32", settings=settings)
    split, tensors = featcache.load("val", **where), real_weights()
    files = [root / "val" / str(path).removeprefix("val/") for path in split.paths]
    return split, files, split.x @ tensors["classifier.weight"].numpy().T + tensors["classifier.bias"].numpy()


def test_top_1_equals_the_plain_loops(photographs, tmp_path):
    """Every photograph gets the class that timm's own loop gives it, and more are right than by the nearly right."""
    split, files, logits = answers(photographs, tmp_path / "cache")
    theirs, near = plain_loop(files).argmax(axis=1), plain_loop(files, **NEAR).argmax(axis=1)
    truth = [IMAGENET[split.classes[label]] for label in split.y]
    assert logits.argmax(axis=1).tolist() == theirs.tolist()
    assert np.mean(theirs == truth) > max(0.6, np.mean(near == truth))


def test_answers_equal_the_plain_loops_and_a_nearly_right_transform_shows(windows, tmp_path):
    """Of any photograph the thousand logits are those of timm's own loop, which another transform moves by far."""
    _, files, logits = answers(windows, tmp_path / "cache")
    theirs, near = plain_loop(files), plain_loop(files, **NEAR)
    scale = np.abs(theirs).max()
    assert logits.argmax(axis=1).tolist() == theirs.argmax(axis=1).tolist()
    assert np.abs(logits - theirs).max() < 1e-4 * scale
    assert np.abs(near - theirs).max() > 0.05 * scale
    assert (near.argmax(axis=1) != theirs.argmax(axis=1)).any()
