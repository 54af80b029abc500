"""python bench/finetune.py --arch mobilenet_v3_small --images 128 --batch-size 16 --runs 5

Training steps of `featcache finetune` beside a plain PyTorch loop of the same network, on the same images in memory:
images a second of whole epochs, forward, backward, clipping and AdamW included, scores on val left out in both.

- finetune: featcache's training as Lightning runs it, batches, running scores and schedule included
- plain: the library's own module and a linear layer in a plain loop, with the batches that a person cuts from a tensor

Both start from the same random weights and take turns; the ratio compares neighbours in time. `files_in_epoch_2`
counts the image files that are opened once the first epoch is done.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from machine import Result, alternate, document, table
from PIL import Image
from torch.nn import functional

from featcache.finetuning.images import SplitImages, load_images
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.network import TrainableNetwork
from featcache.finetuning.running import run_training
from featcache.finetuning.schedule import Schedule
from featcache.finetuning.training import FinetunePlan, Training
from featcache.heads.config import HeadConfig
from featcache.listing.sources import resolve_source
from featcache.recipe import Recipe, TrunkSection
from featcache.trunks import TrunkSource, WeightsMemo, name_trunk
from featcache.trunks.libraries import load_network

CLASSES = 4


def write_images(folder: Path, count: int) -> Recipe:
    """As many JPEG files of noise, in four classes of one split."""
    drawing = np.random.default_rng(0)
    for number in range(count):
        place = folder / "train" / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        noise = drawing.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((256, 256)).save(place / f"{number:05d}.jpg")
    return Recipe.model_validate({"name": "noise", "data": {"layout": "folder", "root": str(folder)}})


def prepare(source: TrunkSource, images: SplitImages) -> TrainableNetwork:
    """The network with a head, all of it learning."""
    (layer,) = source.layers
    return TrainableNetwork(load_network(source), layer, source.layer_width(layer), CLASSES, images.transform)


def ours(network: TrainableNetwork, images: SplitImages, config: HeadConfig) -> None:
    """One epoch of featcache's own training."""
    plan = FinetunePlan(config=config, schedule=Schedule(config, len(images)), train=images, val=None, select="loss")
    run_training(Training(network, plan), device="cpu", mixed="none", interruption=Interruption(), accumulate=1)


def plain(network: TrainableNetwork, images: SplitImages, config: HeadConfig) -> None:
    """One epoch of a plain loop: the same module, head and update."""
    trunk, head, reader = network.trunk.train(), network.head, network.reader
    assert images.pixels is not None
    mean, std, y = network.mean, network.std, images.labels
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    for rows in torch.split(torch.randperm(len(images)), config.batch_size):
        pixels = images.pixels[rows].float().div_(255).sub_(mean).div_(std)
        optimizer.zero_grad()
        functional.cross_entropy(head(reader(pixels)[0].flatten(1)), y[rows]).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm or 1.0)
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="mobilenet_v3_small")
    parser.add_argument("--layer", default="auto")
    parser.add_argument("--transform", default="")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_images(Path(folder) / "images", arguments.images)
        named: dict[str, Any] = {"arch": arguments.arch, "layer": arguments.layer, "transform": arguments.transform}
        section = TrunkSection.model_validate({**named, "weights": "random"})
        source = name_trunk(section, WeightsMemo(Path(folder), is_read_only=True))
        images = load_images(resolve_source(recipe).listing("train"), source.transform, lambda *_: None)
        config = HeadConfig(
            optimizer="adamw", lr=1e-4, weight_decay=0.05, batch_size=arguments.batch_size, epochs=1, clip_norm=1.0
        )
        network, same = prepare(source, images), prepare(name_trunk(section, source.memo), images)
        tasks: dict[str, Callable[[], object]] = {
            "finetune": lambda: ours(network, images, config),
            "plain": lambda: plain(same, images, config),
        }
        for task in tasks.values():
            task()  # once before: threads, memory, kernels
        opened = count_opened(tasks["finetune"])
        seconds = alternate(tasks, arguments.runs)
    results = [rate(result, arguments.images) for result in seconds]
    taken = {result.name: result.median for result in seconds}
    ratios = {"finetune_vs_plain": taken["plain"] / taken["finetune"], "files_in_epoch_2": float(opened)}
    print(document(results, ratios) if arguments.json else table(results, ratios))


def count_opened(task: Callable[[], object]) -> int:
    """How many reads of image files a task asks the loader for."""
    reads = []
    with patch("featcache.finetuning.images.read_images", lambda files, *_, **__: reads.append(files)):
        task()
    return len(reads)


def rate(result: Result, images: int) -> Result:
    """Images a second, of seconds an epoch."""
    return Result(
        result.name, "images/s", images / result.median, images / result.max, images / result.min, result.runs
    )


if __name__ == "__main__":
    main()
