"""What a recipe asks for -> a TrunkSpec (without torch, where its weights are known) -> a Trunk that embeds."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from featcache.errors import FeatcacheError, MachineError
from featcache.files import Stat, expand_home, stat_of
from featcache.media import Decoder, ImageTransform
from featcache.recipe import TrunkSection
from featcache.trunks import engines, weights
from featcache.trunks.architectures import RANDOM, Architecture, architecture, weights_kind
from featcache.trunks.hardware import BATCH, Compute, device_name, fast_precision, require_decoder
from featcache.trunks.spec import TrunkSpec
from featcache.trunks.weights_memo import WeightsMemo

if TYPE_CHECKING:
    from torch import Tensor

PRECISION: dict[str, Compute] = {"fp32": "float32", "bf16": "bfloat16"}
DECODERS: dict[Literal["exact", "fast", "gpu"], Decoder] = {
    "exact": "pillow",
    "fast": "pillow-fast",
    "gpu": "nvjpeg",
}


class TrunkSource:
    """A trunk that is asked for but not yet loaded; the tensors are read at most once, and only when needed."""

    def __init__(self, section: TrunkSection, memo: WeightsMemo, transform: ImageTransform | None = None) -> None:
        """`transform`: of a store that is there, where it is not to be what the weights would get today."""
        self.section, self.memo, self.fixed = section, memo, transform
        self.arch: Architecture = architecture(section.arch)
        self.kind = weights_kind(self.arch, section.weights)
        self.further = ""  # which other tensors the file holds; known once it was read

    @property
    def label(self) -> str:
        """The weights as a person names them; of a file, its name without the folder."""
        if self.kind != "file":
            return self.section.weights
        name = Path(self.section.weights).name
        return f"./{name}" if name in (RANDOM, *self.arch.published) else name

    @property
    def argument(self) -> str:
        """What `--weights` takes for these weights in any folder; of a file, its whole path."""
        return str(Path(self.section.weights).absolute()) if self.kind == "file" else self.section.weights

    @property
    def transform(self) -> ImageTransform:
        """What is done to an image before the trunk sees it: the weights' own, and what the recipe says."""
        if self.fixed is not None:
            return self.fixed
        own = self.arch.published[self.published].transform if self.published else self.arch.transform
        return replace(own, exif=self.section.exif, decoder=DECODERS[self.section.decode])

    @cached_property
    def published(self) -> str:
        """Torchvision's name of these weights, which brings their transform; "" where they have none."""
        if self.kind != "file" or self.file is None:
            return self.section.weights if self.kind == "published" else ""
        return weights.published_as(self.arch, self.file_sha256)

    @cached_property
    def file_sha256(self) -> str:
        """Of the bytes of the file, remembered by its stat; "" where there is none, or nothing to compare it with."""
        if self.kind != "file" or self.file is None or not self.arch.published or not self.file.is_file():
            return ""
        return self.memo.file_sha256(self.arch.name, self.file) or weights.sha256_of(self.file)

    @property
    def sentence(self) -> str:
        """Which transform images get, and why this one."""
        own = self.transform
        how = f"images are resized to {own.resize} pixels ({own.interpolation}) and cropped to {own.crop}"
        if self.kind == "file" and self.published:
            return f"{self.label} is torchvision's {self.published}, by its hash: {how}, as published with it"
        if self.kind == "file":
            return (
                f"{self.label} is no file that torchvision published for {self.arch.name}: {how}, the architecture's "
                f"default"
            )
        return f"{how}, {'as published with them' if self.published else 'the default of the architecture'}"

    @property
    def file(self) -> Path | None:
        """The file that holds (or would hold) the tensors; None for random ones."""
        return weights.file_of(self.arch, self.section.weights)

    @cached_property
    def tensors(self) -> dict[str, "Tensor"]:
        """The frozen tensors.

        Raises:
            MachineError: they are out of reach, damaged, or of another network.
        """
        found, self.further = weights.load_noted(self.arch, self.section.weights, self.transform.crop)
        return found

    @cached_property
    def sha256(self) -> str:
        """Of the tensors; remembered by the file's stat, so that a known file is not even opened."""
        asked = weights.memo_name(self.section.weights)
        file = self.file
        vouched = self.kind == "published"
        known = self.memo.find(self.arch.name, asked, file, vouched=vouched)
        if known is None:
            before = stat_of(str(file)) if file else None
            known = weights.digest(self.tensors)
            self.remember(asked, known, before)
        elif file is not None and self.file_sha256 and self.memo.file_sha256(self.arch.name, file) is None:
            with contextlib.suppress(MachineError):  # noted by an earlier version; where it cannot be, nothing is lost
                self.remember(asked, known, stat_of(str(file)))
        return known

    def remember(self, asked: str, sha256: str, before: Stat | None) -> None:
        """Note the hash of the tensors, and that of their file; `before`: its stat, when it was read."""
        vouched = self.kind == "published"
        self.memo.remember(
            self.arch.name, asked, self.file, sha256, vouched=vouched, before=before, file_sha256=self.file_sha256
        )

    def spec(self, compute: Compute) -> TrunkSpec:
        """The identity of what this trunk makes at a precision."""
        return TrunkSpec(
            arch=self.arch.name,
            weights_sha256=self.sha256,
            transform=self.transform,
            compute=compute,
            stored=self.section.stored,
        )

    def choose(self, held: Sequence[TrunkSpec], device: Callable[[], str]) -> TrunkSpec:
        """The spec to use: as typed; or with "auto" that of a store that fits otherwise, else what the device has."""
        if self.section.precision != "auto":
            return self.spec(PRECISION[self.section.precision])
        fitting = [spec for spec in map(self.spec, PRECISION.values()) if spec in held]
        return fitting[0] if len(fitting) == 1 else self.spec(fast_precision(device()))


