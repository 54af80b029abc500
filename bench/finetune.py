"""python bench/finetune.py --arch mobilenet_v3_small --images 128 --batch-size 16 --runs 9 --threads 1

Training steps of `featcache finetune` beside a plain PyTorch loop of the same network, on the same images in memory:
images a second of whole epochs, forward, backward, clipping and AdamW included, scores on val left out in both.

- finetune: featcache's training as Lightning runs it, batches, running scores and schedule included
- plain: the library's own module and a linear layer in a plain loop, with the batches that a person cuts from a tensor
- plain, channels last: the same with the memory layout that featcache gives convolutional networks

All start from the same random weights, get the same batches and have the same threads. They take turns, each round in
another order; a ratio is the median over the rounds, by the clock and by processor time (which other work on the
machine disturbs less). `files_in_epoch_2` counts the image files that are opened once the first epoch is done.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from machine import Result, document, table
from PIL import Image
from torch.nn import functional

from featcache.finetuning.images import SplitImages, load_images
from featcache.finetuning.interruption import Interruption
from featcache.finetuning.network import TrainableNetwork
from featcache.finetuning.plan import FinetunePlan
from featcache.finetuning.running import run_training
from featcache.finetuning.schedule import Schedule
from featcache.finetuning.training import Training
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


def plain(network: TrainableNetwork, images: SplitImages, config: HeadConfig, layout: torch.memory_format) -> None:
    """One epoch of a plain loop: the same module, head, batches and update."""
    trunk, head, reader = network.trunk.train(), network.head, network.reader
    assert images.pixels is not None
    mean, std, y = network.mean, network.std, images.labels
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    for rows in Schedule(config, len(images)).order(0):
        pixels = images.pixels[rows].float().div_(255).sub_(mean).div_(std).contiguous(memory_format=layout)
        optimizer.zero_grad()
        functional.cross_entropy(head(reader(pixels)[0].flatten(1)), y[rows]).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm or 1.0)
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="mobilenet_v3_small")
    parser.add_argument("--layer", default="auto")
    parser.add_argument("--transform", default="resize=96,crop=96,mean=0.5,std=0.25")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_images(Path(folder) / "images", arguments.images)
        named: dict[str, Any] = {"arch": arguments.arch, "layer": arguments.layer, "transform": arguments.transform}
        section = TrunkSection.model_validate({**named, "weights": "random"})
        source = name_trunk(section, WeightsMemo(Path(folder), is_read_only=True))
        images = load_images(resolve_source(recipe).listing("train"), source.transform, lambda *_: None)
        config = HeadConfig(
            optimizer="adamw", lr=1e-4, weight_decay=0.05, batch_size=arguments.batch_size, epochs=1, clip_norm=1.0
        )
        networks = [prepare(name_trunk(section, source.memo), images) for _ in range(3)]
        networks[1].trunk.to(memory_format=torch.contiguous_format)
        tasks: dict[str, Callable[[], object]] = {
            "finetune": lambda: ours(networks[0], images, config),
            "plain": lambda: plain(networks[1], images, config, torch.contiguous_format),
            "plain, channels last": lambda: plain(networks[2], images, config, torch.channels_last),
        }
        for task in tasks.values():
            task()  # once before: threads, memory, kernels
        opened = count_opened(tasks["finetune"])
        taken = take_turns(tasks, arguments.runs)
    results = [rate(name, arguments.images, [wall for wall, _ in times]) for name, times in taken.items()]
    ratios = {
        f"finetune_vs_{name.replace(', ', '_').replace(' ', '_')}{suffix}": ratio(taken[name], taken["finetune"], clock)
        for name in list(tasks)[1:]
        for clock, suffix in enumerate(("", "_processor"))
    }
    ratios["files_in_epoch_2"] = float(opened)
    print(document(results, ratios) if arguments.json else table(results, ratios))


def take_turns(tasks: dict[str, Callable[[], object]], runs: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds by the clock and of the processor that each task took in each round; the first changes with the round."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for number in range(runs):
        first = number % len(tasks)
        for name in [*list(tasks)[first:], *list(tasks)[:first]]:
            wall, processor = time.perf_counter(), time.process_time()
            tasks[name]()
            taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
            print(f"{name}: {taken[name][-1][0]:.2f} s, {taken[name][-1][1]:.2f} s of processors", file=sys.stderr)
    return taken


def ratio(theirs: list[tuple[float, float]], own: list[tuple[float, float]], clock: int) -> float:
    """How many times as fast ours is: the median over the rounds."""
    return statistics.median(their[clock] / our[clock] for their, our in zip(theirs, own, strict=True))


def count_opened(task: Callable[[], object]) -> int:
    """How many reads of image files a task asks the loader for."""
    reads = []
    with patch("featcache.finetuning.images.read_images", lambda files, *_, **__: reads.append(files)):
        task()
    return len(reads)


def rate(name: str, images: int, seconds: list[float]) -> Result:
    """Images a second, of seconds an epoch."""
    return Result.of(name, "images/s", [images / taken for taken in seconds])


if __name__ == "__main__":
    main()
