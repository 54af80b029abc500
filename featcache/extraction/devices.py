"""The devices of one command: each embeds one batch after the other, while the main loop fills the next."""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from featcache.media import View
from featcache.trunks import EngineChoice, TrunkSpec

BUFFERS = 2  # of each device: one is filled while the other is embedded

PixelBatch = npt.NDArray[np.uint8]  # (rows, 3, crop, crop), or (rows, …) of `featcache.media.jpeg`
EmbeddingBatch = npt.NDArray[np.float32]  # (rows, dim)


class ViewOfImage(NamedTuple):
    """What one row of a batch is."""

    digest: bytes  # of the image
    view: View | None  # which view of it; None: the plain image


class LoadedTrunk(Protocol):
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

    def buffer(self) -> PixelBatch:
        """Return memory for one batch from which the device copies fast."""

    def upload(self, pixels: PixelBatch) -> Any:
        """Begin to copy a buffer's rows to the device, beside what it computes; return what `embed` takes."""

    def embed(self, pixels: Any) -> EmbeddingBatch:
        """Return the embeddings of pixels, or of what `upload` made of them, in their order."""

    def provenance(self) -> dict[str, Any]:
        """Return versions and hardware."""


class Device:
    """One trunk and the one thread that touches it: what is compiled belongs to the thread that compiled it."""

    def __init__(
        self,
        load: Callable[[], LoadedTrunk],
        kill: Callable[[], None] = lambda: None,
        clear: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin to load the trunk.

        Args:
            load: Loads the trunk; it runs in the device's thread.
            kill: Ends what that thread waits for.
            clear: Ends what is left then.
        """
        self._kill, self._clear = kill, clear
        self._thread = ThreadPoolExecutor(1, "device")
        self._trunk = self._thread.submit(load)

    @property
    def trunk(self) -> LoadedTrunk:
        """The trunk, waited for where it is still being loaded; to look at, not to embed with: see `embed`."""
        return self._trunk.result()

    @property
    def spec(self) -> TrunkSpec:
        """The trunk's identity."""
        return self.trunk.spec

    @property
    def batch_size(self) -> int:
        """The most images that `embed` is given."""
        return self.trunk.batch_size

    def provenance(self) -> dict[str, Any]:
        """Return versions and hardware."""
        return self.trunk.provenance()

    def embed(self, pixels: PixelBatch) -> EmbeddingBatch:
        """Embed a few images, wait for it, and return their embeddings."""
        return self._thread.submit(self.trunk.embed, pixels).result()

    def begin(self, task: Callable[[LoadedTrunk], EmbeddingBatch]) -> Future[EmbeddingBatch]:
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
    pixels: PixelBatch  # for batch_size images


class DevicePool:
    """Batches in, their embeddings out in the same order, whichever device was first."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self.devices = tuple(devices)
        self._free: queue.SimpleQueue[Buffer] = queue.SimpleQueue()
        self._submitted: deque[tuple[list[ViewOfImage], Future[EmbeddingBatch]]] = deque()

    def load(self) -> None:
        """Wait until every trunk is loaded.

        Raises:
            MachineError: the weights are out of reach, or a device or its process is.
        """
        for _ in range(BUFFERS):  # in turns, so that the first batches go to different devices
            for device in self.devices:
                self._free.put(Buffer(device, device.trunk.buffer()))

    def buffer(self) -> Buffer:
        """Return a buffer to fill; wait for one where every device has its hands full."""
        return self._free.get()

    def submit(
        self, buffer: Buffer, images: list[ViewOfImage], during: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Embed the first rows of a buffer.

        Args:
            buffer: What `buffer` returned, filled.
            images: One for each row that is to be embedded.
            during: Its context surrounds the forward, in the device's thread.
        """
        batch = buffer.device.trunk.upload(buffer.pixels[: len(images)])

        def embed(trunk: LoadedTrunk) -> EmbeddingBatch:
            try:
                with during():
                    return trunk.embed(batch)
            finally:
                self._free.put(buffer)

        self._submitted.append((images, buffer.device.begin(embed)))

    def finished(self, *, wait: bool = False) -> Iterator[tuple[list[ViewOfImage], EmbeddingBatch]]:
        """Yield what is embedded, in the order in which it was submitted; with `wait`, all of it.

        Raises:
            MachineError: a device has no memory for one image, or its process has died.
        """
        while self._submitted and (wait or self._submitted[0][1].done()):
            images, future = self._submitted[0]
            embeddings = future.result()  # Ctrl-C while it is waited for leaves the batch to `rescue`
            self._submitted.popleft()
            yield images, embeddings

    def rescue(self, *, wait: bool) -> Iterator[tuple[list[ViewOfImage], EmbeddingBatch]]:
        """Yield what is embedded of all that was submitted, where a run ends early.

        Args:
            wait: Wait for all of it; else what is not begun is not done any more.
        """
        if not wait:
            for _, future in self._submitted:
                future.cancel()
        while self._submitted:
            images, future = self._submitted.popleft()
            if not future.cancelled() and future.exception() is None:
                yield images, future.result()

    def provenance(self) -> dict[str, Any]:
        """Return versions and hardware; where devices differ, the words of each, and the smallest batch."""
        entries = [device.provenance() for device in self.devices]
        words = {key: ", ".join(dict.fromkeys(entry[key] for entry in entries)) for key in ("device", "engine")}
        return entries[0] | words | {"batch_size": min(entry["batch_size"] for entry in entries)}

    def one_of_each_kind(self) -> list[Device]:
        """Return a device of each kind that there is."""
        return list({repr(device.provenance()): device for device in reversed(self.devices)}.values())[::-1]

    def describe_engine(self) -> str:
        """Return how the forward runs and why, in words."""
        sentences = dict.fromkeys(device.trunk.engine.sentence() for device in self.devices)
        return "; ".join(sentences) + (f", on each of {len(self.devices)} devices" if len(self.devices) > 1 else "")

    def has_faster_engine(self) -> bool:
        """Return whether another engine may be faster for as many images as are to be embedded."""
        return any(device.trunk.engine.is_worth_changing for device in self.devices)

    def describe_device(self) -> str:
        """Return a device as a person calls it: "CPU", "average GPU"."""
        kind = self.devices[0].trunk.device.partition(":")[0]
        name = "GPU" if kind == "cuda" else kind.upper()
        return name if len(self.devices) == 1 else f"average {name}"