def tensors_sha256(arch: str, file: str, memo: WeightsMemo) -> str:
    """The sha256 of an architecture's tensors in a file; what was read is remembered where the cache can be written.

    Raises:
        MachineError: it is no checkpoint of this architecture; the message says what it is.
    """
    source = TrunkSource(TrunkSection(arch=arch, weights=file), memo)
    before = stat_of(file)
    found = weights.digest(source.tensors)
    with contextlib.suppress(MachineError):  # a cache that cannot be written to can still be read
        source.remember(file, found, before)
    return found


def find_weights(spec: TrunkSpec, asked: str, memo: WeightsMemo, typed: str | None) -> TrunkSource | None:
    """The weights that made a spec: as typed, as the cache remembers where they were, or by their name.

    None where those are not here, or are others.

    Raises:
        FeatcacheError: what was typed is none of this architecture's.
    """
    remembered = [name for arch, name, sha256 in memo.entries() if (arch, sha256) == (spec.arch, spec.weights_sha256)]
    for name in [typed] if typed else [*remembered, asked]:
        name = RANDOM if name.startswith(f"{RANDOM} ") else name
        decode = next(word for word, decoder in DECODERS.items() if decoder == spec.decoder)
        try:
            section = TrunkSection(
                arch=spec.arch, weights=expand_home(name), stored=spec.stored, exif=spec.transform.exif, decode=decode
            )  # fmt: skip
            source = TrunkSource(section, memo, spec.transform)
            if source.spec(spec.compute) == spec:
                return source
        except FeatcacheError:
            if typed:
                raise
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Uploaded:
    """A batch on its way to a device."""

    pixels: "Tensor"  # (n, 3, crop, crop) uint8, on the device; or as they were given, where that is done later
    refused: tuple[int, ...] = ()  # those that the device cannot decode
    ready: Any = None  # on CUDA, the event that the copy is waited for by


