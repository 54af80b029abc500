"""python bench/drift.py --images 4      (4 minutes on two shared cores)

On an AMD EPYC with AMX, 2026-11-25, the worst image: batch size and threads 0; AVX2 kernels 4e-13 in fp32, 7.4e-5 in
bf16; bicubic instead of bilinear 3.4e-4, no antialias 9.9e-4, bf16 instead of fp32 6.6e-5 (1 - cosine).

How far the embedding of one image moves when nothing moves but what is not keyed: batch size, threads, the instruction
set that the kernels choose. Every way runs in a process of its own; the first is the reference of its precision. In
contrast, what is keyed: a resize without antialias, bicubic, the other precision. The bounds in
`featcache/extraction/drift_bounds.py` stand between the two.

vit_b_16, with random weights and with random weights whose activations grow as trained ones do (each tensor moved by a
tenth of a standard normal, biases included), on pieces of the two photographs that ship with scikit-learn.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import describe

if TYPE_CHECKING:
    import torch

_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
WAYS: dict[str, tuple[dict[str, str], int, int, str]] = {  # name -> (environment, batch size, threads, engine)
    "reference: batch 32, 2 threads": ({}, 32, 2, "eager"),
    "batch 1": ({}, 1, 2, "eager"),
    "batch 8": ({}, 8, 2, "eager"),
    "1 thread": ({}, 32, 1, "eager"),
    "OpenVINO": ({}, 32, 2, "openvino"),
    "oneDNN without AMX": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, 32, 2, "eager"),
    "oneDNN with AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, 32, 2, "eager"),
    "all kernels with AVX2": (_AVX2, 32, 2, "eager"),
}
KEYED = {"resize without antialias": "antialias", "bicubic": "bicubic", "the other precision": "precision"}


def moved(value: "torch.Tensor") -> "torch.Tensor":
    """A tensor a tenth of its own spread away from where it was; a vector (a bias, a norm) a tenth of 1 more."""
    import torch

    noise = torch.randn_like(value)
    return value + 0.1 * value.std().nan_to_num() * noise + (0.1 * torch.randn_like(value) if value.ndim == 1 else 0)


def child(asked: dict[str, Any]) -> None:
    """Embed in this process; the embeddings go to stdout as bytes."""
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from featcache.trunks import vit
    from featcache.trunks.architectures import architecture
    from featcache.trunks.engines import EngineChoice
    from featcache.trunks.spec import TrunkSpec
    from featcache.trunks.trunk import Trunk
    from featcache.trunks.weights import build_network

    torch.set_num_threads(asked["threads"])
    arch = architecture("vit_b_16")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state = build_network(arch, 224).state_dict()
        if asked["moved"]:
            state = {name: moved(value) for name, value in state.items()}
    interpolation = Image.Resampling.BICUBIC if asked["change"] == "bicubic" else Image.Resampling.BILINEAR
    pictures = []
    rng = np.random.default_rng(1)
    for _ in range(asked["images"]):
        whole = load_sample_images().images[rng.integers(2)]
        top, left = rng.integers(0, whole.shape[0] - 400), rng.integers(0, whole.shape[1] - 600)
        piece = Image.fromarray(whole[top : top + 400, left : left + 600])
        if asked["change"] == "antialias":
            tensor = torch.from_numpy(np.array(piece)).permute(2, 0, 1)[None].float()
            small = torch.nn.functional.interpolate(tensor, (256, 384), mode="bilinear", antialias=False)[0]
            array = small.round().clamp(0, 255).byte().numpy()
        else:
            array = np.asarray(piece.resize((384, 256), interpolation)).transpose(2, 0, 1)
        pictures.append(array[:, 16:240, 80:304])
    pixels = np.ascontiguousarray(np.stack(pictures))
    compute = asked["compute"]
    built = vit.build(state, arch, arch.transform, dtype=getattr(torch, compute))
    spec = TrunkSpec(arch=arch.name, weights_sha256="0" * 64, transform=replace(arch.transform), compute=compute)
    trunk = Trunk(spec, "cpu", asked["batch"], built, EngineChoice(asked["engine"], "as requested"))
    trunk.prepare()
    step = asked["batch"]
    rows = [trunk.embed(pixels[start : start + step]) for start in range(0, len(pixels), step)]
    sys.stdout.buffer.write(np.concatenate(rows).tobytes())


def embed(environment: dict[str, str], **asked: Any) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(asked)],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return np.frombuffer(done.stdout, dtype=np.float32).reshape(asked["images"], -1).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child")
    parser.add_argument("--images", type=int, default=8)
    asked = parser.parse_args()
    if asked.child:
        child(json.loads(asked.child))
        return
    print(describe(), f"; {asked.images} images; the worst image of each\n", sep="")
    print(f"{'':34} {'weights':8} {'compute':9} {'1 - cosine':>11} {'mean':>9} {'norm moved':>11}")
    for moved in (False, True):
        for compute in ("float32", "bfloat16"):
            common = {"images": asked.images, "moved": moved, "compute": compute}
            ways = {
                name: embed(env, batch=batch, threads=threads, engine=engine, change="", **common)
                for name, (env, batch, threads, engine) in WAYS.items()
            }
            first, *others = ways
            for name, change in KEYED.items():
                other = {"float32": "bfloat16", "bfloat16": "float32"}[compute] if change == "precision" else compute
                asked_for = {**common, "compute": other, "engine": "eager", "change": change}
                ways[name] = embed({}, batch=32, threads=2, **asked_for)
            for name in [*others, *KEYED]:
                a, b = ways[first], ways[name]
                cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
                norm = np.abs(np.linalg.norm(b, axis=1) / np.linalg.norm(a, axis=1) - 1)
                kind = "moved" if moved else "random"
                far, mean = 1 - cosine.min(), 1 - cosine.mean()
                print(f"{name:34} {kind:8} {compute:9} {far:11.2e} {mean:9.2e} {norm.max():11.2e}", flush=True)


if __name__ == "__main__":
    main()
