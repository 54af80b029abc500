"""python bench/modules.py --runs 3

A grid of 16 MLPs, 768 -> 2048 -> 34, on 50,000 synthetic rows: what training them side by side costs beside the matrix
products of their steps alone, which no trainer of the same arithmetic (float32) can go below.

- heads: featcache.heads.training.train_heads, Adam, clipping, dropout 0.3, the running history; without final scores
- products: the five products of each head and step, X W1', H W2', G W2, G' H and D' X, by torch.mm into memory that is
  there already, and the gather of the batch
- plain: nn.Sequential, torch.optim.Adam, F.cross_entropy and clip_grad_norm_ as one writes them, a head after the other

An epoch is a fraction of the rows (`--share`), so that three runs of all take two minutes on two cores; tasks take
turns, and the ratios compare neighbours in time.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import torch
from heads import synthetic
from machine import alternate, document, table

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.training.samplers import shuffled
from featcache.heads.training.train import train_heads

ROWS, DIM, CLASSES, HIDDEN = 50_000, 768, 34, 2_048
HEADS = 16
BASE = HeadConfig(head="mlp", hidden=str(HIDDEN), dropout=0.3, optimizer="adam", epochs=1)


def configs(count: int) -> list[HeadConfig]:
    """As many heads, which differ in their learning rates."""
    return [replace(BASE, lr=1e-3 * 0.8**number) for number in range(count)]


def train(features: Features, count: int) -> None:
    """All heads side by side; the scores of the saved heads, which any way of training needs, are left out."""
    with patch("featcache.heads.training.train._with_final_scores", lambda head, *_: head):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--heads", type=int, default=HEADS)
    parser.add_argument("--share", type=float, default=0.1, help="of the 50,000 rows")
    parser.add_argument("--plain", action="store_true", help="measure the plain loop too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    features = synthetic(round(ROWS * arguments.share), seed=0)
    tasks: dict[str, Callable[[], object]] = {
        f"{arguments.heads} heads": lambda: train(features, arguments.heads),
        "products": lambda: products(features, arguments.heads),
    }
    if arguments.plain:
        tasks["plain"] = lambda: plain(features, arguments.heads)
    for task in tasks.values():
        task()  # once before: threads, memory
    results = alternate(tasks, arguments.runs)
    seconds = {result.name: result.median for result in results}
    heads = seconds[f"{arguments.heads} heads"]
    ratios = {"modules_vs_products": heads / seconds["products"]}
    if arguments.plain:
        ratios["modules_vs_plain"] = heads / seconds["plain"]
    print(document(results, ratios) if arguments.json else table(results, ratios))


if __name__ == "__main__":
    main()
