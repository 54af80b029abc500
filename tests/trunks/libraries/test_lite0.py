"""EfficientNet-Lite0 with its real weights on labelled photographs: scores, not only software."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import featcache
from featcache import Settings
from tests.golden.features import real_weights

IMAGENET = {"ants": 310, "bees": 309}
PER_CLASS = 12


@pytest.fixture(scope="module")
def photographs(hymenoptera, tmp_path_factory):
    """Twelve ants and twelve bees, copied into a data set of their own."""
    root = tmp_path_factory.mktemp("labelled")
    for name in IMAGENET:
        (root / "val" / name).mkdir(parents=True)
        for path in sorted((hymenoptera / "val" / name).glob("*.jpg"))[:PER_CLASS]:
            (root / "val" / name / path.name).write_bytes(path.read_bytes())
    return root


def plain_loop(files, tensors):
    """Each file's ImageNet class by timm's own loop, with its own transform and with one that is nearly right."""
    import timm

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(tensors)
    config = timm.data.resolve_model_data_config(model)
    near = {**config, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
    answers = []
    with torch.inference_mode():
        for values in (config, near):
            transform = timm.data.create_transform(**values, is_training=False)
            images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
            answers.append(model(images).argmax(dim=1).tolist())
    return answers


def test_top_1_equals_the_plain_loops(photographs, tmp_path):
    """Every photograph gets the class that timm's own loop gives it, and more are right than by the nearly right."""
    tensors = real_weights()
    save_file(tensors, tmp_path / "lite0.safetensors")
    where = {"data": str(photographs), "cache": tmp_path / "cache"}
    settings = Settings(device="cpu", workers=1)
    weights = str(tmp_path / "lite0.safetensors")

    featcache.extract(
        "val", **where, arch="timm:tf_efficientnet_lite0", weights=weights, precision="fp32", settings=settings
    )
    split = featcache.load("val", **where)

    logits = split.x @ tensors["classifier.weight"].numpy().T + tensors["classifier.bias"].numpy()
    theirs, near = plain_loop([photographs / "val" / path for path in map(relative, split.paths)], tensors)
    truth = [IMAGENET[split.classes[label]] for label in split.y]
    assert logits.argmax(axis=1).tolist() == theirs
    assert np.mean(np.equal(theirs, truth)) > max(0.6, np.mean(np.equal(near, truth)))


def relative(path):
    """A listing's path, from the folder of the split."""
    return str(path).removeprefix("val/")
