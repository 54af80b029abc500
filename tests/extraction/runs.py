"""What tests of extracts share: how many rows became what, images like no other, and what plain torchvision says."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import featcache
from featcache import Summary
from tests.conftest import Nano


def counts(found: Summary) -> tuple[int, int, int]:
    assert found.rows == found.embedded + found.reused + found.failed
    return found.embedded, found.reused, found.failed


def draw(path: Path, seed: int) -> Path:
    """An image that no other is like."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def torchvision_embeddings(weights: Path, files: list[Path]) -> np.ndarray:
    """Plain torchvision: its network, its transform, one image at a time."""
    from torchvision.models import VisionTransformer
    from torchvision.transforms._presets import ImageClassification

    network = VisionTransformer(64, 16, 2, 2, 64, 128)
    network.heads = torch.nn.Identity()
    network.load_state_dict(torch.load(weights, weights_only=True))
    transform = ImageClassification(crop_size=64, resize_size=72)
    with torch.inference_mode():
        pictures = [transform(Image.open(file).convert("RGB"))[None] for file in files]
        return torch.cat([network.eval()(picture) for picture in pictures]).numpy()


def spoil(root: Path, number: int) -> None:
    for name in range(number):
        (root / "train" / "1" / f"bad {name}.png").write_bytes(b"<html>404</html>")


def scaled(nano: Nano, factor: float, path: Path) -> Path:
    """The same trunk with every embedding multiplied."""
    state = torch.load(nano.weights, weights_only=True)
    for name in ("encoder.ln.weight", "encoder.ln.bias"):
        state[name] = state[name] * factor
    torch.save(state, path)
    return path


def held(root: Path, cache: Path) -> int:
    """How many rows the stores of a cache hold of a data set."""
    return sum(store["rows"] for store in featcache.info(data=str(root), cache=cache)["stores"])


# A program that extracts layers, and views where a number of them is given, and is killed behind a commit of a log.
KILLED = """
import os, signal, sys
import featcache
from featcache.store.commits import CommitLog
data, cache, arch, weights, left, name, layers, *views = sys.argv[1:]
left, plain = int(left), getattr(CommitLog, name)
def commit(*arguments):
    global left
    plain(*arguments)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
setattr(CommitLog, name, commit)
settings = featcache.Settings(device="cpu", workers=1, batch_size=4, shard_rows=5)
featcache.extract(
    "train", data=data, cache=cache, arch=arch, weights=weights, precision="fp32", layer=layers.split(","),
    views=int(views[0]) if views else 0, settings=settings,
)
"""
