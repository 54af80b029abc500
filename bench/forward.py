"""python bench/forward.py

About ten minutes on two cores; what it printed stands in docs/benchmarks.md. The same command measures a GPU.

Images a second of ViT-B/16's forward in bfloat16, decoded pixels to class tokens, everyone at his own best settings:
each is timed with several batches (OpenVINO with both of its hints too), and the fastest alternates with the others,
all of them in processes of their own. A ratio is the median of those of the rounds, since a machine that others use
changes its speed within minutes.

- featcache: what `featcache extract` runs on a large data set, eager, and by the engine that --engine auto takes there
- torchvision, timm, transformers: the library's network in evaluation mode under `torch.inference_mode`, its
  classifier removed, given pixels that are normalised and cast already
- OpenVINO: torchvision's whole network, converted as a user would
- clip-retrieval, thingsvision: the loops of these two, re-stated from their documentation, since neither can be
  installed beside this torch: the image tower of open_clip in half precision, as `clip_inference` runs it, here in
  bfloat16; and torchvision's network with a hook on the layer that is read, in float32, as
  `extractor.extract_features` runs it
- ceiling: the four matrix products of a block alone, at the same shapes, repeated to 32.70 GFLOP an image
"""

import argparse
import contextlib
import copy
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apart import Contender, Loop
from machine import Result, alternate, document, table

from featcache.recipe import TrunkSection
from featcache.trunks import TrunkSource, WeightsMemo, load_trunk
from featcache.trunks.architectures import architecture
from featcache.trunks.hardware import choose_device

ARCH = architecture("vit_b_16")
GFLOP = 32.70  # an image, multiplications and additions, where the last block is computed for the class token alone
BATCHES = {"cpu": (8, 16, 32, 64), "cuda": (128, 256, 512)}
IMAGES = {"cpu": 64, "cuda": 2048}  # of a run; every batch divides it


def our_loops(engine: str, device: str, cache: Path) -> dict[str, Loop]:
    """Return featcache's one loop, which chooses its batch itself."""
    return {"": ours(engine, device, cache)}


def ours(engine: str, device: str, cache: Path) -> Loop:
    """Return featcache's forward, as an extract of a large data set has it."""
    source = TrunkSource(TrunkSection(arch=ARCH.name, weights="random", precision="bf16"), WeightsMemo(cache))
    trunk = load_trunk(source, source.specs("bfloat16")[0], device=device, engine=engine, images=100_000)
    print(f"featcache: {trunk.engine.sentence()}, {trunk.part or trunk.batch_size} images a forward", file=sys.stderr)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES[_kind(device)], 3, 224, 224), dtype=np.uint8)
    return lambda: trunk.embed(pixels)


def networks() -> Iterator[tuple[str, Callable[[], Callable[[torch.Tensor], torch.Tensor]], torch.dtype]]:
    """Yield the name of every peer, what makes its network, and the type that it computes in."""
    yield "torchvision", _torchvision, torch.bfloat16
    yield "timm", _timm, torch.bfloat16
    yield "transformers", _transformers, torch.bfloat16
    yield "clip-retrieval's loop", _clip_retrieval, torch.bfloat16
    yield "thingsvision's loop, float32", _thingsvision, torch.float32


def _torchvision() -> Any:
    from torchvision.models import vit_b_16

    network = vit_b_16()
    network.heads = torch.nn.Identity()
    return network


def _timm() -> Any:
    import timm

    return timm.create_model("vit_base_patch16_224", num_classes=0)


def _transformers() -> Any:
    from transformers import ViTConfig, ViTModel

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            model: Any = ViTModel
            self.model = model(ViTConfig(), add_pooling_layer=False)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.model(pixel_values=pixels).last_hidden_state[:, 0]
            return rows

    return Network()


def _clip_retrieval() -> Any:
    import open_clip

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = open_clip.create_model("ViT-B-16", pretrained=None)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(self.model.encode_image(pixels), dim=-1)

    return Network()


def _thingsvision() -> Any:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = _torchvision()
            self.read: list[torch.Tensor] = []
            self.model.encoder.ln.register_forward_hook(lambda *call: self.read.append(call[2]))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            self.read.clear()
            self.model(pixels)
            (tokens,) = self.read
            return tokens[:, 0]

    return Network()


def peer(make: Callable[[], Any], dtype: torch.dtype, device: str) -> dict[str, Loop]:
    """Return the loop over a peer's network, for every batch."""
    torch.manual_seed(0)
    network = make().eval().to(device, dtype)
    pixels = torch.randn(IMAGES[_kind(device)], 3, 224, 224, dtype=dtype, device=device)
    return {f"batch {batch}": partial(_loop, network, pixels, batch) for batch in _batches(device)}


