"""How a trunk's forward is run: eagerly, compiled by inductor, or by OpenVINO. Provenance, never identity.

An engine that cannot be had falls back to the eager forward with a warning: an extract is never lost to a compiler.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from featcache.text import counted

if TYPE_CHECKING:
    from torch import Tensor

    Forward = Callable[[Tensor], Tensor]


class Network(Protocol):
    """What an engine runs: uint8 pixels in, layers out."""

    @property
    def weight(self) -> "Tensor":
        """A tensor of its type, on its device."""

    def __call__(self, pixels: "Tensor") -> "Tensor":
        """(n, 3, height, width) uint8 -> (n, width) float32."""

    def in_float32(self) -> "AbstractContextManager[Network]":
        """Return the network with its weights in float32, for as long as the context lasts."""


ENGINES = ("auto", "eager", "compile", "openvino")

# From so many images on compiling pays: the minute or so that it costs (measured), times the images that the eager
# forward does in that time, over the share of time that it saves. docs/decisions/041.
PAYS = {"cuda": 50_000, "cpu": 5_000}
_DIAGONAL = 64  # numbers of a row that are multiplied together
_LEAST_COSINE = 0.99  # of an engine's embedding and eager's; bfloat16 gives 0.9997 and more
_REQUEST = 8  # images of one request to OpenVINO, of which several are on their way


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
        few = f"{counted(images, 'image')} {'is' if images == 1 else 'are'} fewer"
        why = f"{few} than the {PAYS[kind]:,} from which compiling pays"
        return EngineChoice("eager", why, is_worth_changing=False)
    if kind == "cuda":
        return EngineChoice("compile", f"{images:,} images pay for the compilation")
    if importlib.util.find_spec("openvino") is None:
        return EngineChoice("eager", "on a CPU only OpenVINO is faster, and it is not installed (featcache[openvino])")
    return EngineChoice("openvino", f"{images:,} images pay for building it")


def build_forward(choice: EngineChoice, network: "Network", pixels: "Tensor") -> tuple["Forward", EngineChoice]:
    """Return the forward of an engine, and which engine that is: eager, with a warning, where the chosen one fails.

    Args:
        choice: The engine that is meant.
        network: The trunk.
        pixels: As many images as each forward has, uint8, on which it is tried.

    Returns:
        What takes any multiple of so many images.
    """
    plain = run_in_parts(network, len(pixels))
    if choice.name == "eager":
        return plain, choice
    try:
        if choice.name == "compile":
            forward = run_in_parts(_compile(network), len(pixels))
            forward(pixels)
        else:
            forward = _convert_to_openvino(network, pixels[:_REQUEST])
            _compare(forward, network, pixels[:_REQUEST])
    except Exception as error:  # a compiler fails in any way that it likes
        reason = next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__
        warnings.warn(f"engine {choice.name} failed, continuing with eager: {reason}", RuntimeWarning, stacklevel=2)
        return plain, EngineChoice("eager", f"{choice.name} failed")
    return forward, choice


def run_in_parts(forward: "Forward", part: int) -> "Forward":
    """Return a forward of any multiple of so many images, that many at a time.

    Args:
        forward: Of so many images.
        part: How many.
    """
    import torch

    def run(pixels: "Tensor") -> "Tensor":
        return (
            forward(pixels) if len(pixels) == part else torch.cat([forward(few) for few in torch.split(pixels, part)])
        )

    return run


def _compile(network: "Network") -> "Forward":
    """Return inductor's forward; with CUDA graphs on a GPU, since the batch has one size all run long."""
    import torch

    if network.weight.device.type == "cuda":
        inner = torch.compile(network.__call__, mode="reduce-overhead", dynamic=False)

        def forward(pixels: "Tensor") -> "Tensor":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            rows: Tensor = inner(pixels).clone()  # the graph's own output is overwritten by the next batch
            return rows

        return forward
    return torch.compile(network.__call__, dynamic=False)


def _convert_to_openvino(network: "Network", pixels: "Tensor") -> "Forward":
    """Return OpenVINO's forward on the CPU, at the network's own precision, several requests at a time.

    By its frontend: `openvino.convert_model` traces three times more to check the trace, and reports its use to
    OpenVINO's makers.
    """
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    class Module(torch.nn.Module):
        def forward(self, pixels: "Tensor") -> "Tensor":
            rows: Tensor = plain(pixels)
            return _multiply_by_one(rows) if hint == "bf16" else rows

    hint = "bf16" if network.weight.dtype == torch.bfloat16 else "f32"
    frontend, unchecked = FrontEndManager().load_by_framework("pytorch"), {"check_trace": False}
    # What bfloat16 rounded stays rounded.
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings(), network.in_float32() as plain:
        warnings.simplefilter("ignore")  # OpenVINO traces by torch.jit.trace, which torch deprecates
        traced = TorchScriptPythonDecoder(Module(), example_input=pixels.clone(), trace_kwargs=unchecked)
        model = frontend.convert(frontend.load(traced))
    model.reshape(list(pixels.shape))
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
    queue = openvino.AsyncInferQueue(openvino.compile_model(model, "CPU", options))
    rows: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, number: rows.__setitem__(number, np.array(request.get_output_tensor(0).data)))

    def forward(batch: "Tensor") -> "Tensor":
        parts = torch.split(batch, len(pixels))
        for number, part in enumerate(parts):
            queue.start_async([np.ascontiguousarray(part.numpy())], number)
        queue.wait_all()
        return torch.from_numpy(np.concatenate([rows.pop(number) for number in range(len(parts))]))

    return forward


def _compare(forward: "Forward", network: "Network", pixels: "Tensor") -> None:
    """Raise a RuntimeError unless a forward gives the rows of the network, but for its rounding, on noise.

    A trace has what the network did on one batch, not what it may decide of another.

    Args:
        forward: What was made of its trace.
        network: The trunk.
        pixels: As many images as a request has; their shape counts.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    noise = torch.randint(0, 256, pixels.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    same = cosine_similarity(forward(noise).double(), network(noise).double(), dim=1)
    if not bool((same >= _LEAST_COSINE).all()):  # nan is no cosine
        raise RuntimeError("its embeddings are not those of the network")


def _multiply_by_one(rows: "Tensor") -> "Tensor":
    """Return the same rows by a product with ones on its diagonal, (n, width).

    In bfloat16 OpenVINO keeps float32 for all that comes behind the last product. In a network with residual
    connections that is every sum, which it converts there and back (docs/decisions/152).

    Args:
        rows: (n, width).
    """
    import torch

    count, width = rows.shape
    edge = math.gcd(width, _DIAGONAL)
    return (rows.reshape(count * (width // edge), edge) @ torch.eye(edge)).reshape(count, width)
