"""Networks of transformers: features and pixels are those of the library's own plain loop, family by family."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from featcache.errors import UsageError
from featcache.media import decode_image
from featcache.trunks.libraries.network import LibraryNetwork
from featcache.trunks.libraries.pixels import require_equal_pixels
from featcache.trunks.libraries.transformers_models import TransformersModels

transformers = pytest.importorskip("transformers")
from tests.trunks.libraries.folders import FAMILIES  # noqa: E402 (it imports transformers)

SIZES = (
    (231, 167), (167, 231), (500, 333), (301, 643), (97, 97), (64, 64), (48, 49), (1000, 101), (33, 35), (640, 480),
    (57, 300), (225, 224),
)  # fmt: skip
WITHOUT_CLASSIFIER = ("clip", "siglip")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / request.param
    return request.param, folder, FAMILIES[request.param].save(folder)


@pytest.fixture(scope="module")
def pictures():
    noise = np.random.default_rng(5)
    small = [Image.fromarray(noise.integers(0, 256, (h // 8 + 1, w // 8 + 1, 3), dtype=np.uint8)) for w, h in SIZES]
    return [image.resize(size, Image.Resampling.BICUBIC) for image, size in zip(small, SIZES, strict=True)]


def plain_loop(name, folder, whole, pictures):
    """Return pixels (n, 3, h, w), and each layer, as somebody writes it with transformers alone."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    prefix = FAMILIES[name].prefix_tokens
    base = getattr(whole, FAMILIES[name].base)
    pixels = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in pictures])
    pooled = []
    with torch.inference_mode():
        if name not in WITHOUT_CLASSIFIER:
            handle = whole.classifier.register_forward_pre_hook(lambda _module, inputs: pooled.append(inputs[0]))
            whole(pixel_values=pixels)
            handle.remove()
        output = base(pixel_values=pixels, output_hidden_states=True)
        layers = {"pooled": (pooled[0] if pooled else output.pooler_output).flatten(1)}
        last = output.last_hidden_state
        if name == "clip":
            last = base.post_layernorm(last)
        if last.ndim == 4:
            last = last.flatten(2).transpose(1, 2)
        layers |= {"tokens": last[:, prefix:].flatten(1), "mean": last[:, prefix:].mean(dim=1)}
        norm = next((getattr(base, part) for part in ("post_layernorm", "layernorm") if hasattr(base, part)), None)
        if prefix:
            layers |= {"cls": last[:, 0], "cls@-2": norm(output.hidden_states[-2])[:, 0]}
        if name not in ("resnet", "convnext", "swin"):
            layers |= {"mean@-2": norm(output.hidden_states[-2])[:, prefix:].mean(dim=1)}
    return pixels, layers


def test_features_and_pixels_are_those_of_the_plain_loop(family, pictures):
    """Every layer equals what transformers alone gives to 1e-5, the input bit by bit, on twelve pictures."""
    name, folder, whole = family
    pixels, layers = plain_loop(name, folder, whole, pictures)
    network = TransformersModels().load(str(folder), "pretrained", 0)
    require_equal_pixels(network, network.transform, name)
    ours = torch.from_numpy(np.stack([decode_image(_png(image), network.transform) for image in pictures]))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.transform.mean, network.transform.std))
    assert torch.equal(torch.round((pixels * std + mean) * 255).to(torch.uint8), ours)
    run = LibraryNetwork(network, list(layers), network.transform, dtype=torch.float32, device="cpu")
    with torch.inference_mode():
        columns = run(ours).split([value.shape[1] for value in layers.values()], dim=1)
    for (layer, expected), found in zip(layers.items(), columns, strict=True):
        difference = (found - expected).norm(dim=1) / expected.norm(dim=1)
        assert difference.max() < 1e-5, layer


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_file_of_the_folder_gives_the_same_tensors(family, tmp_path):
    """Weights named as a file, in the names of the files or of the modules, are those of the folder."""
    name, folder, whole = family
    expected = TransformersModels().load(str(folder), "pretrained", 0).named
    base = getattr(whole, FAMILIES[name].base)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in whole.state_dict().items()}}, tmp_path / "w.pth"
    )
    torch.save(base.state_dict(), tmp_path / "base.pth")
    for file in (folder / "model.safetensors", tmp_path / "w.pth", tmp_path / "base.pth"):
        network = TransformersModels().load(str(folder), str(file), 0)
        assert network.named.keys() == expected.keys()
        assert all(torch.equal(network.named[key], expected[key]) for key in expected), file


def test_random_weights_are_the_same_each_time(family):
    """Weights that are typed as random come from a seed."""
    _name, folder, _whole = family
    first, second = (TransformersModels().load(str(folder), "random", 0).named for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_swin_has_no_blocks_of_one_width(tmp_path):
    """A layer of a block is refused where a network's blocks differ in width; nothing is computed wrongly."""
    folder = tmp_path / "swin"
    FAMILIES["swin"].save(folder)
    network = TransformersModels().load(str(folder), "pretrained", 0)
    with pytest.raises(UsageError, match="no transformer blocks that are known"):
        LibraryNetwork(network, ["mean@-2"], network.transform, dtype=torch.float32, device="cpu")
