"""python bench/extract.py

About six minutes on two cores; what it printed stands in docs/benchmarks.md. The same command measures a GPU.

Stage one: JPEG photographs of about 500x375 to published shards, with torchvision's vit_b_16 (seeded random weights
in a file, loaded as a user's would be), beside a plain torchvision loop over the same files.

- command: the whole of `featcache extract`, in a process of its own: imports, weights, reading, decoding, forward,
  shards on disk, at the precision that --precision auto chooses here
- loop: what people write: ImageFolder, DataLoader with a worker a core, torchvision's network with its classifier
  removed, fp32, a list of embeddings and one np.save; in a process of its own too
- forward: ours alone, on decoded pixels (`bench/forward.py` has it beside its peers and the ceiling)
- command, --decode gpu: on CUDA, the same command where nvJPEG decodes
- frames: the command on PNG frames of 960x540, a quarter as many, bound by their decoding
- start-up: the whole command on one image
- memory: the proportional memory of all processes of one `featcache extract` at its peak, with the small vit_nano_16
  and one engine, so that the number of images can be large and is all that differs
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from forward import IMAGES, ours
from machine import Result, alternate, document, table
from PIL import Image
from sklearn.datasets import load_sample_images

from featcache.trunks.engines import PAYS
from featcache.trunks.hardware import choose_device

BATCH = 32  # of the plain loop
SIZES = 2_000, 20_000  # images at which memory is measured


def photographs(root: Path, count: int, *, different: int = 200) -> Path:
    """Write `count` JPEGs, cut from the two photographs that ship with scikit-learn; no two files are the same."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]  # 640x427
    made = []
    for number in range(min(count, different)):
        width, height = int(rng.integers(420, 581)), int(rng.integers(320, 421))
        left, top = int(rng.integers(0, 640 - width)), int(rng.integers(0, 427 - height))
        path = root / "train" / f"class{number % 2}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        sources[number % 2].crop((left, top, left + width, top + height)).save(path, quality=90)
        made.append(path.read_bytes())
    for number in range(different, count):  # the same picture and other bytes: what follows a JPEG's end is not decoded
        path = root / "train" / f"class{number % 2}" / f"{number:06d}.jpg"
        path.write_bytes(made[number % different] + number.to_bytes(8, "little"))
    return root


def frames(root: Path, count: int, *, different: int = 20) -> Path:
    """Write `count` PNG frames of 960x540, as `photographs` does."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(pixels).resize((1000, 600)) for pixels in load_sample_images().images]
    made: list[bytes] = []
    folder = root / "train" / "class0"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number:06d}.png"
        if number < different:
            left, top = (int(rng.integers(0, most)) for most in (40, 60))
            sources[number % 2].crop((left, top, left + 960, top + 540)).save(path)
            made.append(path.read_bytes())
        else:  # as of photographs
            path.write_bytes(made[number % different] + number.to_bytes(8, "little"))
    return root


def command(data: Path, weights_file: str, cache: Path, *flags: str) -> list[str]:
    """A featcache extract as typed."""
    start = [sys.executable, "-m", "featcache", "extract", "--split", "train"]
    return [*start, "--data", str(data), "--weights", weights_file, "--cache", str(cache), *flags]


def loop(data: Path, weights_file: Path) -> None:
    """The plain torchvision loop, fp32."""
    from torchvision.datasets import ImageFolder
    from torchvision.models import ViT_B_16_Weights, vit_b_16

    network = vit_b_16()
    network.load_state_dict(torch.load(weights_file, weights_only=True))
    network.heads = torch.nn.Identity()
    device = choose_device("auto")
    network.eval().to(device)
    images = ImageFolder(str(data / "train"), ViT_B_16_Weights.IMAGENET1K_V1.transforms())
    loader = torch.utils.data.DataLoader(images, batch_size=BATCH, num_workers=os.cpu_count() or 1)
    with torch.inference_mode():
        embeddings = [network(pixels.to(device)).cpu().numpy() for pixels, _ in loader]
    with tempfile.TemporaryFile() as file:
        np.save(file, np.concatenate(embeddings))


def peak_megabytes(words: list[str]) -> float:
    """Run a command; the largest sum of its processes' proportional set sizes, seen every 50 ms."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(map(_proportional, _family(process.pid))))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return peak / 1024


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [pid]
    for child in itertools.chain.from_iterable(_text(path).split() for path in children):
        found += _family(int(child))
    return found


def _proportional(pid: int) -> int:
    lines = _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""


def measure(images: int, runs: int, *, files_alone: bool = False) -> tuple[list[Result], dict[str, float]]:
    """Everything, alternating in one run; or the command, the forward and the start-up alone."""
    scratch = Path(tempfile.mkdtemp(prefix="featcache-bench-"))
    try:
        from torchvision.models import vit_b_16

        torch.manual_seed(0)
        state = vit_b_16().state_dict()
        weights_file = scratch / "vit.pth"
        torch.save(state, weights_file)
        data = photographs(scratch / "images", images)

        def extract(images: Path, *flags: str) -> None:
            cache = scratch / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            words = command(images, str(weights_file), cache, *flags)
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

        def plain() -> None:
            subprocess.run([sys.executable, __file__, "--loop", str(data), str(weights_file)], check=True)

        device = choose_device("auto")
        one = photographs(scratch / "one", 1)
        tasks: dict[str, Callable[[], object]] = {"command": partial(extract, data), "loop": plain}
        if device.startswith("cuda"):
            tasks["command, --decode gpu"] = partial(extract, data, "--decode", "gpu")
        if files_alone:
            del tasks["loop"]
        else:
            tasks["command, PNG frames"] = partial(extract, frames(scratch / "frames", images // 4))
        tasks["forward"] = ours("auto" if images >= PAYS["cpu"] else "eager", device, scratch / "trunk")
        tasks["forward"]()
        files = alternate({**tasks, "start-up": partial(extract, one, "--engine", "eager")}, runs)
        seconds = {found.name: found.median for found in files}
        in_forward = IMAGES[device.partition(":")[0]]
        counts = dict.fromkeys(tasks, images) | {"command, PNG frames": images // 4, "forward": in_forward}
        rates = [found.rate(counts[found.name]) if found.name in counts else found for found in files]
        memory = []
        for count in () if files_alone else SIZES:
            many = photographs(scratch / f"many{count}", count, different=20)
            flags = ("--arch", "vit_nano_16", "--engine", "eager")  # auto would build OpenVINO for the larger one alone
            used = peak_megabytes(command(many, "random", scratch / f"cache{count}", *flags))
            memory.append(Result.of(f"peak memory at {count:,} images", "MB", [used]))
            shutil.rmtree(many)
        ratios = {"files_vs_forward": (images / seconds["command"]) / (in_forward / seconds["forward"])}
        if not files_alone:
            ratios["files_vs_torchvision_fp32"] = seconds["loop"] / seconds["command"]
            ratios["memory_large_vs_small"] = memory[1].median / memory[0].median
        return rates + memory, ratios
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="images a second, from files to shards", allow_abbrev=False)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files-alone", action="store_true", help="the command, the forward and the start-up alone")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.loop:
        loop(*asked.loop)
        return
    results, ratios = measure(asked.images, asked.runs, files_alone=asked.files_alone)
    print(document(results, ratios) if asked.json else table(results, ratios))


if __name__ == "__main__":
    main()
