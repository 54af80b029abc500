"""The parent's side of a trunk in a process of its own."""

import json
import mmap
import os
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from featcache.errors import MachineError
from featcache.extraction.devices import BUFFERS, EmbeddingBatch, PixelBatch
from featcache.extraction.placement import Placement
from featcache.extraction.trunk_worker import BatchSlots, SlotLayout
from featcache.loader import create_shared_file, reap, recv, send, start_process, wait_for_end
from featcache.trunks import BATCH, EngineChoice, TrunkSource, TrunkSpec


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """A batch that the process was asked to embed."""

    slot: int
    rows: int


class TrunkProcess:
    """A trunk that gets requests over a pipe; pixels and embeddings pass through shared memory."""

    def __init__(
        self,
        source: TrunkSource,
        spec: TrunkSpec,
        placement: Placement,
        *,
        layers: tuple[str, ...],
        dim: int,
        batch_size: int | None,
        engine: str,
        images: int,
    ) -> None:
        """Start the process; see `load`.

        Args:
            source: The trunk.
            spec: What it is to make.
            placement: Where it runs.
            layers: Which are read from each forward, side by side.
            dim: How many numbers they have together.
            batch_size: Images in one forward; None: the device's own number.
            engine: As `--engine` has it.
            images: How many there are to do: engine "auto" depends on it.

        Raises:
            MachineError: there is no room for the memory, or no process.
        """
        self.spec, self.device = spec, placement.device
        self.batch_size = batch_size or BATCH[placement.device.partition(":")[0]]
        # One slot more than buffers, for pixels that stand elsewhere.
        layout: SlotLayout = {
            "slots": BUFFERS + 1, "batch": self.batch_size, "image": spec.transform.shape, "dim": dim,
        }  # fmt: skip
        settings = {
            "section": source.portable_settings(), "spec": spec.to_json(), "layers": layers, "folder": os.getcwd(),
            "path": sys.path, "cache": str(source.memo.cache.absolute()),
            "device": placement.device, "cores": placement.cores, "engine": engine, "images": images, "layout": layout,
        }  # fmt: skip
        self._file = create_shared_file(BatchSlots.size(layout))
        self._slots = BatchSlots(np.frombuffer(mmap.mmap(self._file.fileno(), 0), dtype=np.uint8), layout)
        self._next_buffer = count()
        self._state: dict[str, Any] = {}  # what the process has said of its trunk
        try:
            self._process = start_process("extraction.trunk_worker", json.dumps(settings), self._file)
        except MachineError:
            self._file.close()
            raise

    def load(self) -> "TrunkProcess":
        """Wait until the trunk is loaded, and return itself.

        Raises:
            MachineError: it cannot be.
        """
        self._recv()
        return self

    @property
    def engine(self) -> EngineChoice:
        """How the forward is run."""
        return EngineChoice(*self._state["engine"])

    def provenance(self) -> dict[str, Any]:
        """Return versions and hardware."""
        return {**self._state["provenance"], "engine": self.engine.name, "batch_size": self._state["batch_size"]}

    def buffer(self) -> PixelBatch:
        """Return the next slot."""
        slot: PixelBatch = self._slots.pixels[next(self._next_buffer)]
        return slot

    def upload(self, pixels: PixelBatch) -> SubmittedBatch:
        """Ask for the first rows of a slot, or for at most a batch of others, to be embedded."""
        slot = (pixels.ctypes.data - self._slots.pixels.ctypes.data) // self._slots.pixels[0].nbytes
        if not 0 <= slot < BUFFERS:
            slot = BUFFERS
            self._slots.pixels[slot, : len(pixels)] = pixels
        with suppress(BrokenPipeError):  # its death shows where the reply is waited for
            send(self._process, {"slot": slot, "rows": len(pixels)})
        return SubmittedBatch(slot, len(pixels))

    def embed(self, pixels: PixelBatch | SubmittedBatch) -> EmbeddingBatch:
        """Wait for the embeddings, and return them; replies come in the order of the requests.

        Raises:
            MachineError: the process has failed, or has died.
        """
        batch = pixels if isinstance(pixels, SubmittedBatch) else self.upload(pixels)
        self._recv()
        return self._slots.embeddings[batch.slot, : batch.rows].copy()

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """Clear away the process, which was killed, and the memory."""
        reap(self._process)
        self._file.close()

    def _recv(self) -> None:
        """Take the process's next reply, and pass on its warnings."""
        try:
            while "warning" in (reply := recv(self._process)):
                warnings.warn(reply["warning"], RuntimeWarning, stacklevel=2)
        except EOFError:
            raise self._death() from None
        if "failed" in reply:
            raise MachineError(reply["failed"])
        self._state |= reply

    def _death(self) -> MachineError:
        ending = wait_for_end(self._process)  # its pipes stay open: a batch may be on its way to it
        return MachineError(
            f"the process of {self.device} has died ({ending}); what was embedded is kept, the next run does the rest"
        )
