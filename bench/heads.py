"""python bench/heads.py --runs 1

Measured on 2026-11-28 (AMD EPYC, AVX2, 2 cores, torch 2.14.0), twenty epochs, three runs, median seconds: ceiling 5.5,
recipe 6.5, plain 14.1, dataloader 43.5. docs/benchmarks.md has the rest.

Stage two on synthetic features of Drive&Act's size: 259,865 x 768 float32, 34 classes, 30 % of rows in one.

- recipe: featcache.heads.training.train_heads, its running history and the final scores included; sweep8: eight at once
- plain, dataloader: nn.Linear, torch.optim.SGD, clip_grad_norm_ and CosineAnnealingLR, without history; one
  indexes x[rows], the other has a TensorDataset and a DataLoader
- ceiling: gather and two matrix products as the recipe's, alone, by BLAS; plain ceiling: as one writes them with torch
- own products: the same by the recipe's products, whose sums depend on nothing beside them: what exactness costs
- in bf16: one head and eight whose products are in bfloat16, where the CPU has instructions for them
- short: a training of 400 rows, and the same by torch's operations, as a GPU trains
- on a GPU besides: rows to the device, what is left of the recipe without it, sixteen heads in one pass, and the
  certificate (the check of the recipe's head)
- command: what `featcache fit-head` takes from the shell beside the training itself: start-up, reading, the files
- lbfgs: scikit-learn for so many iterations, then ours until its gradient is as small
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from blas import NO_TRANSPOSE, SGEMM, TRANSPOSE, sgemm
from machine import Result, alternate, document, table
from near import CHUNK, make
from sklearn.linear_model import LogisticRegression, SGDClassifier
from torch.utils.data import DataLoader, TensorDataset

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from featcache.heads.linear import LinearHead
from featcache.heads.optimum.check import check_head
from featcache.heads.optimum.lbfgs import Point, minimise
from featcache.heads.optimum.objective import Objective
from featcache.heads.training.batches import make_row_source
from featcache.heads.training.cuda_graph import EpochReplay, find_recorder
from featcache.heads.training.kernels.intrinsics import compiled, f32
from featcache.heads.training.kernels.products import multiply_gradient, multiply_logits
from featcache.heads.training.kernels.steps import Floats, Longs, gather, share_of_rows
from featcache.heads.training.kernels.thread_team import ThreadTeam
from featcache.heads.training.kernels.tiles import LINE
from featcache.heads.training.kernels.vectors import HAS_BFLOAT16
from featcache.heads.training.numba_stack import aligned_zeros
from featcache.heads.training.samplers import shuffled
from featcache.heads.training.stack import padded_width
from featcache.heads.training.threads import one_thread
from featcache.heads.training.torch_stack import TorchStack
from featcache.heads.training.train import train_heads
from featcache.trunks.hardware import choose_device

ROWS, VAL_ROWS, DIM, CLASSES = 259_865, 56_024, 768, 34
SHORT_ROWS = 400
SWEEP = (0.001, 0.003, 0.006, 0.01, 0.02, 0.03, 0.06, 0.1)


def synthetic(rows: int, seed: int) -> Features:
    """Gaussian clusters around 34 centres, 30 % of the rows in the first."""
    rng = np.random.default_rng(seed)
    share = np.full(CLASSES, 0.7 / (CLASSES - 1))
    share[0] = 0.3
    y = rng.choice(CLASSES, rows, p=share)
    x = rng.standard_normal((rows, DIM), dtype=np.float32)
    centres = 0.12 * np.random.default_rng(99).standard_normal((CLASSES, DIM), dtype=np.float32)
    for start in range(0, rows, 16_384):
        x[start : start + 16_384] += centres[y[start : start + 16_384]]
    none = ("",) * rows
    return Features(x, y, tuple(f"class {i}" for i in range(CLASSES)), none, none, none)


def usual_parts(
    config: HeadConfig, rows: int, device: torch.device | str
) -> tuple[torch.nn.Linear, Callable[[torch.Tensor, torch.Tensor], None]]:
    """What both reference loops share: the layer and its step."""
    layer = torch.nn.Linear(DIM, CLASSES, device=device)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=config.lr, momentum=config.momentum)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.steps(rows))

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(x), y).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(layer.parameters(), config.clip_norm or math.inf)
        optimizer.step()
        scheduler.step()

    return layer, step


def dataloader(x: torch.Tensor, y: torch.Tensor, config: HeadConfig, device: str) -> None:
    _, step = usual_parts(config, len(y), device)
    loader = DataLoader(TensorDataset(x, y), batch_size=config.batch_size, shuffle=True)
    for _ in range(config.epochs):
        for batch, labels in loader:
            step(batch.to(device), labels.to(device))


def plain(x: torch.Tensor, y: torch.Tensor, config: HeadConfig) -> None:
    _, step = usual_parts(config, len(y), y.device)
    for order in orders_on(x, config):
        for start in range(0, len(y), config.batch_size):
            rows = order[start : start + config.batch_size]
            step(x[rows], y[rows])


def orders_on(x: torch.Tensor, config: HeadConfig) -> Iterator[torch.Tensor]:
    return (order.to(x.device) for order in shuffled(len(x), config.epochs, config.seed))


@torch.inference_mode()
def ceiling(x: torch.Tensor, config: HeadConfig, heads: int = 1) -> None:
    """The gather and the two products of every step, by BLAS, and nothing else."""
    if x.device.type == "cpu":
        ceiling_of_loops(x, config, heads)
        return
    size, wide = config.batch_size, heads * CLASSES
    batch = torch.zeros(size, padded_width(DIM), device=x.device)
    weight, gradient = torch.zeros(wide, batch.shape[1], device=x.device), torch.empty_like(batch[:1].expand(wide, -1))
    logits = torch.empty(wide * size, device=x.device)
    drawn = torch.empty(len(x), dtype=torch.int64, device=x.device)

    def epoch(order: torch.Tensor) -> None:
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            torch.index_select(x, 0, rows, out=batch[: len(rows), :DIM])
            z = torch.mm(weight, batch[: len(rows)].t(), out=logits[: wide * len(rows)].view(wide, -1))
            torch.mm(z, batch[: len(rows)], out=gradient)

    by_graph = EpochReplay(epoch, find_recorder(x.device))  # as the recipe is: else its launches would be the ceiling
    for order in shuffled(len(x), config.epochs, config.seed):
        by_graph(drawn.copy_(order))


@compiled
def gather_and_multiply(
    address: int, x: Floats, rows: Longs, size: int, member: int, batch: Floats, w: Floats, z: Floats, part: Floats
) -> None:
    """A member's slices of all batches."""
    members, (width, wide) = len(batch), w.shape
    for start in range(0, len(rows), size):
        drawn = rows[start : start + size]
        mine = drawn[member * len(drawn) // members : (member + 1) * len(drawn) // members]
        gather(x, mine, batch[member])
        sgemm(address, NO_TRANSPOSE, wide, len(mine), width, f32(1), w, batch[member], f32(0), z)
        sgemm(address, TRANSPOSE, wide, width, len(mine), f32(1), z, batch[member], f32(0), part)


def ceiling_of_loops(x: torch.Tensor, config: HeadConfig, heads: int) -> None:
    """Each core its slices of all batches, from the first to the last without a word to the others."""
    members, width, wide = torch.get_num_threads(), padded_width(DIM), heads * CLASSES
    most = -(-config.batch_size // members)
    batch, z = np.zeros((members, most, width), f32), np.zeros((members, most, wide), f32)
    w, part = np.zeros((width, wide), f32), np.zeros((members, width, wide), f32)

    def share(rows: Longs, member: int) -> None:
        gather_and_multiply(SGEMM, x.numpy(), rows, config.batch_size, member, batch, w, z[member], part[member])

    with ThreadTeam(members) as team:
        for order in shuffled(len(x), config.epochs, config.seed):
            team.run(partial(share, order.numpy()))


@compiled
def gather_and_multiply_exactly(
    x: Floats, rows: Longs, size: int, member: int, members: int, batch: Floats, w: Floats, z: Floats, d: Floats
) -> None:
    """A member's share of all batches, as `train_steps` takes it."""
    lines = w.shape[1] // LINE
    for start in range(0, len(rows), size):
        drawn = rows[start : start + size]
        first, last = share_of_rows(len(drawn), member, members)
        gather(x, drawn[first:last], batch[first:last])
        multiply_logits(w, batch, first, last, f32(1), z)
        low, high = member * lines // members * LINE, (member + 1) * lines // members * LINE
        multiply_gradient(z, batch, len(drawn), f32(1), low, high, d)


def own_products(x: torch.Tensor, config: HeadConfig, heads: int = 1) -> None:
    """The gather and the two products by the recipe's own calls, without a word between the members."""
    members, width, wide = torch.get_num_threads(), padded_width(DIM), heads * CLASSES
    batch, z = aligned_zeros(config.batch_size, width), aligned_zeros(wide, config.batch_size)
    w, d = aligned_zeros(wide, width), aligned_zeros(wide, width)

    def share(rows: Longs, member: int) -> None:
        gather_and_multiply_exactly(x.numpy(), rows, config.batch_size, member, members, batch, w, z, d)

    with ThreadTeam(members) as team:
        for order in shuffled(len(x), config.epochs, config.seed):
            team.run(partial(share, order.numpy()))


@torch.inference_mode()
def plain_ceiling(x: torch.Tensor, config: HeadConfig) -> None:
    """Gather and products as one writes them with torch, on all its threads."""
    size = config.batch_size
    weight, gradient = (torch.zeros(CLASSES, DIM, device=x.device) for _ in range(2))
    logits, buffer = torch.empty(size, CLASSES, device=x.device), torch.empty(size, DIM, device=x.device)
    for order in orders_on(x, config):
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            batch = torch.index_select(x, 0, rows, out=buffer[: len(rows)])
            z = torch.mm(batch, weight.t(), out=logits[: len(rows)])
            torch.mm(z.t(), batch, out=gradient)


def by_torchs_operations(train: Features, config: HeadConfig) -> None:
    """A training on the CPU by the operations that a GPU takes; two threads would wait for each other."""
    by_torch = patch("featcache.heads.training.train.choose_stack", lambda *_, **__: TorchStack)
    with by_torch, one_thread(where=True):
        train_heads(train, None, [config])


def sgd_classifier(train: Features, config: HeadConfig) -> None:
    """scikit-learn's, one row a step, for the same epochs, on as many jobs as there are cores."""
    SGDClassifier(
        loss="log_loss", alpha=1e-6, max_iter=config.epochs, tol=None, learning_rate="constant", eta0=1e-4, n_jobs=-1
    ).fit(train.x, train.y)


def main() -> None:
    parser = argparse.ArgumentParser(description="Stage two beside the usual loops and beside its ceiling.")
    parser.add_argument("--epochs", type=int, default=90, help="epochs per run; 90 is the full recipe")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of everything")
    parser.add_argument("--without", action="append", default=[], help="leave a task out, by its name")
    parser.add_argument("--lbfgs", type=int, default=100, help="iterations of scikit-learn's lbfgs; 0 leaves it out")
    parser.add_argument("--no-command", action="store_true", help="leave out the command from the shell")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    args = parser.parse_args()

    config = HeadConfig(epochs=args.epochs)
    sweep = [HeadConfig(lr=lr, epochs=args.epochs) for lr in SWEEP]
    train, val = synthetic(ROWS, seed=0), synthetic(VAL_ROWS, seed=1)
    device = choose_device(args.device)
    on_host = torch.from_numpy(train.x), torch.from_numpy(train.y)
    x, y = (tensor.to(device) for tensor in on_host)
    ours = partial(train_heads, device=device)

    tasks: dict[str, Callable[[], object]] = {
        "ceiling": lambda: ceiling(x, config),
        "recipe": lambda: ours(train, None, [config]),
        "plain ceiling": lambda: plain_ceiling(x, config),
        "plain": lambda: plain(x, y, config),
        "sweep8": lambda: ours(train, None, sweep),
        "ceiling of eight": lambda: ceiling(x, config, len(SWEEP)),
        "recipe with val": lambda: ours(train, val, [config]),
        "dataloader": lambda: dataloader(*on_host, config, device),
        "SGDClassifier": lambda: sgd_classifier(train, config),
    }
    if device == "cpu":
        few, short = synthetic(SHORT_ROWS, seed=0), HeadConfig(lr=0.03, batch_size=64)
        tasks |= {
            "own products": lambda: own_products(x, config),
            "own products of eight": lambda: own_products(x, config, len(SWEEP)),
            "short": lambda: ours(few, None, [short]),
            "short, by torch": lambda: by_torchs_operations(few, short),
        }
    if device == "cpu" and HAS_BFLOAT16:
        rounded = replace(config, matmul_precision="bf16")
        ours(synthetic(SHORT_ROWS, seed=0), None, [replace(rounded, epochs=1)])  # its loops are compiled before
        tasks |= {
            "recipe in bf16": lambda: ours(train, None, [rounded]),
            "sweep8 in bf16": lambda: ours(train, None, [replace(rounded, lr=lr) for lr in SWEEP]),
        }
    if device.startswith("cuda"):
        (head,) = ours(train, None, [config])
        assert isinstance(head, LinearHead)
        sixteen = [*sweep, *(replace(one, weight_decay=1e-4) for one in sweep)]
        tasks |= {
            "rows to the device": lambda: make_row_source(train, device),
            "sweep16": lambda: ours(train, None, sixteen),
            "certificate": lambda: certificate(head, train, device),
        }
    for name in args.without:
        tasks.pop(name)
    tasks = {name: partial(synchronous, task, device) for name, task in tasks.items()}
    warm_up = HeadConfig(epochs=8)  # on a GPU the second one is the first graph; enough for the loops of a CPU
    ours(train, None, [warm_up])
    synchronous(lambda: ceiling(x, warm_up), device)
    timed = {result.name: result for result in alternate(tasks, args.runs)}
    one = timed["recipe"].median
    over = {
        "recipe_vs_ceiling": ("recipe", "ceiling"),
        "recipe_vs_dataloader": ("dataloader", "recipe"),
        "recipe_vs_plain": ("plain", "recipe"),
        "recipe_vs_sgdclassifier": ("SGDClassifier", "recipe"),
        "sweep8_vs_one": ("sweep8", "recipe"),
        "sweep8_bf16_vs_one": ("sweep8 in bf16", "recipe"),
        "sweep8_bf16_vs_one_bf16": ("sweep8 in bf16", "recipe in bf16"),
        "sweep8_vs_ceiling": ("sweep8", "ceiling of eight"),
        "exact_vs_blas": ("own products", "ceiling"),
        "exact8_vs_blas": ("own products of eight", "ceiling of eight"),
        "short_vs_torch": ("short", "short, by torch"),
    }
    ratios = {
        name: timed[above].median / timed[below].median
        for name, (above, below) in over.items()
        if above in timed and below in timed
    }
    steps = Result.of("steps of a run", "steps", [config.steps(ROWS)])
    per_step = Result.of("recipe, a step", "us", [1e6 * one / config.steps(ROWS)])
    results = [steps, *timed.values(), per_step]
    if "rows to the device" in timed:
        results.append(Result.of("recipe, rows on the device", "s", [one - timed["rows to the device"].median]))
    if not args.no_command:
        results.append(command(args.runs))
    if args.lbfgs:
        found, ratio = lbfgs(like_embeddings(train), args.lbfgs, device)
        results += found
        ratios["lbfgs_vs_sklearn"] = ratio
    print(document(results, ratios) if args.json else table(results, ratios))


def synchronous(task: Callable[[], object], device: str) -> None:
    """The task, and what it left to the GPU to do."""
    task()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def certificate(head: LinearHead, train: Features, device: str) -> None:
    print(check_head(head, train, None, device=device).sentence(), file=sys.stderr)


def command(runs: int) -> Result:
    """Seconds of `featcache fit-head` from the shell, those of its training taken off, on a cache of this size."""
    with tempfile.TemporaryDirectory(prefix="featcache-bench-") as folder:
        root = Path(folder)
        recipe, _ = make(root, ROWS // CHUNK * CHUNK, VAL_ROWS // CHUNK * CHUNK, CLASSES)
        words = ["fit-head", "-p", str(recipe), "--cache", str(root / "cache"), "--epochs", "1", "--no-check", "--json"]
        beside = []
        for _ in range(1 + runs):  # the first one hashes the shards
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", "featcache", *words], check=True, capture_output=True)
            beside.append(time.perf_counter() - began - json.loads(done.stdout)["seconds"])
        print(f"the first fit-head of a cache, beside its training: {beside[0]:.2f} s", file=sys.stderr)
        return Result.of("command, beside its training", "s", beside[1:])


def like_embeddings(train: Features) -> Features:
    """The same classes in rows as a trunk makes them: variances that fall like 1 / k, and a mean away from 0."""
    scale = 5 / np.sqrt(np.arange(1, DIM + 1, dtype=np.float32))
    return replace(train, x=(train.x * scale + np.float32(0.5)).astype(np.float32))


def lbfgs(train: Features, iterations: int, device: str) -> tuple[list[Result], float]:
    """scikit-learn for so many iterations; then ours, until its gradient is as small as theirs was."""
    decay = 1e-4
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is meant
        theirs = LogisticRegression(C=1 / (decay * len(train.y)), tol=1e-12, max_iter=iterations).fit(train.x, train.y)
    taken = time.perf_counter() - began
    began = time.perf_counter()
    objective = Objective(HeadConfig(weight_decay=decay), train, device)
    made = time.perf_counter() - began
    weight, bias = theirs.coef_.astype(np.float64), theirs.intercept_.astype(np.float64)
    aim = objective.regression.evaluate(weight, bias + weight @ objective.mean)
    began = time.perf_counter()
    start = objective.regression.evaluate(np.zeros_like(weight), np.zeros(CLASSES))
    point, steps = minimise(
        objective.regression, start, is_done=lambda now: norm_of(now) <= norm_of(aim), deadline=began + 600
    )
    ours = made + time.perf_counter() - began
    results = [
        Result.of("lbfgs, scikit-learn", "s", [taken]),
        Result.of("lbfgs, ours", "s", [ours]),
        Result.of("iterations, scikit-learn", "", [int(theirs.n_iter_[0])]),
        Result.of("iterations, ours", "", [steps]),
        Result.of("gradient norm, scikit-learn", "", [norm_of(aim)]),
        Result.of("gradient norm, ours", "", [norm_of(point)]),
        Result.of("objective, scikit-learn", "nats", [aim.value]),
        Result.of("objective, ours", "nats", [point.value]),
    ]
    return results, taken / ours


def norm_of(point: Point) -> float:
    return float(np.hypot(np.linalg.norm(point.d_weight), np.linalg.norm(point.d_bias)))


if __name__ == "__main__":
    main()
