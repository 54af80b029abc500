"""The devices of one command: each embeds one batch after the other, while the main loop fills the next."""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featcache.trunks import EngineChoice, TrunkSpec

BUFFERS = 2  # of each device: one is filled while the other is embedded

Pixels = npt.NDArray[np.uint8]  # (rows, 3, crop, crop), or (rows, …) of `featcache.media.jpeg`
Embeddings = npt.NDArray[np.float32]  # (rows, dim)


class Embedder(Protocol):
    """A trunk on a device: in this process, or in one of its own."""

    @property
    def spec(self) -> TrunkSpec:
        """The trunk's identity."""

    @property
    def device(self) -> str:
        """As torch calls it."""

    @property
    def batch_size(self) -> int:
        """Images in one forward; it shrinks where memory runs out."""

    @property
    def engine(self) -> EngineChoice:
        """How the forward is run."""

    def buffer(self) -> Pixels:
        """Memory for one batch from which the device copies fast."""

    def upload(self, pixels: Pixels) -> Any:
        """Begin to copy a buffer's rows to the device, beside what it computes; for `embed`."""

    def embed(self, pixels: Any) -> Embeddings:
        """Pixels, or what `upload` made of them; in their order."""

    def made(self) -> dict[str, Any]:
        """Versions and hardware."""


class Device:
    """One trunk and the one thread that touches it: what is compiled belongs to the thread that compiled it."""

    def __init__(
        self,
        load: Callable[[], Embedder],
        kill: Callable[[], None] = lambda: None,
        clear: Callable[[], None] = lambda: None,
    ) -> None:
        """`load` runs in the device's thread; `kill` ends what that thread waits for, `clear` what is left then."""
        self._kill, self._clear = kill, clear
        self._thread = ThreadPoolExecutor(1, "device")
        self._trunk = self._thread.submit(load)

    @property
    def trunk(self) -> Embedder:
        """The trunk, waited for where it is still being loaded; to be asked, not to embed: see `embed`."""
        return self._trunk.result()

    @property
    def spec(self) -> TrunkSpec:
        """The trunk's identity."""
        return self.trunk.spec

    @property
    def batch_size(self) -> int:
        """The most images that `embed` is given."""
        return self.trunk.batch_size

    def made(self) -> dict[str, Any]:
        """Versions and hardware."""
        return self.trunk.made()

    def embed(self, pixels: Pixels) -> Embeddings:
        """Embed a few images, and wait for it."""
        return self._thread.submit(self.trunk.embed, pixels).result()

    def begin(self, task: Callable[[Embedder], Embeddings]) -> Future[Embeddings]:
        """Do this with the trunk once what was begun before is done."""
        return self._thread.submit(lambda: task(self.trunk))

    def close(self) -> None:
        """End, whatever it is doing."""
        self._kill()
        self._thread.shutdown(cancel_futures=True)
        self._clear()


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """Memory for one batch of one device."""

    device: Device
    pixels: Pixels  # for batch_size images


class Devices:
    """Batches in, their embeddings out in the same order, whichever device was first."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self.all = tuple(devices)
        self._free: queue.SimpleQueue[Buffer] = queue.SimpleQueue()
        self._begun: deque[tuple[list[bytes], Future[Embeddings]]] = deque()

    def load(self) -> None:
        """Wait until every trunk is loaded.

        Raises:
            MachineError: the weights are out of reach, or a device or its process is.
        """
        for _ in range(BUFFERS):  # in turns, so that the first batches go to different devices
            for device in self.all:
                self._free.put(Buffer(device, device.trunk.buffer()))

    def buffer(self) -> Buffer:
        """A buffer to fill; waits where every device has its hands full."""
        return self._free.get()

    def submit(self, buffer: Buffer, digests: list[bytes], during: Callable[[], AbstractContextManager[None]]) -> None:
        """Embed the first rows of a buffer, one for each digest; `during` surrounds it in the device's thread."""
        batch = buffer.device.trunk.upload(buffer.pixels[: len(digests)])

        def embed(trunk: Embedder) -> Embeddings:
            try:
                with during():
                    return trunk.embed(batch)
            finally:
                self._free.put(buffer)

        self._begun.append((digests, buffer.device.begin(embed)))

    def finished(self, *, wait: bool = False) -> Iterator[tuple[list[bytes], Embeddings]]:
        """What is embedded, in the order in which it was submitted; with `wait`, all of it.

        Raises:
            MachineError: a device has no memory for one image, or its process has died.
        """
        while self._begun and (wait or self._begun[0][1].done()):
            digests, embeddings = self._begun[0]
            found = embeddings.result()  # Ctrl-C while it is waited for leaves the batch to `rescue`
            self._begun.popleft()
            yield digests, found

    def rescue(self, *, wait: bool) -> Iterator[tuple[list[bytes], Embeddings]]:
        """What is embedded of all that was submitted, where a run ends early; without `wait`, what is not begun is
        not done any more.
        """
        if not wait:
            for _, embeddings in self._begun:
                embeddings.cancel()
        while self._begun:
            digests, embeddings = self._begun.popleft()
            if not embeddings.cancelled() and embeddings.exception() is None:
                yield digests, embeddings.result()

    def made(self) -> dict[str, Any]:
        """Versions and hardware; where devices differ, the words of each, and the smallest batch."""
        makings = [device.made() for device in self.all]
        words = {key: ", ".join(dict.fromkeys(made[key] for made in makings)) for key in ("device", "engine")}
        return makings[0] | words | {"batch_size": min(made["batch_size"] for made in makings)}

    def different(self) -> list[Device]:
        """A device of each kind that there is."""
        return list({repr(device.made()): device for device in reversed(self.all)}.values())[::-1]

    def engine(self) -> str:
        """How the forward runs and why, in words."""
        said = dict.fromkeys(device.trunk.engine.sentence() for device in self.all)
        return "; ".join(said) + (f", on each of {len(self.all)} devices" if len(self.all) > 1 else "")

    def name(self) -> str:
        """A device as a person calls it."""
        kind = self.all[0].trunk.device.partition(":")[0]
        one = "GPU" if kind == "cuda" else kind.upper()
        return one if len(self.all) == 1 else f"average {one}"
