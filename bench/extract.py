"""python bench/extract.py

About six minutes on two cores; what it printed stands in docs/benchmarks.md. The same command measures a GPU.

Stage one: JPEG photographs of about 500x375 to published shards, with torchvision's vit_b_16 (seeded random weights
in a file, loaded as a user's would be), beside a plain torchvision loop over the same files.

- command: the whole of `featcache extract`, in a process of its own: imports, weights, reading, decoding, forward,
  shards on disk, at the precision that --precision auto chooses here
- loop: what people write: ImageFolder, DataLoader with a worker a core, torchvision's network with its classifier
  removed, fp32, a list of embeddings and one np.save; in a process of its own too
- forward: ours (eager, and in bf16 through OpenVINO, as --engine auto has it from 5,000 images on where OpenVINO is
  installed), torchvision's, and in bf16 those of timm, transformers and OpenVINO (the full network), alone, on
  decoded batches; ceiling: the matrix products of a block at the same shapes, repeated to 32.70 GFLOP an image
- command, --decode gpu: on CUDA, the same command where nvJPEG decodes
- frames: the command on PNG frames of 960x540, a quarter as many, bound by their decoding
- start-up: the whole command on one image
- memory: the proportional memory of all processes of one `featcache extract` at its peak, with the small vit_nano_16
  and one engine, so that the number of images can be large and is all that differs
"""

import argparse
import copy
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
from machine import Result, alternate, document, table
from PIL import Image
from sklearn.datasets import load_sample_images

from featcache.trunks import engines, vit
from featcache.trunks.architectures import architecture
from featcache.trunks.hardware import choose_device, fast_precision

ARCH = architecture("vit_b_16")
BATCH = 32  # of the plain loop
BATCHES = {"cpu": 32, "cuda": 256, "mps": 64}  # of the forwards
GFLOP = 32.70  # an image, multiplications and additions, where the last block is computed for the class token alone
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


def forwards(state: dict[str, torch.Tensor], device: str) -> dict[str, Callable[[], object]]:
    """One batch of decoded images through every forward. A peer that is not installed is left out, and said."""
    from torchvision.models import vit_b_16

    batch = BATCHES[device.partition(":")[0]]
    pixels = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8, device=device)
    normal = torch.randn(batch, 3, 224, 224, device=device)
    tensors = {name: value for name, value in state.items() if not name.startswith("heads.")}
    tasks: dict[str, Callable[[], object]] = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        ours = vit.build(tensors, ARCH, ARCH.transform, dtype=dtype, device=device)
        network = vit_b_16()
        network.load_state_dict(state)
        network.heads = torch.nn.Identity()
        network.eval().to(device, dtype)
        tasks[f"forward {name}, ours"] = partial(ours, pixels)
        tasks[f"forward {name}, torchvision"] = partial(network, normal.to(dtype))
        tasks[f"ceiling {name}"] = products(batch, dtype, device)
        if name == "fp32":
            continue
        choice = engines.EngineChoice("openvino", "as a large job on a CPU has it")
        by_openvino, _ = engines.build_forward(choice, ours, pixels) if device == "cpu" else (ours, choice)
        if by_openvino is not ours:
            tasks["forward bf16, ours by openvino"] = partial(by_openvino, pixels)
        for peer, make in (("timm", _timm), ("transformers", _transformers), ("openvino", _openvino)):
            try:
                tasks[f"forward {name}, {peer}"] = make(network, normal)
            except ImportError as error:
                print(f"left out: {error}", file=sys.stderr)
    tasks = {name: partial(_synchronous, task, device) for name, task in tasks.items()}
    for task in tasks.values():
        task()
    return tasks


def products(batch: int, dtype: torch.dtype, device: str) -> Callable[[], object]:
    """The four matrix products of a block at this batch, repeated to the 32.70 GFLOP an image."""
    rows, dim, mlp = batch * 197, ARCH.dim, ARCH.mlp
    wide, narrow = (torch.randn(rows, width, device=device).to(dtype) for width in (mlp, dim))
    shapes = ((3 * dim, dim), (dim, dim), (mlp, dim), (dim, mlp))
    weights = [torch.randn(shape, device=device).to(dtype) for shape in shapes]
    block = sum(2 * 197 * one * other for one, other in shapes)
    whole, rest = divmod(GFLOP * 1e9, block)

    def run() -> None:
        for _ in range(int(whole)):
            for weight in weights:
                torch.nn.functional.linear(wide if weight.shape[1] == mlp else narrow, weight)
        part = narrow[: int(rest / block * rows)]
        for weight in weights[:3]:
            torch.nn.functional.linear(part, weight)
        torch.nn.functional.linear(wide[: len(part)], weights[3])

    return run


