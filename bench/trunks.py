"""python bench/trunks.py

About ten minutes on two cores; what it printed stands in docs/benchmarks.md.

Images a second of six trunks through featcache, beside the plain loop over the library's own network, in bfloat16 on
the CPU, alternating in one run. Weights are seeded random ones: they cost what trained ones do.

- featcache: the trunk that `featcache extract` loads, from decoded uint8 pixels to float32 features, the layer that
  --layer auto keeps
- plain: the library's network in evaluation mode under `torch.inference_mode`, its classifier removed, given pixels
  that are normalised and cast already; of the CNNs in channels-last too

Everyone at his own best batch: each is timed at a few sizes first, and the fastest alternates with the others, all of
them in processes of their own. To load a trunk changes what glibc does with large blocks that are freed
(docs/decisions/125), which makes the plain loop faster too; so that runs once with glibc's own settings, and once with
ours.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apart import Contender, Loop
from machine import Result, alternate, document, table

from featcache.machine import keep_large_blocks
from featcache.recipe import TrunkSection
from featcache.trunks import TrunkSource, WeightsMemo, load_trunk
from featcache.trunks.libraries import LibrarySource

BATCHES = (8, 16, 32)
IMAGES = 64  # of a run; every batch divides it


def torchvision_network(name: str) -> Any:
    """Return a network of torchvision's that gives what its last layer reads."""
    import torchvision

    network = torchvision.models.get_model(name, weights=None)
    setattr(network, "heads" if name.startswith("vit") else "fc", torch.nn.Identity())
    return network


def timm_network(name: str, **options: Any) -> Any:
    """Return a network of timm's without its classifier."""
    import timm

    return timm.create_model(name, num_classes=0, **options)


def open_clip_tower(name: str) -> Any:
    """Return an image tower of open_clip's."""
    import open_clip

    return open_clip.create_model(name, pretrained=None).visual


# name -> the trunk as --arch has it, the size of its images, and its library's own network
TRUNKS: dict[str, tuple[str, int, Callable[[], Any]]] = {
    "ViT-B/16, torchvision": ("vit_b_16", 224, partial(torchvision_network, "vit_b_16")),
    "ViT-S/14 DINOv2, timm": (
        "timm:vit_small_patch14_dinov2", 224, partial(timm_network, "vit_small_patch14_dinov2", img_size=224),
    ),
    "ResNet-50, torchvision": ("resnet50", 224, partial(torchvision_network, "resnet50")),
    "ConvNeXt-T, timm": ("timm:convnext_tiny", 224, partial(timm_network, "convnext_tiny")),
    "EfficientNet-Lite0, timm": ("timm:tf_efficientnet_lite0", 224, partial(timm_network, "tf_efficientnet_lite0")),
    "ViT-B/32, open_clip": ("open_clip:ViT-B-32", 224, partial(open_clip_tower, "ViT-B-32")),
}  # fmt: skip
PLAIN_VITS = ("ViT-B/16, torchvision", "ViT-S/14 DINOv2, timm", "ViT-B/32, open_clip")


def ours(arch: str, size: int, cache: Path) -> dict[str, Loop]:
    """Return featcache's forward of `IMAGES` images, as an extract of a large data set has it."""
    is_own = arch.startswith("vit_")
    image_size = 0 if is_own or "vit" not in arch.lower() else size
    section = TrunkSection(arch=arch, weights="random", precision="bf16", image_size=image_size)
    source = (TrunkSource if is_own else LibrarySource)(section, WeightsMemo(cache))
    trunk = load_trunk(source, source.specs("bfloat16")[0], device="cpu", images=4_000)
    print(f"{arch}: {trunk.engine.sentence()}, {trunk.part} images a forward", file=sys.stderr)
    height, width = trunk.spec.transform.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, height, width), dtype=np.uint8)
    return {"": partial(trunk.embed, pixels)}


def plain(make: Callable[[], Any], size: int, *, blocks_kept: bool) -> dict[str, Loop]:
    """Return the plain loop over `IMAGES` images, for each batch size, and each layout of memory worth trying."""
    if blocks_kept:
        keep_large_blocks()
    torch.manual_seed(0)
    network = make().eval().to(torch.bfloat16)
    is_cnn = any(isinstance(part, torch.nn.Conv2d) and part.kernel_size == (3, 3) for part in network.modules())
    is_cnn = is_cnn or "ConvNeXt" in type(network).__name__
    pixels = torch.randn(IMAGES, 3, size, size, dtype=torch.bfloat16)
    loops: dict[str, Loop] = {f"batch {batch}": partial(_loop, network, pixels, batch) for batch in BATCHES}
    if is_cnn:
        import copy

        last = copy.deepcopy(network).to(memory_format=torch.channels_last)
        laid = pixels.contiguous(memory_format=torch.channels_last)
        loops |= {f"batch {batch}, channels-last": partial(_loop, last, laid, batch) for batch in BATCHES}
    return loops


def _loop(network: Any, pixels: torch.Tensor, batch: int) -> object:
    with torch.inference_mode():
        return torch.cat([network(part).float() for part in torch.split(pixels, batch)]).numpy()


def measure(runs: int, chosen: str) -> tuple[list[Result], dict[str, float]]:
    """Return images a second of every trunk, and the ratio to its library's own loop."""
    results, ratios = [], {}
    for name, (arch, size, make) in TRUNKS.items():
        if chosen not in name:
            continue
        makes = {
            f"{name}: plain": partial(plain, make, size, blocks_kept=False),
            f"{name}: plain, large blocks kept": partial(plain, make, size, blocks_kept=True),
        }
        with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as running:
            makes = {f"{name}: featcache": partial(ours, arch, size, Path(cache)), **makes}
            tasks = {label: running.enter_context(Contender(label, make)) for label, make in makes.items()}
            taken = alternate(tasks, runs)
        ratios[f"{arch}_vs_plain"] = taken[1].ratio_to(taken[0])
        ratios[f"{arch}_vs_plain_with_large_blocks_kept"] = taken[2].ratio_to(taken[0])
        results += [result.rate(IMAGES) for result in taken]
    vits = [ratios[f"{TRUNKS[name][0]}_vs_plain"] for name in PLAIN_VITS if chosen in name]
    return results, ratios | ({"slowest_plain_vit_vs_plain": min(vits)} if vits else {})


def main() -> None:
    parser = argparse.ArgumentParser(description="images a second of six trunks", allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", default="", metavar="TEXT", help="trunks whose name has this in it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results, ratios = measure(options.runs, options.only)
    print(document(results, ratios) if options.json else table(results, ratios))


if __name__ == "__main__":
    main()
