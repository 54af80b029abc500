"""An epoch that is recorded once and then run again as it stands: on CUDA, one graph of all its launches.

A step is some twenty small operations, and a GPU is through with them before Python has asked for them all. A CUDA
graph asks once: a replay launches the same kernels on the same memory with the same numbers from the host. So what is
recorded must

- ask the host for nothing while it runs: `HeadStack.begin_epoch` lays out an epoch's learning rates before it;
- stay where it is: weights, rates, scores; and `RowsInMemory` puts an epoch's order and labels where the last's were;
- be the same for each epoch but for what lies there: every shape and every offset, those of a last partial batch too.

The first epoch runs as it is asked for, which readies what a recording may not (cuBLAS, lazily loaded kernels); before
the second it is recorded, which computes nothing.
"""

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Generic, TypeVar

import torch

# Steps of an epoch that is recorded: a graph takes memory for each launch, on the host too, and twenty a step make
# 50,000. With so many steps an epoch takes long enough as it is.
MAX_RECORDED_STEPS = 2_500

Epoch = TypeVar("Epoch")
Result = TypeVar("Result")

# Takes note of what a function asks of the device, without doing it, and returns what does it.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


class EpochReplay(Generic[Epoch, Result]):
    """`run(epoch)`, epoch after epoch, by a recording from the second on where there is a recorder."""

    def __init__(self, run: Callable[[Epoch], Result], recorder: Recorder | None) -> None:
        self.run, self.recorder = run, recorder
        self.epochs = 0  # that were asked for
        self.replay: Callable[[], None] | None = None

    def __call__(self, epoch: Epoch) -> Result:
        """Return what `run(epoch)` returns; tensors in it lie in the recording's memory, valid until the next epoch.

        Warns:
            RuntimeWarning: the epoch could not be recorded; this one and all others run as they are asked for.
        """
        self.epochs += 1
        if self.epochs == 2 and self.recorder is not None:
            self._record(self.recorder, epoch)
        if self.replay is None:
            return self.run(epoch)
        self.replay()
        return self.recorded_result

    def _record(self, recorder: Recorder, epoch: Epoch) -> None:
        """Record an epoch; where that fails, warn, and leave `replay` as it is."""

        def run_and_keep() -> None:
            self.recorded_result = self.run(epoch)

        try:
            self.replay = recorder(run_and_keep)
        except RuntimeError as error:  # torch's own are its children: of CUDA, of memory
            why = str(error.__context__ or error).partition("\n")[0]  # the first fault, not what came of it
            warnings.warn(f"the heads train without a CUDA graph, more slowly: {why}", RuntimeWarning, stacklevel=3)


def capture_graph(device: torch.device, run: Callable[[], None]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of what `run` launches, with memory of its own for what is computed on the way.

    Raises:
        RuntimeError: something in it cannot be captured; nothing was computed, and the current stream is what it was.
    """
    graph = torch.cuda.CUDAGraph()
    # Where a capture fails, torch.cuda.graph leaves its own stream the current one. What torch keeps for all later
    # captures must be no inference tensor (pytorch #166792). Other threads may go on using CUDA meanwhile.
    with (
        torch.cuda.device(device),
        torch.cuda.stream(torch.cuda.current_stream(device)),
        torch.inference_mode(mode=False),
        torch.cuda.graph(graph, stream=_side_stream(device), capture_error_mode="thread_local"),
        torch.inference_mode(),
    ):
        run()
    return graph.replay


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of all captures on a device: cuBLAS keeps a workspace for each stream that it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


RECORDERS: dict[str, Callable[[torch.device, Callable[[], None]], Callable[[], None]]] = {"cuda": capture_graph}


def find_recorder(device: torch.device) -> Recorder | None:
    """Return what records epochs on this device; None where each runs as it is asked for."""
    record = RECORDERS.get(device.type)
    return None if record is None else partial(record, device)