def _loop(network: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, batch: int) -> object:
    with torch.inference_mode():
        return torch.cat([network(few).float() for few in torch.split(pixels, batch)]).cpu().numpy()


def openvino_loops() -> dict[str, Loop]:
    """Return the loop over torchvision's whole network in OpenVINO, for every batch, by each of its hints."""
    import openvino

    network, pixels = _torchvision().eval(), torch.randn(IMAGES["cpu"], 3, 224, 224)
    loops: dict[str, Loop] = {}
    for batch in _batches("cpu"):
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # it traces by what torch deprecates
            shape = [batch, 3, 224, 224]
            model = openvino.convert_model(copy.deepcopy(network), example_input=pixels[:batch], input=shape)
        for hint in ("LATENCY", "THROUGHPUT"):
            options = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": hint}
            queue = openvino.AsyncInferQueue(openvino.compile_model(model, "CPU", options))
            loops[f"batch {batch}, {hint.lower()}"] = partial(_infer, queue, pixels.numpy(), batch)
    return loops


def _infer(queue: Any, pixels: Any, batch: int) -> object:
    rows: dict[int, Any] = {}
    queue.set_callback(lambda request, at: rows.__setitem__(at, request.get_output_tensor(0).data.copy()))
    for start in range(0, len(pixels), batch):
        queue.start_async([pixels[start : start + batch]], start)
    queue.wait_all()
    return np.concatenate([rows[start] for start in sorted(rows)])


def ceiling(device: str) -> dict[str, Loop]:
    """Return the products of a block alone, repeated to the 32.70 GFLOP an image, for every batch."""
    return {f"batch {batch}": _products(batch, device) for batch in _batches(device)}


def _products(batch: int, device: str) -> Loop:
    rows, dim, mlp = batch * 197, ARCH.dim, ARCH.mlp
    wide, narrow = (torch.randn(rows, width, device=device).bfloat16() for width in (mlp, dim))
    shapes = ((3 * dim, dim), (dim, dim), (mlp, dim), (dim, mlp))
    weights = [torch.randn(shape, device=device).bfloat16() for shape in shapes]
    block = sum(2 * 197 * one * other for one, other in shapes)
    times = round(GFLOP * 1e9 / block * IMAGES[_kind(device)] / batch)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(times):
                for weight in weights:
                    torch.nn.functional.linear(wide if weight.shape[1] == mlp else narrow, weight)

    return run


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _batches(device: str) -> tuple[int, ...]:
    return BATCHES[_kind(device)]


def contenders(device: str, cache: Path) -> dict[str, Callable[[], dict[str, Loop]]]:
    """Return what makes the loops of everyone, by name."""
    mine = {"eager": "eager", "by OpenVINO" if _kind(device) == "cpu" else "compiled": "auto"}
    made: dict[str, Callable[[], dict[str, Loop]]] = {
        f"featcache, {name}": partial(our_loops, engine, device, cache) for name, engine in mine.items()
    }
    made |= {name: partial(peer, make, dtype, device) for name, make, dtype in networks()}
    if _kind(device) == "cpu":
        made["OpenVINO, the whole network"] = openvino_loops
    return made | {"ceiling": partial(ceiling, device)}


def measure(runs: int, only: str) -> tuple[list[Result], dict[str, float]]:
    """Return images a second of everyone, and the ratios to ours."""
    device = choose_device("auto")
    with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as running:
        tasks: dict[str, Contender] = {}
        for name, make in contenders(device, Path(cache)).items():
            if only and only not in name and not name.startswith("featcache"):
                continue
            try:
                tasks[name] = running.enter_context(Contender(name, make))
            except ImportError as error:
                print(f"{name} left out: {error}", file=sys.stderr)
        taken = {result.name: result for result in alternate(tasks, runs)}
    mine = [result for name, result in taken.items() if name.startswith("featcache")]
    best = min(mine, key=lambda result: result.median)
    ratios = {f"ours_vs_{name}": result.ratio_to(best) for name, result in taken.items()}
    return [result.rate(IMAGES[_kind(device)]) for result in taken.values()], ratios


def main() -> None:
    parser = argparse.ArgumentParser(description="images a second of ViT-B/16's forward", allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", metavar="TEXT", help="ours, and those whose name has this in it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results, ratios = measure(options.runs, options.only)
    print(document(results, ratios) if options.json else table(results, ratios))


if __name__ == "__main__":
    main()
