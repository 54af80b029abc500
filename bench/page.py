"""python bench/page.py

On a 2-core AMD EPYC, 2026-11-25: 5.2 s in all, 9.4 s of CPU (17.5 s before there was a limit on pixels); 6.6 s of CPU
are the 385 thumbnails, decoding them alone takes 5.7 s. The page has 2.5 MB since it lists all images (0.8 before).

`featcache report --html` as it is typed, on a cache that is made for it: 90,000 rows of Drive&Act's 34 classes, and
frames of 960x540 as PNG files on a local disk. Then stage by stage in this process, and the ceiling: decoding the
frames that the page shows, and no more, in as many threads. CPU seconds are of all threads, user and system.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from machine import Result, document, table
from PIL import Image

import featcache
from featcache.dataset.request import DatasetRequest
from featcache.evaluation.evaluate_head import predict_on_split
from featcache.files import StatLog
from featcache.listing.sources import resolve_source
from featcache.machine import cores
from featcache.recipe import read_recipe
from featcache.report.page.build import build_page
from featcache.report.page.gallery import build_gallery
from featcache.report.page.page import render_html
from featcache.store import ExtractedListing, create_store
from featcache.trunks.architectures import architecture
from featcache.trunks.spec import TrunkSpec

DIM, CLASSES, CLIP, PEOPLE, NOISE = 768, 34, 40, 5, 8
FRAMES, SIZE = 2 * CLIP, (960, 540)  # different frames; every other path is another way to one of them
BLOCK = 10_000  # rows of a shard
LONG = "with_a_name_as_long_as_they_are"
HEADER = "participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id\n"
Made = TypeVar("Made")


def write_frames(folder: Path) -> None:
    """Smooth pictures with the noise of a sensor, which take a PNG decoder as long as a camera's do."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(FRAMES):
        coarse = Image.fromarray(random.integers(0, 255, (27, 48, 3), dtype=np.uint8)).resize(SIZE)
        noisy = np.asarray(coarse) + np.rint(random.normal(0, 2, (*SIZE[::-1], 3)))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"img_{number:06d}.png", compress_level=3)


def write_annotations(root: Path, split: str, rows: int, first: int) -> None:
    """Chunks of CLIP frames, two a file; PEOPLE people from `first` on, in turn; classes from frequent to rare."""
    share = np.geomspace(1, 0.02, CLASSES)
    drawn = np.random.default_rng(first).choice(CLASSES, rows // CLIP, p=share / share.sum())
    drawn[:CLASSES] = np.arange(CLASSES)
    lines = [HEADER]
    for clip, label in enumerate(drawn.tolist()):
        file, start, person = f"{split}{clip // 2:05d}", CLIP * (clip % 2), first + clip // 2 % PEOPLE
        lines.append(f"{person},{file},0,{start},{start + CLIP - 1},activity_{label:02d}_{LONG},{clip}\n")
        if clip % 2 == 0:
            (root / file).symlink_to("frames")
    folder = root / "iccv_activities_3s/activities_3s/view"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"midlevel.chunks_90.split_0.{split}.csv").write_text("".join(lines))


def make(root: Path, rows: int) -> dict[str, Any]:
    """Frames, a cache with train and test, and a head; where they are, as the command wants to know it."""
    write_frames(root / "frames")
    for split, count, first in (("train", rows // 8, 1), ("test", rows, 1 + PEOPLE)):
        write_annotations(root, split, count, first)
    recipe = root / "page.toml"
    recipe.write_text(f'name = "page"\n[data]\nlayout = "drive-act"\nroot = "{root}"\nview = "view"\nfold = 0\n')
    arch = architecture("vit_b_16")
    spec = TrunkSpec(arch=arch.name, weights_sha256="0" * 64, transform=arch.transform)
    random, laid = np.random.default_rng(1), resolve_source(read_recipe(recipe))
    centres = random.standard_normal((CLASSES, DIM), dtype=np.float32)
    with create_store(root / "cache", spec, weights_name="page", stat_log=StatLog(root / "cache")).writer(
        shard_rows=BLOCK
    ) as writer:
        for split in ("train", "test"):
            listing = laid.listing(split)
            digests = random.integers(0, 256, (len(listing.labels), 32), dtype=np.uint8)
            for at in range(0, len(digests), BLOCK):
                y = listing.labels[at : at + BLOCK]
                noise = random.standard_normal((len(y), DIM), dtype=np.float32)
                writer.append(digests[at : at + BLOCK], centres[y] + NOISE * noise)
            writer.commit(ExtractedListing(listing, digests, ("",) * len(digests)))
    where: dict[str, Any] = {"pipeline": str(recipe), "cache": str(root / "cache")}
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
        words = ["report", "-p", where["pipeline"], "--cache", where["cache"], "--html", root / "report.html"]
        typed = [sys.executable, "-m", "featcache", *map(str, words)]
        runs: dict[str, Sequence[float]] = {
            "report --html": timed(
                lambda: subprocess.run(typed, check=True, stdout=subprocess.DEVNULL), resource.RUSAGE_CHILDREN
            )[1:]
        }
        size = (root / "report.html").stat().st_size
        found, *runs["of it: load, ask the head"] = timed(lambda: predict_on_split(DatasetRequest(**where)))
        page, *runs["of it: count, draw again"] = timed(lambda: build_page(found))
        shown, *runs["of it: thumbnails"] = timed(lambda: build_gallery(page.predictions, page.root))
        _, *runs["of it: HTML"] = timed(lambda: render_html(page, shown))
        paths = sorted({page.predictions.paths[row] for row in shown.thumbnails})
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
