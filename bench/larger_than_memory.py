"""python bench/larger_than_memory.py --gb 12 --limit-gb 3

The linear head from disk: a synthetic store of --gb, trained in a process that may hold --limit-gb of memory
(RLIMIT_DATA; its largest resident size is measured too), beside the slower of

- disk: the same files, read from front to back in pieces of 8 MB by four readers (one is slower)
- memory: the same training on rows in memory (a part of them: its speed does not depend on how many there are)

Before every pass over the files the system forgets them (posix_fadvise): nothing is read from its cache. A pass is an
epoch, or the final scores.

--loss trains a small store whose windows and pieces are the same share of it, and the same rows in memory, over seeds.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from heads import CLASSES, DIM, synthetic
from machine import Result, document, table

from featcache.features.in_memory import Features, read_features
from featcache.features.streamed import WINDOW_BYTES, open_streamed
from featcache.files import StatLog
from featcache.heads.config import HeadConfig
from featcache.heads.training.train import train_heads
from featcache.listing.listing import Listing
from featcache.store import ExtractedListing, FeatureStore, create_store
from featcache.store.windows import CHUNK_BYTES
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

KEY = ("synthetic", "all", "train")
READ = 8 * 2**20


def build(cache: Path, rows: int) -> Path:
    """A store of synthetic rows, sorted by class as a folder of images is."""
    arch = architecture("vit_b_16")
    spec = TrunkSpec(arch=arch.name, weights_sha256="ab" * 32, transform=arch.transform)
    store = create_store(cache, spec, weights_name="random", stat_log=StatLog(cache))
    some = synthetic(65_536, seed=0)
    some_noise = some.x[np.random.default_rng(1).permutation(len(some.x))]
    share = np.bincount(some.y, minlength=CLASSES) / len(some.y)
    labels = np.sort(np.random.default_rng(2).choice(CLASSES, rows, p=share))
    centres = 0.12 * np.random.default_rng(99).standard_normal((CLASSES, DIM), dtype=np.float32)
    digests = np.random.default_rng(3).integers(0, 256, (rows, 32), dtype=np.uint8)
    with store.writer(shard_seconds=1e9) as writer:
        for number, start in enumerate(range(0, rows, 16_384)):
            y = labels[start : start + 16_384]
            first = number * 911 % (len(some_noise) - 16_384)
            writer.append(digests[start : start + 16_384], some_noise[first : first + len(y)] + centres[y])
        empty = ("",) * rows
        listing = Listing(
            data_set=KEY[0], variant=KEY[1], split=KEY[2], root="/data", classes=some.classes,
            paths=tuple(f"{row}.png" for row in range(rows)), labels=labels.astype(np.int64), clips=empty,
            subjects=empty,
        )  # fmt: skip
        writer.commit(ExtractedListing(listing, digests, empty))
    return store.root


def forget(root: Path) -> None:
    """Let the system drop what it remembers of the shards."""
    for path in (root / "shards").glob("*.h5"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def read_through(root: Path, readers: int) -> float:
    """Seconds to read every shard from front to back."""

    def one(path: Path) -> None:
        buffer = memoryview(bytearray(READ))
        handle, offset = os.open(path, os.O_RDONLY), 0
        while count := os.preadv(handle, [buffer], offset):
            offset += count
        os.close(handle)

    forget(root)
    began = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(one, sorted((root / "shards").glob("*.h5"))))
    return time.perf_counter() - began


def from_disk(root: Path, epochs: int, limit: int) -> dict[str, float]:
    """In the process of its own: train, and say how long it took and how much it held."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    train = open_streamed(FeatureStore.open(root, StatLog(root.parent.parent)), KEY)
    forgetting = 0.0

    def between(*_: int) -> None:
        nonlocal forgetting
        began = time.perf_counter()
        forget(root)
        forgetting += time.perf_counter() - began

    forget(root)
    began = time.perf_counter()
    (head,) = train_heads(train, None, [HeadConfig(epochs=epochs)], progress=between)
    seconds = time.perf_counter() - began - forgetting
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak_gb": peak, "loss": head.train.loss}


