"""python bench/modules.py --runs 3

A grid of 16 MLPs, 768 -> 2048 -> 34, on 50,000 synthetic rows: what training them side by side costs beside the matrix
products of their steps alone, which no trainer of the same arithmetic (float32) can go below.

- heads: featcache.heads.training.train_heads, Adam, clipping, dropout 0.3, the running history; without final scores
- products: the five products of each head and step, X W1', H W2', G W2, G' H and D' X, by torch.mm into memory that is
  there already, and the gather of the batch
- plain: nn.Sequential, torch.optim.Adam, F.cross_entropy and clip_grad_norm_ as one writes them, a head after the other

- clips: an epoch of `--head temporal` (attention over time, Adam) on 260,000 frames of 768 in 6,642 clips, gathered
  before it, as fit-head gathers them

An epoch is a fraction of the rows (`--share`; 1 is all of them, of the frames too), so that three runs of all take two
minutes on two cores; tasks take turns, and the ratios compare neighbours in time. Beside the seconds of the wall stand
those of the processor, in which the ratio is `modules_vs_products_processor`.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from heads import synthetic
from machine import Result, document, table

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.modules.clips import features_by_clip
from featcache.heads.training.samplers import shuffled
from featcache.heads.training.train import train_heads

ROWS, DIM, CLASSES, HIDDEN = 50_000, 768, 34, 2_048
HEADS = 16
BASE = HeadConfig(head="mlp", hidden=str(HIDDEN), dropout=0.3, optimizer="adam", epochs=1)


FRAMES, CLIPS = 260_000, 6_642
OVER_TIME = HeadConfig(head="temporal", optimizer="adam", lr=1e-3, epochs=1)


def clips(share: float) -> Features:
    """Frames in clips of one class each, gathered: one row a clip."""
    number = np.sort(np.random.default_rng(0).integers(0, max(1, round(CLIPS * share)), round(FRAMES * share)))
    frames = synthetic(len(number), seed=0)
    of_clip = np.random.default_rng(1).integers(0, CLASSES, number.max() + 1)
    names = tuple(f"clip {clip}" for clip in number.tolist())
    return features_by_clip(replace(frames, y=of_clip[number], clips=names), OVER_TIME.frames)


def train_over_time(rows: Features) -> None:
    """An epoch of the head over clips; the scores of the saved head are left out."""
    with patch("featcache.heads.training.train.with_final_scores", lambda head, *_: head):
        train_heads(rows, None, [OVER_TIME])


def configs(count: int) -> list[HeadConfig]:
    """As many heads, which differ in their learning rates."""
    return [replace(BASE, lr=1e-3 * 0.8**number) for number in range(count)]


def train(features: Features, count: int) -> None:
    """All heads side by side; the scores of the saved heads, which any way of training needs, are left out."""
    with patch("featcache.heads.training.train.with_final_scores", lambda head, *_: head):
        train_heads(features, None, configs(count))


@torch.inference_mode()
def products(features: Features, count: int) -> None:
    """The gather and the five products of each head's steps."""
    x, size = torch.from_numpy(features.x), BASE.batch_size
    batch, hidden, logits = torch.empty(size, DIM), torch.empty(size, HIDDEN), torch.empty(size, CLASSES)
    weights = [(torch.randn(HIDDEN, DIM), torch.randn(CLASSES, HIDDEN)) for _ in range(count)]
    into = [(torch.empty(HIDDEN, DIM), torch.empty(CLASSES, HIDDEN)) for _ in range(count)]
    for order in shuffled(len(x), BASE.epochs, BASE.seed):
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            part = torch.index_select(x, 0, rows, out=batch[: len(rows)])
            h, z = hidden[: len(rows)], logits[: len(rows)]
            for (first, second), (of_first, of_second) in zip(weights, into, strict=True):
                torch.mm(part, first.t(), out=h)
                torch.mm(h, second.t(), out=z)
                torch.mm(z.t(), h, out=of_second)
                torch.mm(z, second, out=h)
                torch.mm(h.t(), part, out=of_first)


def plain(features: Features, count: int) -> None:
    """One head after the other, as one writes it."""
    x, y = torch.from_numpy(features.x), torch.from_numpy(features.y)
    for config in configs(count):
        head = torch.nn.Sequential(
            torch.nn.Linear(DIM, HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(config.dropout),
            torch.nn.Linear(HIDDEN, CLASSES),
        )  # fmt: skip
        optimizer = torch.optim.Adam(head.parameters(), lr=config.lr)
        for order in shuffled(len(x), config.epochs, config.seed):
            for start in range(0, len(x), config.batch_size):
                rows = order[start : start + config.batch_size]
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(head.parameters(), config.clip_norm or 1.0)
                optimizer.step()


def take_turns(tasks: Mapping[str, Callable[[], object]], runs: int) -> list[Result]:
    """Seconds of the wall and of the processor of every task, `runs` times, taking turns."""
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    processor: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            began = time.perf_counter(), time.process_time()
            task()
            wall[name].append(time.perf_counter() - began[0])
            processor[name].append(time.process_time() - began[1])
    both = [(name, wall[name], processor[name]) for name in tasks]
    return [
        Result.of(label, "s", values)
        for name, of_wall, of_processor in both
        for label, values in ((name, of_wall), (f"{name}, processor", of_processor))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--heads", type=int, default=HEADS)
    parser.add_argument("--share", type=float, default=0.1, help="of the 50,000 rows")
    parser.add_argument("--only", choices=("modules", "clips"), help="one of the two")
    parser.add_argument("--plain", action="store_true", help="measure the plain loop too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    tasks: dict[str, Callable[[], object]] = {}
    if arguments.only != "clips":
        features = synthetic(round(ROWS * arguments.share), seed=0)
        tasks["heads"] = lambda: train(features, arguments.heads)
        tasks["products"] = lambda: products(features, arguments.heads)
        if arguments.plain:
            tasks["plain"] = lambda: plain(features, arguments.heads)
    if arguments.only != "modules":
        rows = clips(arguments.share)
        tasks["clips"] = lambda: train_over_time(rows)
    for task in tasks.values():
        task()  # once before: threads, memory
    results = take_turns(tasks, arguments.runs)
    seconds = {result.name: result.median for result in results}
    ratios = {}
    if "heads" in tasks:
        ratios["modules_vs_products"] = seconds["heads"] / seconds["products"]
        ratios["modules_vs_products_processor"] = seconds["heads, processor"] / seconds["products, processor"]
    if "plain" in tasks:
        ratios["modules_vs_plain"] = seconds["heads"] / seconds["plain"]
    print(document(results, ratios) if arguments.json else table(results, ratios))


if __name__ == "__main__":
    main()
