"""The parent's side of a trunk in a process of its own."""

import json
import mmap
import warnings
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import MachineError
from featcache.extraction.devices import BUFFERS, Embeddings, Pixels
from featcache.extraction.placement import Place
from featcache.extraction.trunk_worker import Shape, Slots
from featcache.loader import ended, hear, reap, shared_file, start, tell
from featcache.trunks import BATCH, EngineChoice, TrunkSource, TrunkSpec


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch that the process was asked for."""

    slot: int
    rows: int


class TrunkProcess:
    """A trunk that is asked over a pipe; pixels and embeddings pass through shared memory."""

    def __init__(
        self, source: TrunkSource, spec: TrunkSpec, place: Place, *, batch_size: int | None, engine: str, images: int
    ) -> None:
        """Start the process; see `load`.

        Raises:
            MachineError: there is no room for the memory, or no process.
        """
        self.spec, self.device = spec, place.device
        self.batch_size = batch_size or BATCH[place.device.partition(":")[0]]
        # One slot more than buffers, for pixels that stand elsewhere.
        shape: Shape = {
            "slots": BUFFERS + 1, "batch": self.batch_size, "image": spec.transform.shape, "dim": source.arch.dim,
        }  # fmt: skip
        section = source.section.model_dump()
        if source.kind == "file":
            section["weights"] = str(Path(section["weights"]).absolute())  # it runs in another folder
        settings = {
            "section": section, "spec": spec.to_json(), "cache": str(source.memo.cache.absolute()),
            "device": place.device, "cores": place.cores, "engine": engine, "images": images, "shape": shape,
        }  # fmt: skip
        self._file = shared_file(Slots.size(shape))
        self._slots = Slots(np.frombuffer(mmap.mmap(self._file.fileno(), 0), dtype=np.uint8), shape)
        self._free = count()  # buffers that were given away
        self._said: dict[str, Any] = {}
        try:
            self._process = start("extraction.trunk_worker", json.dumps(settings), self._file)
        except MachineError:
            self._file.close()
            raise

    def load(self) -> "TrunkProcess":
        """Wait until the trunk is loaded; itself.

        Raises:
            MachineError: it cannot be.
        """
        self._hear()
        return self

    @property
    def engine(self) -> EngineChoice:
        """How the forward is run."""
        return EngineChoice(*self._said["engine"])

    def made(self) -> dict[str, Any]:
        """Versions and hardware."""
        return {**self._said["made"], "engine": self.engine.name, "batch_size": self._said["batch_size"]}

    def buffer(self) -> Pixels:
        """The next slot."""
        slot: Pixels = self._slots.pixels[next(self._free)]
        return slot

    def upload(self, pixels: Pixels) -> Asked:
        """Ask for the first rows of a slot, or for at most a batch of others, to be embedded."""
        slot = (pixels.ctypes.data - self._slots.pixels.ctypes.data) // self._slots.pixels[0].nbytes
        if not 0 <= slot < BUFFERS:
            slot = BUFFERS
            self._slots.pixels[slot, : len(pixels)] = pixels
        with suppress(BrokenPipeError):  # its death shows where the answer is waited for
            tell(self._process, {"slot": slot, "rows": len(pixels)})
        return Asked(slot, len(pixels))

    def embed(self, pixels: Pixels | Asked) -> Embeddings:
        """Wait for the embeddings; answers come in the order of the questions.

        Raises:
            MachineError: the process has failed, or has died.
        """
        asked = pixels if isinstance(pixels, Asked) else self.upload(pixels)
        self._hear()
        return self._slots.embeddings[asked.slot, : asked.rows].copy()

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """Clear away the process, which was killed, and the memory."""
        reap(self._process)
        self._file.close()

    def _hear(self) -> None:
        """Take its next answer, and pass on its warnings."""
        try:
            while "warning" in (said := hear(self._process)):
                warnings.warn(said["warning"], RuntimeWarning, stacklevel=2)
        except EOFError:
            raise self._dead() from None
        if "failed" in said:
            raise MachineError(said["failed"])
        self._said |= said

    def _dead(self) -> MachineError:
        died = ended(self._process)  # its pipes stay open: a batch may be on its way to it
        return MachineError(
            f"the process of {self.device} has died ({died}); what was embedded is kept, the next run does the rest"
        )