def _timm(_: torch.nn.Module, normal: torch.Tensor) -> Callable[[], object]:
    import timm

    network = timm.create_model("vit_base_patch16_224", num_classes=0).eval().to(normal.device, torch.bfloat16)
    return partial(network, normal.to(torch.bfloat16))


def _transformers(_: torch.nn.Module, normal: torch.Tensor) -> Callable[[], object]:
    from transformers import ViTConfig, ViTModel

    model: torch.nn.Module = ViTModel(ViTConfig(), add_pooling_layer=False)
    network = model.eval().to(normal.device, torch.bfloat16)
    return lambda: network(pixel_values=normal.to(torch.bfloat16)).last_hidden_state[:, 0]


def _openvino(network: torch.nn.Module, normal: torch.Tensor) -> Callable[[], object]:
    """The full network of torchvision, as a user would convert it; bf16 where the hardware has it."""
    import warnings

    import openvino

    if normal.device.type != "cpu":
        raise ImportError("OpenVINO is a peer on CPUs only")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it traces by what torch deprecates
        with torch.inference_mode(False), torch.no_grad():
            plain = copy.deepcopy(network).float()
            model = openvino.convert_model(plain, example_input=normal.clone(), input=list(normal.shape))
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"})
    given = normal.numpy()
    return lambda: compiled([given])


def _synchronous(task: Callable[[], object], device: str) -> None:
    task()
    if device.startswith("cuda"):
        torch.cuda.synchronize()


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


def measure(images: int, runs: int) -> tuple[list[Result], dict[str, float]]:
    """Everything, alternating in one run."""
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
        batch = BATCHES[device.partition(":")[0]]
        with torch.inference_mode():
            forward = alternate(forwards(state, device), runs)
        auto = "bf16" if fast_precision(device) == "bfloat16" else "fp32"
        one = photographs(scratch / "one", 1)
        tasks: dict[str, Callable[[], object]] = {"command": partial(extract, data), "loop": plain}
        if device.startswith("cuda"):
            tasks["command, --decode gpu"] = partial(extract, data, "--decode", "gpu")
        still = frames(scratch / "frames", images // 4)
        tasks["command, PNG frames"] = partial(extract, still)
        files = alternate({**tasks, "start-up": partial(extract, one, "--engine", "eager")}, runs)
        seconds = {found.name: found.median for found in forward + files}
        counts = dict.fromkeys(tasks, images) | {"command, PNG frames": images // 4}
        rates = [_rate(found, batch) for found in forward]
        rates += [_rate(found, counts[found.name]) if found.name in counts else found for found in files]
        memory = []
        for count in SIZES:
            many = photographs(scratch / f"many{count}", count, different=20)
            flags = ("--arch", "vit_nano_16", "--engine", "eager")  # auto would build OpenVINO for the larger one alone
            used = peak_megabytes(command(many, "random", scratch / f"cache{count}", *flags))
            memory.append(Result.of(f"peak memory at {count:,} images", "MB", [used]))
            shutil.rmtree(many)
        ours = f"forward {auto}, ours"
        pairs = {f"forward_vs_{peer}": (peer, "ours") for peer in ("torchvision", "timm", "transformers", "openvino")}
        pairs |= {f"by_openvino_vs_{peer}": (peer, "ours by openvino") for peer in ("openvino", "torchvision")}
        named = {name: tuple(f"forward bf16, {one}" for one in pair) for name, pair in pairs.items()}
        ratios = {
            name: seconds[peer] / seconds[mine]
            for name, (peer, mine) in named.items()
            if peer in seconds and mine in seconds
        }
        ratios |= {
            "forward_fp32_vs_torchvision": seconds["forward fp32, torchvision"] / seconds["forward fp32, ours"],
            "forward_vs_ceiling": seconds["forward bf16, ours"] / seconds["ceiling bf16"],
            "forward_fp32_vs_ceiling": seconds["forward fp32, ours"] / seconds["ceiling fp32"],
            "files_vs_forward": (images / seconds["command"]) / (batch / seconds[ours]),
            "files_vs_torchvision_fp32": seconds["loop"] / seconds["command"],
            "memory_large_vs_small": memory[1].median / memory[0].median,
        }
        return rates + memory, ratios
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _rate(found: Result, images: int) -> Result:
    return Result(found.name, "images/s", images / found.median, images / found.max, images / found.min, found.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description="images a second, from files to shards", allow_abbrev=False)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.loop:
        loop(*asked.loop)
        return
    results, ratios = measure(asked.images, asked.runs)
    print(document(results, ratios) if asked.json else table(results, ratios))


if __name__ == "__main__":
    main()
