"""python bench/commands.py [--against PYTHON] [--large]

Seven commands as they are typed, each in a process of its own, on a small cache of vit_b_16: seconds of the clock and
of processor time, child processes included. --against names the Python of another checkout (`other/.venv/bin/python`);
the two take turns on the same cache, and each ratio is that of processor time, this checkout over the other. One run of
each comes first and does not count: it writes bytecode.

--large: the same of `report`, `compare`, `info` and `data` on a simulated Drive&Act of 259,800 rows of train and 56,000
of val, 768 numbers, 34 classes, and two heads (a minute and 1 GB to make).

On 2 quiet cores of an Intel Xeon (AMX), 2026-11-30, --runs 3, seconds of the clock (and processor time over that of
commit fc6b749): fit-head 2.99 (0.93), predict 2.90 (0.61), report 0.67 (1.03), compare --split test 0.49 (0.70),
extract with nothing to do 0.53 (1.03), --help 0.11 (1.1).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from machine import Result, document, table
from PIL import Image
from safetensors.torch import save_file

CLASSES, NEW = 3, "new cache"
IMAGES = {"train": 120, "val": 60, "test": 60}


def prepare(folder: Path) -> None:
    """Write photographs of noise in three classes, one more that stands in no split, and seeded random weights."""
    random = np.random.default_rng(0)
    for split, count in (*IMAGES.items(), ("new", 1)):
        for number in range(count):
            label = number % CLASSES
            path = folder / ("new.jpg" if split == "new" else f"data/{split}/class{label}/{number:04d}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            small = random.integers(0, 256, (6 + 3 * label, 8, 3), dtype=np.uint8)
            Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=90)
    torch.manual_seed(0)
    tensors = torchvision.models.vit_b_16().state_dict()
    save_file(tensors, folder / "vit.safetensors")
    torch.save(tensors, folder / "vit.pth")
    for name in ("vit.safetensors", "vit.pth"):
        os.utime(folder / name, (10**9, 10**9))  # an old file: its stat is trusted at once


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the commands by the names that they have in the table."""
    where = ["--data", str(folder / "data"), "--cache", str(folder / "cache")]
    return {
        "--help": ["--help"],
        "extract, one image": [
            "extract", str(folder / "data"), "--split", "train", "--limit", "1", "--weights", str(folder / "vit.pth"),
            "--cache", str(folder / NEW),
        ],
        "extract, nothing to do": ["extract", *where, "--weights", str(folder / "vit.safetensors")],
        "fit-head": ["fit-head", *where, "--lr", "0.01"],
        "report": ["report", *where],
        "compare --split test": ["compare", *where, "--split", "test"],
        "predict, one image": ["predict", "best", str(folder / "new.jpg"), *where],
    }  # fmt: skip


def large_commands(folder: Path) -> dict[str, list[str]]:
    """Return the commands on a simulated Drive&Act, which is made for them, with two heads."""
    from near import make

    folder.mkdir()
    recipe, _ = make(folder, 259_800, 56_000, 34)
    where = ["-p", str(recipe), "--cache", str(folder / "cache")]
    for rate in ("0.003", "0.001"):
        words = ["fit-head", *where, "--lr", rate, "--epochs", "2", "--check-seconds", "0.01"]
        measure(sys.executable, words, folder)
    return {
        "report, 56,000 rows": ["report", *where, "--allow-shared-subjects"],
        "report --split train, 259,800": ["report", *where, "--split", "train"],
        "compare, 315,800 rows": ["compare", *where],
        "info, 315,800 rows": ["info", *where],
        "data, 315,800 rows": ["data", *where],
    }


def measure(python: str, words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its seconds of the clock and of processor time."""
    shutil.rmtree(folder / NEW, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, begun = os.times(), time.perf_counter()
    subprocess.run(
        [python, "-m", "featcache", *words], check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after, wall = os.times(), time.perf_counter() - begun
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="PYTHON", help="the Python of another checkout")
    parser.add_argument("--large", action="store_true", help="on a simulated Drive&Act, and not on a small data set")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pythons = {"": sys.executable} | ({"before: ": os.path.abspath(options.against)} if options.against else {})
    taken: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.large:
            typed = large_commands(folder / "large")
        else:
            prepare(folder)
            typed = commands(folder)
            measure(sys.executable, typed["extract, nothing to do"], folder)
        for number in range(options.runs + 1):
            for command, words in typed.items():
                for whose, python in pythons.items():
                    wall, cpu = measure(python, words, folder)
                    print(f"{whose}{command}: {wall:.2f} s, CPU {cpu:.2f} s", file=sys.stderr, flush=True)
                    if number:
                        taken.setdefault(f"{whose}{command}", []).append((wall, cpu))
    results = [
        Result.of(f"{name}{kind}", "s", values)
        for name, times in taken.items()
        for kind, values in zip(("", " (CPU)"), zip(*times, strict=True), strict=True)
    ]
    medians = {result.name: result.median for result in results}
    ratios = {
        f"{command}_vs_before": medians[f"{command} (CPU)"] / medians[f"before: {command} (CPU)"]
        for command in typed
        if options.against
    }
    print(document(results, ratios) if options.json else table(results, ratios))


if __name__ == "__main__":
    main()
