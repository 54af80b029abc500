"""A loaded, frozen trunk on a device: uint8 pixels in, embeddings out."""

import warnings
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featcache.errors import MachineError
from featcache.machine import keep_large_blocks
from featcache.trunks import engines
from featcache.trunks.hardware import BATCH, device_name, require_decoder
from featcache.trunks.parts import MEASURED_FROM, choose_part, pack_weights
from featcache.trunks.source import TrunkSource
from featcache.trunks.spec import TrunkSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class UploadedBatch:
    """A batch on its way to a device."""

    pixels: "Tensor"  # (n, 3, crop, crop) uint8, on the device; or as they were given, where that is done later
    refused: tuple[int, ...] = ()  # those that the device cannot decode
    ready: Any = None  # on CUDA, the event that the copy is waited for by


@dataclass(slots=True, eq=False)
class Trunk:
    """A loaded, frozen trunk on one device."""

    spec: TrunkSpec
    device: str
    batch_size: int  # images that are embedded at a time; halved where the device's memory runs out
    network: Any  # vit.ViT, or a LibraryNetwork
    engine: engines.EngineChoice = field(default_factory=lambda: engines.EngineChoice("eager", "as requested"))
    forward: Any = None  # the network as its engine runs it, see `prepare`; None: as it is
    copies: Any = None  # on CUDA, the stream of `upload`
    part: int = 0  # images of each forward; 0: all of a batch
    pinned: Any = None  # on CUDA, the page-locked memory that batches are copied from

    def buffer(self) -> npt.NDArray[np.uint8]:
        """Return memory for one batch, (batch_size, *transform.shape) uint8.

        For CUDA it is page-locked, so that no other copy is made.
        """
        import torch

        shape = (self.batch_size, *self.spec.transform.shape)
        is_cuda = self.device.startswith("cuda")
        buffer: npt.NDArray[np.uint8] = torch.empty(shape, dtype=torch.uint8, pin_memory=is_cuda).numpy()
        return buffer

    def lock_pages(self, memory: npt.NDArray[np.uint8]) -> None:
        """Let CUDA copy from memory that is there already, as from a `buffer`; where it refuses, copies are slower.

        Args:
            memory: Of any shape, in one piece; it stays locked until the process ends. Off CUDA nothing is done to it.
        """
        import torch

        if self.device.startswith("cuda"):
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            runtime.cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)

    def upload(self, pixels: npt.NDArray[np.uint8]) -> UploadedBatch:
        """Begin to copy a batch to the device, or to decode it there, beside what it computes.

        It may be called in another thread. The pixels must stay as they are until the batch is embedded.

        Args:
            pixels: (n, *transform.shape) uint8; where they are not in page-locked memory, as a `buffer` is on CUDA,
                `embed` copies them.

        Returns:
            What `embed` takes.

        Raises:
            MachineError: the device's JPEG decoder fails.
        """
        import torch

        batch = torch.from_numpy(pixels)
        if not (self.device.startswith("cuda") and batch.is_pinned()):
            return UploadedBatch(batch)
        if self.copies is None:
            self.copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        try:
            with torch.inference_mode(), torch.cuda.stream(self.copies):
                on_device, refused = self._send(batch)
                return UploadedBatch(on_device, refused, self.copies.record_event())
        except torch.OutOfMemoryError:
            return UploadedBatch(batch)  # `embed` makes room

    def embed(self, pixels: npt.NDArray[np.uint8] | UploadedBatch) -> npt.NDArray[np.float32]:
        """Return the embeddings of images, `batch_size` of them at a time.

        Every forward is padded to the same number of images: kernels, and with them the order of sums, are chosen by
        shape, so that a row would otherwise depend on how many neighbours it has. Where the device's memory runs out,
        the batch is halved, for good, and the images are done again.

        Args:
            pixels: (n, *transform.shape) uint8, or what `upload` made of it.

        Returns:
            (n, dim) float32, dim being the sum of the layers' widths; of an image that the device cannot decode, a row
            of nan.

        Raises:
            MachineError: there is no memory for a single image, or the device's JPEG decoder fails.
        """
        import torch

        batch = pixels if isinstance(pixels, UploadedBatch) else UploadedBatch(torch.from_numpy(pixels))
        if batch.ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(batch.ready)
            batch.pixels.record_stream(stream)  # its memory is not given away while this stream reads it
        done: list[npt.NDArray[np.float32]] = []
        start = 0
        while start < len(batch.pixels):
            try:
                done.append(self._embed_batch(batch.pixels[start : start + self.batch_size]))
                start += len(done[-1])
            except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU's allocator raises a plain one
                if not is_out_of_memory(error):
                    raise
                self._halve()
        rows = np.concatenate(done)
        rows[list(batch.refused)] = np.nan
        return rows

    def _embed_batch(self, images: "Tensor") -> npt.NDArray[np.float32]:
        import torch

        count = len(images)
        with torch.inference_mode():
            batch, refused = self._send(images)
            if missing := -count % (self.part or self.batch_size):
                batch = torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])])
            rows: npt.NDArray[np.float32] = (self.forward or self.network)(batch)[:count].cpu().numpy()
        rows[list(refused)] = np.nan
        return rows

    def _send(self, batch: "Tensor") -> "tuple[Tensor, tuple[int, ...]]":
        """Return a batch on the device, and which of it cannot be decoded there.

        To CUDA it goes from page-locked memory, which the copy engine reads without a detour.
        """
        import torch

        if batch.dim() == 2:
            from featcache.trunks import nvjpeg

            return nvjpeg.decode_rows(batch, self.spec.transform, self.device)
        if not self.device.startswith("cuda"):
            return batch.to(self.device), ()
        if not (batch.is_cuda or batch.is_pinned()):
            if self.pinned is None or self.pinned.shape != batch.shape:
                self.pinned = torch.empty(batch.shape, dtype=torch.uint8, pin_memory=True)
            batch = self.pinned.copy_(batch)  # the copy before this one is done: its embeddings have been read
        return batch.to(self.device, non_blocking=True), ()

    def _halve(self) -> None:
        import torch

        if self.batch_size == 1:
            raise MachineError(f"{self.device}: out of memory for a single image; try another --device") from None
        self.batch_size //= 2
        self.part = min(self.part, self.batch_size)
        self.pinned = None
        warnings.warn(f"{self.device} is out of memory: continuing with batches of {self.batch_size}", stacklevel=3)
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        self.prepare()

    def prepare(self) -> None:
        """Build the forward for this batch size; where the engine fails, it is eager from here on, with a warning."""
        import torch

        with torch.inference_mode():
            batch = torch.zeros(
                self.part or self.batch_size, 3, *self.spec.transform.input_size, dtype=torch.uint8, device=self.device
            )
            self.forward, self.engine = engines.build_forward(self.engine, self.network, batch)

    def provenance(self) -> dict[str, Any]:
        """Return versions and hardware: what is not keyed, and recorded instead."""
        packages = ("torch", "torchvision", "pillow", "numpy", "featcache")
        return {
            "device": device_name(self.device),
            "engine": self.engine.name,
            "batch_size": self.part or self.batch_size,
            "versions": {name: version(name) for name in packages} | dict(self.network.versions),
        }


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether this is what torch raises where a device's memory is spent.

    Args:
        error: It.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def load_trunk(
    source: TrunkSource,
    spec: TrunkSpec,
    *,
    device: str,
    layers: tuple[str, ...] = (),
    batch_size: int | None = None,
    engine: str = "eager",
    images: int = 0,
) -> Trunk:
    """Return the trunk on a device, ready to embed.

    Args:
        source: Its weights.
        spec: What it is to make.
        device: As torch calls it.
        layers: Which are read from each forward, side by side, in place of the spec's; none: that of the spec.
        batch_size: Images in one forward; None: the device's own number.
        engine: As `--engine` has it.
        images: How many there are to do: engine "auto" and the size of each forward depend on it.

    Raises:
        MachineError: the weights are out of reach, not those that the spec was made from, or no such device; or it
            is to decode images, and cannot.
    """
    import torch

    if source.tensors_sha256 != spec.weights_sha256:  # the spec may come from the memory of their hashes
        raise MachineError(
            f"weights {source.section.weights}: the file was replaced while this command ran; run it again"
        )
    require_decoder(spec.decoder, device)
    if spec.decoder == "nvjpeg":
        from featcache.trunks import nvjpeg

        nvjpeg.require_nvjpeg(device)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # of this thread: graphs are captured on the current device
    if device == "cpu":
        keep_large_blocks()
    network = source.build(spec, device, layers or (spec.layer,))
    choice = source.choose_engine(engine, device, images)
    if network.note:
        choice = replace(choice, why=f"{choice.why}; {network.note}")
    trunk = Trunk(spec, device, batch_size or BATCH[device.partition(":")[0]], network, choice)
    if choice.name == "eager" or network.part:
        trunk.part = choose_part(network, device, trunk.batch_size, images)
    if choice.name == "eager" and device == "cpu" and images >= MEASURED_FROM and not network.part:
        trunk.network = pack_weights(network, trunk.part)
    trunk.prepare()  # now, not at the first batch: what is recorded of a run is the engine that it has
    return trunk