@dataclass(slots=True, eq=False)
class Trunk:
    """A loaded, frozen trunk on one device."""

    spec: TrunkSpec
    device: str
    batch_size: int  # halved where the device's memory runs out
    network: Any  # vit.ViT
    engine: engines.EngineChoice = field(default_factory=lambda: engines.EngineChoice("eager", "as asked"))
    forward: Any = None  # the network as its engine runs it, see `prepare`; None: as it is
    copies: Any = None  # on CUDA, the stream of `upload`
    pinned: Any = None  # on CUDA, the page-locked memory that batches are copied from

    def buffer(self) -> npt.NDArray[np.uint8]:
        """Memory for one batch, (batch_size, *transform.shape); for CUDA page-locked: no other copy is made."""
        import torch

        shape = (self.batch_size, *self.spec.transform.shape)
        found: npt.NDArray[np.uint8] = torch.empty(
            shape, dtype=torch.uint8, pin_memory=self.device.startswith("cuda")
        ).numpy()
        return found

    def lock_pages(self, memory: npt.NDArray[np.uint8]) -> None:
        """Let CUDA copy from memory that is there already, as from a `buffer`; where it will not, copies are slower."""
        import torch

        if self.device.startswith("cuda"):
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            runtime.cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)

    def upload(self, pixels: npt.NDArray[np.uint8]) -> Uploaded:
        """Begin to copy a batch to the device, or to decode it there, beside what it computes.

        It may be called in another thread. The pixels must stay as they are until the batch is embedded.
        """
        import torch

        batch = torch.from_numpy(pixels)
        if not (self.device.startswith("cuda") and batch.is_pinned()):
            return Uploaded(batch)
        if self.copies is None:
            self.copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        try:
            with torch.inference_mode(), torch.cuda.stream(self.copies):
                there, refused = self._sent(batch)
                return Uploaded(there, refused, self.copies.record_event())
        except torch.OutOfMemoryError:
            return Uploaded(batch)  # `embed` makes room

    def embed(self, pixels: npt.NDArray[np.uint8] | Uploaded) -> npt.NDArray[np.float32]:
        """(n, *transform.shape) uint8, or what `upload` made of it -> (n, dim) float32, `batch_size` images at a time.

        Every forward is padded to the full batch: kernels, and with them the order of sums, are chosen by shape, so
        that a row would otherwise depend on how many neighbours it has. Where the device's memory runs out, the batch
        is halved, for good, and the images are done again. What the device cannot decode gets a row of nan.

        Raises:
            MachineError: there is no memory for a single image.
        """
        import torch

        given = pixels if isinstance(pixels, Uploaded) else Uploaded(torch.from_numpy(pixels))
        if given.ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(given.ready)
            given.pixels.record_stream(stream)  # its memory is not given away while this stream reads it
        done: list[npt.NDArray[np.float32]] = []
        start = 0
        while start < len(given.pixels):
            try:
                done.append(self._embed_batch(given.pixels[start : start + self.batch_size]))
                start += len(done[-1])
            except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU's allocator raises a plain one
                if not out_of_memory(error):
                    raise
                self._halve()
        rows = np.concatenate(done)
        rows[list(given.refused)] = np.nan
        return rows

    def _embed_batch(self, images: "Tensor") -> npt.NDArray[np.float32]:
        import torch

        count = len(images)
        with torch.inference_mode():
            batch, refused = self._sent(images)
            if count < self.batch_size:
                batch = torch.cat([batch, batch.new_zeros(self.batch_size - count, *batch.shape[1:])])
            rows: npt.NDArray[np.float32] = (self.forward or self.network)(batch)[:count].cpu().numpy()
        rows[list(refused)] = np.nan
        return rows

    def _sent(self, batch: "Tensor") -> "tuple[Tensor, tuple[int, ...]]":
        """A batch on the device, and which of it cannot be decoded there.

        To CUDA it goes from page-locked memory, which the copy engine reads without a detour.
        """
        import torch

        if batch.dim() == 2:
            from featcache.trunks import nvjpeg

            return nvjpeg.decode(batch, self.spec.transform, self.device)
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
        self.pinned = None
        warnings.warn(f"{self.device} is out of memory: going on with batches of {self.batch_size}", stacklevel=3)
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        self.prepare()

    def prepare(self) -> None:
        """Build the forward for this batch size; where the engine fails, it is eager from here on, with a warning."""
        import torch

        crop = self.spec.transform.crop
        with torch.inference_mode():
            batch = torch.zeros(self.batch_size, 3, crop, crop, dtype=torch.uint8, device=self.device)
            self.forward, self.engine = engines.build(self.engine, self.network, batch)

    def made(self) -> dict[str, Any]:
        """Versions and hardware: what is not keyed, and recorded instead."""
        packages = ("torch", "torchvision", "pillow", "numpy", "featcache")
        return {
            "device": device_name(self.device),
            "engine": self.engine.name,
            "batch_size": self.batch_size,
            "versions": {name: version(name) for name in packages},
        }


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is what torch raises where a device's memory is spent."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def load_trunk(
    source: TrunkSource,
    spec: TrunkSpec,
    *,
    device: str,
    batch_size: int | None = None,
    engine: str = "eager",
    images: int = 0,
) -> Trunk:
    """Put the trunk on a device, ready to embed; `images`, how many there are to do, decides engine "auto".

    Raises:
        MachineError: the weights are out of reach, not those that the spec was made from, or no such device; or it
            is to decode images, and cannot.
    """
    import torch

    from featcache.trunks import vit

    if weights.digest(source.tensors) != spec.weights_sha256:  # the spec may come from the memory of their hashes
        raise MachineError(
            f"weights {source.section.weights}: the file was replaced while this command ran; run it again"
        )
    require_decoder(spec.decoder, device)
    if spec.decoder == "nvjpeg":
        from featcache.trunks import nvjpeg

        nvjpeg.require(device)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # of this thread: graphs are captured on the current device
    network = vit.build(source.tensors, source.arch, spec.transform, dtype=getattr(torch, spec.compute), device=device)
    chosen = engines.choose(engine, device, images)
    trunk = Trunk(spec, device, batch_size or BATCH[device.partition(":")[0]], network, chosen)
    trunk.prepare()  # now, not at the first batch: what is recorded of a run is the engine that it has
    return trunk
