"""python bench/page.py

On a 2-core AMD EPYC that others used too (load 5), 2026-11-25, at the lowest priority: 9.7 s of CPU (8.4 s at load 2,
and then 8.2 s in all), of which 6.8 s thumbnails; decoding the 385 frames that are shown takes 5.9 s of CPU by itself.

`featcache report --html` as it is typed, on a cache that is made for it: 90,000 rows of Drive&Act's 34 classes, and
frames of 960x540 as PNG files on a local disk. Then stage by stage in this process, and the ceiling: decoding the
frames that the page shows, and no more, in as many threads. Seconds pass faster on an idle machine; CPU seconds (user
and system, all threads) do not, so both stand here.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from machine import Result, document, table
from PIL import Image

import featcache
from featcache.asked import Asked
from featcache.listing import Listing
from featcache.machine import cores
from featcache.report.evaluate import examine
from featcache.report.page.about import page_of
from featcache.report.page.gallery import gallery
from featcache.report.page.page import render
from featcache.store import Extracted, StatLog, create
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

DIM, CLASSES, CLIP, PEOPLE = 768, 34, 40, 5
FRAMES, SIZE = 100, (960, 540)  # different frames; every other path is another way to one of them
BLOCK = 10_000  # rows of a shard
NAMES = tuple(f"activity_{label:02d}_with_a_name_as_long_as_they_are" for label in range(CLASSES))
Made = TypeVar("Made")


def write_frames(folder: Path) -> None:
    """Smooth pictures with the noise of a sensor, which take a PNG decoder as long as a camera's do."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(FRAMES):
        coarse = Image.fromarray(random.integers(0, 255, (27, 48, 3), dtype=np.uint8)).resize(SIZE)
        noisy = np.asarray(coarse) + np.rint(random.normal(0, 2, (*SIZE[::-1], 3)))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"img_{number:06d}.png", compress_level=3)


def make(root: Path, rows: int) -> dict[str, object]:
    """Frames, a cache with train and test, and a head; where they are, as the command wants to know it."""
    write_frames(root / "drives" / "run00000")
    for run in range(1, -(-rows // FRAMES)):
        (root / "drives" / f"run{run:05d}").symlink_to("run00000")
    arch = architecture("vit_b_16")
    spec = TrunkSpec(arch=arch.name, weights_sha256="0" * 64, transform=arch.transform)
    random = np.random.default_rng(1)
    centres = random.standard_normal((CLASSES, DIM), dtype=np.float32)
    share = np.geomspace(1, 0.02, CLASSES)
    with create(root / "cache", spec, asked="page", known=StatLog(root / "cache")).writer(shard_rows=BLOCK) as writer:
        for split, count, first in (("train", rows // 8, 0), ("test", rows, PEOPLE)):
            drawn = random.choice(CLASSES, -(-count // CLIP), p=share / share.sum())
            y = np.repeat(np.concatenate([np.arange(CLASSES), drawn]), CLIP)[:count]
            digests = random.integers(0, 256, (count, 32), dtype=np.uint8)
            for at in range(0, count, BLOCK):
                noise = random.standard_normal((len(y[at : at + BLOCK]), DIM), dtype=np.float32)
                writer.append(digests[at : at + BLOCK], centres[y[at : at + BLOCK]] + 8 * noise)
            clips = np.arange(count) // CLIP
            listing = Listing(
                data_set="drives", variant="all", split=split, root=str(root / "drives"), classes=NAMES,
                labels=y.astype(np.int64),
                paths=tuple(f"run{row // FRAMES:05d}/img_{row % FRAMES:06d}.png" for row in range(count)),
                clips=tuple(f"{split}-{clip}" for clip in clips.tolist()),
                subjects=tuple(f"vp{first + person}" for person in (clips % PEOPLE).tolist()),
            )  # fmt: skip
            writer.commit(Extracted(listing, digests, ("",) * count))
    where = {"data": str(root / "drives"), "cache": root / "cache"}
    featcache.fit_head(0.01, **where, epochs=20, device="cpu", check_seconds=None)
    return where


def timed(task: Callable[[], Made], who: int = resource.RUSAGE_SELF) -> tuple[Made, float, float]:
    """What it gives, the seconds that passed, and those of CPU."""
    before, began = resource.getrusage(who), time.perf_counter()
    found = task()
    seconds, after = time.perf_counter() - began, resource.getrusage(who)
    return found, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def decode(paths: list[Path]) -> None:
    """The frames in full, and nothing of them kept."""

    def one(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(one, paths))


def measure(rows: int) -> tuple[list[Result], dict[str, float]]:
    root = Path(tempfile.mkdtemp(prefix="featcache-page-"))
    try:
        where = make(root, rows)
        words = ["report", "--data", where["data"], "--cache", where["cache"], "--html", root / "report.html"]
        typed = [sys.executable, "-m", "featcache", *map(str, words)]
        runs = {
            "report --html": timed(
                lambda: subprocess.run(typed, check=True, stdout=subprocess.DEVNULL), resource.RUSAGE_CHILDREN
            )[1:]
        }
        size = (root / "report.html").stat().st_size
        found, *runs["of it: load, ask the head"] = timed(lambda: examine(Asked(**where)))  # type: ignore[arg-type]
        page, *runs["of it: count, draw again"] = timed(lambda: page_of(found))
        shown, *runs["of it: thumbnails"] = timed(lambda: gallery(page.answers, page.root))
        _, *runs["of it: HTML"] = timed(lambda: render(page, shown))
        paths = sorted({page.answers.paths[row] for row in shown.thumbnails})
        _, *runs["decoding these frames alone"] = timed(lambda: decode([Path(page.root, path) for path in paths]))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    results = []
    for name, (seconds, cpu) in runs.items():
        results += [Result.of(name, "s", [seconds]), Result.of(name, "CPU s", [cpu])]
    results.append(Result.of("frames that are shown", "frames", [len(paths)]))
    results.append(Result.of("cells of the matrix", "cells", [len(shown.rows)]))
    results.append(Result.of("the page", "MB", [size / 1e6]))
    alone = runs["decoding these frames alone"][1]
    return results, {
        "thumbnails_vs_ceiling": runs["of it: thumbnails"][1] / alone,  # of CPU seconds
        "page_vs_ceiling": runs["report --html"][1] / alone,
        "cores": float(os.cpu_count() or 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="the report's page at Drive&Act's size", allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=90_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results, ratios = measure(asked.rows)
    print(document(results, ratios) if asked.json else table(results, ratios))


if __name__ == "__main__":
    main()
