"""How a trunk's forward is run: eagerly, compiled by inductor, or by OpenVINO. Provenance, never identity.

An engine that cannot be had falls back to the eager forward with a warning: an extract is never lost to a compiler.
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from featcache.trunks.vit import ViT

    Forward = Callable[[Tensor], Tensor]

ENGINES = ("auto", "eager", "compile", "openvino")

# From so many images on compiling pays: the minute or so that it costs (measured), times the images that the eager
# forward does in that time, over the share of time that it saves. docs/decisions/041.
PAYS = {"cuda": 50_000, "cpu": 5_000}


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine runs, and why, in words."""

    name: str
    why: str
    is_worth_changing: bool = True  # whether another engine may be faster for so many images on this device

    def sentence(self) -> str:
        """Return one line for a person."""
        return f"engine {self.name}: {self.why}"


def choose_engine(engine: str, device: str, images: int) -> EngineChoice:
    """Return the engine for so many images on this device, "auto" decided.

    Args:
        engine: One of `ENGINES`.
        device: As torch calls it.
        images: How many there are to embed.
    """
    if engine != "auto":
        return EngineChoice(engine, "as requested")
    kind = device.partition(":")[0]
    if kind not in PAYS:
        return EngineChoice("eager", f"nothing faster is tried on {kind}", is_worth_changing=False)
    if images < PAYS[kind]:
        why = f"{images:,} images are fewer than the {PAYS[kind]:,} from which compiling pays"
        return EngineChoice("eager", why, is_worth_changing=False)
    if kind == "cuda":
        return EngineChoice("compile", f"{images:,} images pay for the compilation")
    if importlib.util.find_spec("openvino") is None:
        return EngineChoice("eager", "on a CPU only OpenVINO is faster, and it is not installed (featcache[openvino])")
    return EngineChoice("openvino", f"{images:,} images pay for building it")


def build_forward(choice: EngineChoice, network: "ViT", pixels: "Tensor") -> tuple["Forward", EngineChoice]:
    """Return the forward of an engine, and which engine that is: eager, with a warning, where the chosen one fails.

    Args:
        choice: The engine that is meant.
        network: The trunk.
        pixels: A full batch, uint8, on which the forward is tried.
    """
    if choice.name == "eager":
        return network, choice
    try:
        forward = _compile(network) if choice.name == "compile" else _convert_to_openvino(network, pixels)
        forward(pixels)
    except Exception as error:  # a compiler fails in any way that it likes
        reason = next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__
        warnings.warn(f"engine {choice.name} failed, continuing with eager: {reason}", RuntimeWarning, stacklevel=2)
        return network, EngineChoice("eager", f"{choice.name} failed")
    return forward, choice


def _compile(network: "ViT") -> "Forward":
    """Return inductor's forward; with CUDA graphs on a GPU, since the batch has one size all run long."""
    import torch

    if network.positions.device.type == "cuda":
        inner = torch.compile(network.__call__, mode="reduce-overhead", dynamic=False)

        def forward(pixels: "Tensor") -> "Tensor":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            rows: Tensor = inner(pixels).clone()  # the graph's own output is overwritten by the next batch
            return rows

        return forward
    return torch.compile(network.__call__, dynamic=False)


def _convert_to_openvino(network: "ViT", pixels: "Tensor") -> "Forward":
    """Return OpenVINO's forward on the CPU, at the network's own precision."""
    import openvino
    import torch

    class Module(torch.nn.Module):
        def forward(self, pixels: "Tensor") -> "Tensor":
            rows: Tensor = plain(pixels)
            return rows

    dtype = network.positions.dtype
    plain = _cast(network, torch.float32)  # what bfloat16 rounded stays rounded
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces by torch.jit.trace, which torch deprecates
        model = openvino.convert_model(Module(), example_input=pixels.clone(), input=list(pixels.shape))
    hint = "bf16" if dtype == torch.bfloat16 else "f32"
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.compile_model(model, "CPU", options)

    def forward(batch: "Tensor") -> "Tensor":
        rows = compiled([np.ascontiguousarray(batch.numpy())])[0]
        return torch.from_numpy(np.array(rows, dtype=np.float32))

    return forward


def _cast(value: Any, dtype: Any) -> Any:
    """Return a copy of nested dataclasses and tuples, with every tensor of another dtype."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _cast(getattr(value, field.name), dtype) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(_cast(item, dtype) for item in value)
    return value.to(dtype) if hasattr(value, "to") else value