def child(root: Path, epochs: int, limit: int) -> dict[str, float]:
    words = [sys.executable, __file__, "--child", str(root), "--epochs", str(epochs), "--limit-gb", str(limit / 2**30)]
    ran = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def speed(folder: Path, gb: float, limit_gb: float, epochs: int, runs: int) -> tuple[list[Result], dict[str, float]]:
    rows, passes, limit = int(gb * 1e9 / (4 * DIM)), epochs + 1, int(limit_gb * 2**30)
    root = next(iter((folder / "cache" / "stores").glob("*")), None) or build(folder / "cache", rows)
    child(root, 1, limit)  # checks every shard against its hash, once in the life of a store
    some = synthetic(min(rows, 400_000), seed=0)
    seconds: dict[str, list[float]] = {"disk": [], "from disk": [], "memory": []}
    peaks = []
    for _ in range(runs):
        seconds["disk"].append(passes * read_through(root, 4))
        found = child(root, epochs, limit)
        seconds["from disk"].append(found["seconds"])
        peaks.append(found["peak_gb"])
        began = time.perf_counter()
        train_heads(some, None, [HeadConfig(epochs=epochs)])
        seconds["memory"].append((time.perf_counter() - began) * rows / len(some.y))
    taken = {name: Result.of(name, "s", values) for name, values in seconds.items()}
    results = [
        Result.of("rows", "million", [rows / 1e6]),
        Result.of("passes over them", "", [passes]),
        *taken.values(),
        Result.of("from disk: largest resident size", "GB", peaks),
    ]
    slower = max(taken["disk"].median, taken["memory"].median)
    return results, {"slower_vs_from_disk": slower / taken["from disk"].median}


def loss(folder: Path, gb: float, rows: int, epochs: int, seeds: int) -> tuple[list[Result], dict[str, float]]:
    """The final loss over seeds, from disk with windows of the same share of the store, and in memory."""
    root = build(folder / "small", rows)
    store = FeatureStore.open(root, StatLog(root.parent.parent))
    features: Features = read_features(store, KEY)
    share = rows * DIM * 4 / (gb * 1e9)
    streamed = open_streamed(
        store, KEY, window_bytes=int(share * WINDOW_BYTES), piece_bytes=max(4 * DIM, int(share * CHUNK_BYTES))
    )
    found: dict[str, list[float]] = {"memory": [], "disk": []}
    for seed in range(seeds):
        config = HeadConfig(epochs=epochs, seed=seed, batch_size=256)
        found["memory"].append(train_heads(features, None, [config])[0].train.loss)
        found["disk"].append(train_heads(streamed, None, [config])[0].train.loss)
    results = [Result.of(f"loss, {name}", "nats", values) for name, values in found.items()]
    spread = float(np.ptp(found["memory"]))
    return results, {
        "loss_difference": float(np.mean(found["disk"]) - np.mean(found["memory"])),
        "loss_spread_over_seeds": spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The linear head from disk.")
    parser.add_argument("--gb", type=float, default=12, help="of the store")
    parser.add_argument("--limit-gb", type=float, default=3, help="of the process that trains")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn")
    parser.add_argument("--dir", type=Path, help="where the store is built and stays; a temporary folder without")
    parser.add_argument("--loss", action="store_true", help="compare the loss on a small store instead")
    parser.add_argument("--rows", type=int, default=130_000, help="of the small store")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(from_disk(args.child, args.epochs, int(args.limit_gb * 2**30))))
        return
    with contextlib.nullcontext(args.dir) if args.dir else tempfile.TemporaryDirectory() as folder:
        if args.loss:
            results, ratios = loss(Path(folder), args.gb, args.rows, args.epochs, args.seeds)
        else:
            results, ratios = speed(Path(folder), args.gb, args.limit_gb, args.epochs, args.runs)
    print(document(results, ratios) if args.json else table(results, ratios))


if __name__ == "__main__":
    main()
