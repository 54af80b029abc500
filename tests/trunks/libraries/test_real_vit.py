"""A real ViT-S/14 of DINOv2's shape on labelled photographs, where the shared data stands beside the checkout."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import featcache
from featcache import Settings
from tests.conftest import SHARED, single_thread

WEIGHTS = SHARED / "weights" / "vit_small_patch14_224_dinov2_shape.fp16.safetensors"
FOOD = SHARED / "pizza_steak_sushi"
PER_CLASS = {"train": 6, "test": 4}

one_thread = pytest.fixture(autouse=True, scope="module")(single_thread)


@pytest.fixture(scope="module")
def food(tmp_path_factory):
    """A few photographs of each class, train and test."""
    if not (WEIGHTS.is_file() and FOOD.is_dir()):
        pytest.skip("../shared/data/weights or ../shared/data/pizza_steak_sushi is not here")
    root = tmp_path_factory.mktemp("food")
    for split, count in PER_CLASS.items():
        for source in sorted((FOOD / split).iterdir()):
            (root / split / source.name).mkdir(parents=True)
            for path in sorted(source.glob("*.jpg"))[:count]:
                (root / split / source.name / path.name).write_bytes(path.read_bytes())
    return root


def plain_loop(files):
    """(images, 384): the class token by timm's own loop."""
    import timm

    model = timm.create_model("vit_small_patch14_dinov2", img_size=224, num_classes=0).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    config = timm.data.resolve_model_data_config(model, {"input_size": (3, 224, 224)})
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
        return torch.cat([model.forward_features(part)[:, 0] for part in images.split(8)]).numpy()


def top_1(train, train_labels, test):
    """The class of the nearest training image, by cosine."""
    train, test = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, test))
    return train_labels[(test @ train.T).argmax(axis=1)]


def test_top_1_equals_the_plain_loops(food, tmp_path):
    """Features equal those of timm's own loop to 1e-5, every test image gets the same class, and most are right."""
    where = {"data": str(food), "cache": tmp_path / "cache"}
    trunk = {"arch": "timm:vit_small_patch14_dinov2", "weights": str(WEIGHTS), "image_size": 224, "precision": "fp32"}
    for split in PER_CLASS:
        featcache.extract(split, **where, **trunk, settings=Settings(device="cpu", workers=1))
    train, test = (featcache.load(split, **where) for split in PER_CLASS)

    loops = [plain_loop([food / str(path) for path in split.paths]) for split in (train, test)]
    for split, loop in zip((train, test), loops, strict=True):
        assert np.abs(split.x - loop).max() < 1e-5 * np.linalg.norm(loop, axis=1).min()
    ours, theirs = top_1(train.x, train.y, test.x), top_1(loops[0], train.y, loops[1])
    assert ours.tolist() == theirs.tolist()
    assert np.mean(ours == test.y) > 0.6  # of three classes


def test_a_store_is_continued_by_another_engine(food, tmp_path):
    """What eager began in bfloat16 OpenVINO goes on with: a trained network's rows are the same trunk's by either."""
    pytest.importorskip("openvino")
    where = {"data": str(food), "cache": tmp_path / "cache", "precision": "bf16"}
    trunk = {"arch": "timm:vit_small_patch14_dinov2", "weights": str(WEIGHTS), "image_size": 224}
    for split, engine in zip(PER_CLASS, ("eager", "openvino"), strict=True):
        (summary,) = featcache.extract(
            split, **where, **trunk, settings=Settings(device="cpu", workers=1, engine=engine)
        )
    assert summary.drift.compared == 8
    assert 0 < summary.drift.mean_cosine < 1e-4
    assert summary.drift.is_within_bound("bfloat16")
