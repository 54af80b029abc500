"""python bench/near.py

Four minutes on two cores of an AMD EPYC (2026-11-25): 204 s, start included, peak 435 MB, all 1,000 planted images
found, and a part as by brute force; 1.20 times the products alone.

`featcache data --near 0.98` as it is typed, on a cache that is made for it: two splits of Drive&Act's size, 260,000 and
90,000 different embeddings of 768 numbers, of which PLANTED of the second all but equal one of the first. Held against
brute force in float64 on a part, pair by pair; and, in speed, against the matrix products of the same blocks alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import Result, document, table

from featcache.dataset.nearest_rows import HELD, PASSING, find_nearest_rows
from featcache.files import StatLog
from featcache.listing.sources import resolve_source
from featcache.recipe import read_recipe
from featcache.store import ExtractedListing, create_store
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

DIM, COSINE, PLANTED, CHUNK = 768, 0.98, 1_000, 100
BLOCK = 10_000  # rows of a shard
PART = (20_000, 10_000)  # rows that brute force compares
HEADER = "participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id\n"


def rows_of(split: str, first: int, count: int) -> np.ndarray:
    """The same (count, DIM) float32 whenever they are asked for; a row's neighbours do not change it."""
    seed = {"train": 1, "val": 2}[split]
    return np.random.default_rng((seed, first)).standard_normal((count, DIM), dtype=np.float32)


def make(root: Path, train: int, val: int, classes: int = 1) -> tuple[Path, dict[str, np.ndarray]]:
    """The annotations, a recipe and a cache that holds both splits; their embeddings too."""
    folder = root / "iccv_activities_3s/activities_3s/view"
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        lines = [
            f"1,{split},{at},{at * CHUNK},{at * CHUNK + CHUNK - 1},activity {at % classes},0\n"
            for at in range(count // CHUNK)
        ]
        (folder / f"midlevel.chunks_90.split_0.{split}.csv").write_text(HEADER + "".join(lines))
    recipe = root / "near.toml"
    recipe.write_text(f'name = "near"\n[data]\nlayout = "drive-act"\nroot = "{root}"\nview = "view"\nfold = 0\n')
    x = {
        split: np.concatenate([rows_of(split, at, min(BLOCK, count - at)) for at in range(0, count, BLOCK)])
        for split, count in (("train", train), ("val", val))
    }
    chance = np.random.default_rng(0)
    planted = chance.permutation(min(val, PART[1]))[:PLANTED]
    of = chance.permutation(min(train, PART[0]))[:PLANTED]
    x["val"][planted] = x["train"][of] + 0.1 * chance.standard_normal((PLANTED, DIM), dtype=np.float32)
    arch = architecture("vit_b_16")
    spec = TrunkSpec(arch=arch.name, weights_sha256="0" * 64, transform=arch.transform)
    laid = resolve_source(read_recipe(recipe))
    with create_store(root / "cache", spec, weights_name="near", stat_log=StatLog(root / "cache")).writer(
        shard_rows=BLOCK
    ) as writer:
        for split, found in x.items():
            digests = np.random.default_rng(len(found)).integers(0, 256, (len(found), 32), dtype=np.uint8)
            for at in range(0, len(found), BLOCK):
                writer.append(digests[at : at + BLOCK], found[at : at + BLOCK])
            writer.commit(ExtractedListing(laid.listing(split), digests, ("",) * len(found)))
    return recipe, x


def command(recipe: Path, cache: Path) -> tuple[float, float, dict[str, Any]]:
    """Seconds, peak megabytes, and what it found."""
    words = [sys.executable, "-m", "featcache", "data", "-p", recipe, "--cache", cache, "--near", str(COSINE), "--json"]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process, peak = subprocess.Popen(list(map(str, words)), stdout=out), 0.0
        while process.poll() is None:  # of itself: what the kernel says at the end has this script's own in it
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max([peak, *(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))])
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        out.seek(0)
        return seconds, peak, json.loads(out.read())["near"]


def brute_force(a: np.ndarray, b: np.ndarray) -> dict[int, int]:
    """Row of b -> its nearest row of a, where that is near enough; float64, every product."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a.astype(np.float64), b.astype(np.float64)))
    found: dict[int, int] = {}
    for at in range(0, len(b), 1_000):
        products = b[at : at + 1_000] @ a.T
        top = products.argmax(axis=1)
        found |= {at + i: int(j) for i, j in enumerate(top) if products[i, j] >= COSINE}
    return found


def products_alone(a: np.ndarray, b: np.ndarray) -> float:
    """Seconds of the same blocks' matrix products."""
    out = np.empty((min(HELD, len(b)), PASSING), dtype=np.float32)
    began = time.perf_counter()
    for i in range(0, len(b), HELD):
        held = b[i : i + HELD]
        for j in range(0, len(a), PASSING):
            block = a[j : j + PASSING]
            np.matmul(held, block.T, out=out[: len(held), : len(block)])
    return time.perf_counter() - began


def measure(train: int, val: int) -> tuple[list[Result], dict[str, float]]:
    root = Path(tempfile.mkdtemp(prefix="featcache-near-"))
    try:
        recipe, x = make(root, train, val)
        a, b = x["train"][: PART[0]].copy(), x["val"][: PART[1]].copy()
        del x
        seconds, peak, found = command(recipe, root / "cache")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    expected = brute_force(a, b)
    began = time.perf_counter()
    _, of_b = find_nearest_rows(a, b, COSINE)
    ours = time.perf_counter() - began
    alone = products_alone(a, b)
    if dict(zip(of_b.rows.tolist(), of_b.neighbours.tolist(), strict=True)) != expected:
        raise SystemExit("the part differs from brute force")
    (between,) = found["between"]
    if between["near"] != [len(set(expected.values())), len(expected)]:
        raise SystemExit(f"found {between['near']}, brute force on the planted part {len(expected)}")
    results = [
        Result.of(f"data --near, {train:,} x {val:,}", "s", [seconds]),
        Result.of("of them, per second", "Mpairs", [train * val / seconds / 1e6]),
        Result.of("peak memory of the process", "MB", [peak]),
        Result.of("near images found in val", "images", [between["near"][1]]),
        Result.of(f"a part, {PART[0]:,} x {PART[1]:,}", "s", [ours]),
        Result.of("its products alone", "s", [alone]),
    ]
    return results, {"near_vs_ceiling": ours / alone, "cores": float(os.cpu_count() or 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description="near-duplicates at Drive&Act's size", allow_abbrev=False)
    parser.add_argument("--train", type=int, default=260_000)
    parser.add_argument("--val", type=int, default=90_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results, ratios = measure(asked.train, asked.val)
    print(document(results, ratios) if asked.json else table(results, ratios))


if __name__ == "__main__":
    main()
