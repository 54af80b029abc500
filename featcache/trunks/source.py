"""What a recipe asks for -> a TrunkSpec, without torch where its weights are known."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from featcache.errors import MachineError
from featcache.files import now_ns
from featcache.media import Decoder, ImageTransform, View
from featcache.recipe import TrunkSection
from featcache.trunks import weights
from featcache.trunks.architectures import RANDOM, Architecture, architecture, weights_kind
from featcache.trunks.downloads import hash_weights_file
from featcache.trunks.engines import EngineChoice, choose_engine
from featcache.trunks.hardware import Compute, fast_precision
from featcache.trunks.spec import TrunkSpec
from featcache.trunks.views import list_views
from featcache.trunks.vit_layers import resolve_layers, stored_type, vit_layer_width
from featcache.trunks.weights_memo import WeightsMemo, look_at_settled

if TYPE_CHECKING:
    from torch import Tensor

PRECISION: dict[str, Compute] = {"fp32": "float32", "bf16": "bfloat16"}
DECODERS: dict[Literal["exact", "fast", "gpu"], Decoder] = {"exact": "pillow", "fast": "pillow-fast", "gpu": "nvjpeg"}


class TrunkSource:
    """A trunk that is asked for but not yet loaded; the tensors are read at most once, and only when needed."""

    def __init__(self, section: TrunkSection, memo: WeightsMemo, transform: ImageTransform | None = None) -> None:
        """Name a trunk; nothing is read yet.

        Args:
            section: The recipe's [trunk] section.
            memo: The cache's memory of weights' hashes.
            transform: That of a store that is there, where it is not to be what the weights would get today.

        Raises:
            UsageError: no such network, weights or layer.
        """
        self.section, self.memo, self.fixed_transform = section, memo, transform
        self._name_network()
        self._named_at, self._before = look_at_settled(self.file)  # before anything of it is read
        self.unused = ""  # which other tensors the file holds; known once it was read

    def _name_network(self) -> None:
        """Read from the section which network it is, and with which weights.

        Raises:
            UsageError: there is no such one.
        """
        self.arch: Architecture = architecture(self.section.arch)
        self.kind = weights_kind(self.arch, self.section.weights)

    @property
    def arch_name(self) -> str:
        """The network's name in specs."""
        return self.arch.name

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are kept, in their order, each once.

        Raises:
            MachineError: "auto" is among them, and the network has to be read for it, as `tensors`.
        """
        return resolve_layers(self.section.layer)

    @property
    def width(self) -> int:
        """How many numbers all layers have together."""
        return sum(map(self.layer_width, self.layers))

    def layer_width(self, layer: str) -> int:
        """Return how many numbers a layer has.

        Args:
            layer: As "cls".

        Raises:
            UsageError: the network has no such layer.
            MachineError: it has to be read for that, as `tensors`.
        """
        return vit_layer_width(self.arch, self.transform.crop, layer)

    @property
    def frozen_parameters(self) -> int:
        """How many parameters it has, but for the classifier's.

        Raises:
            MachineError: as `file_sha256`.
        """
        return self.arch.frozen_parameters(self.transform.crop)

    def build(self, spec: TrunkSpec, device: str, layers: tuple[str, ...]) -> Any:
        """Return the network on a device: uint8 pixels in, layers out, side by side.

        Args:
            spec: What it is to make; of several layers, the spec of one of them.
            device: As torch calls it.
            layers: Which are kept, in this order.

        Raises:
            MachineError: as `tensors`.
        """
        import torch

        from featcache.trunks import vit

        return vit.build(
            self.tensors, self.arch, spec.transform, dtype=getattr(torch, spec.compute), device=device, layers=layers
        )

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
        """What is done to an image before the trunk sees it: the weights' own, and what the recipe says.

        Raises:
            MachineError: as `file_sha256`.
        """
        if self.fixed_transform is not None:
            return self.fixed_transform
        own = self.arch.published[self.published].transform if self.published else self.arch.transform
        return replace(own, exif=self.section.exif, decoder=DECODERS[self.section.decode])

    @cached_property
    def published(self) -> str:
        """Torchvision's name of these weights, which brings their transform; "" where they have none.

        Raises:
            MachineError: as `file_sha256`.
        """
        if self.kind != "file" or self.file is None:
            return self.section.weights if self.kind == "published" else ""
        return weights.find_published_name(self.arch, self.file_sha256)

    @cached_property
    def file_sha256(self) -> str:
        """Of the bytes of the file, remembered by its stat; "" where there is none, or nothing to compare it with.

        Raises:
            MachineError: the file cannot be read.
        """
        if self.kind != "file" or self.file is None or not self.arch.published or not self.file.is_file():
            return ""
        return self.memo.file_sha256(self.arch.name, self.file) or hash_weights_file(self.file)

    @property
    def sentence(self) -> str:
        """Which transform images get, and why this one.

        Raises:
            MachineError: as `file_sha256`.
        """
        own = self.transform
        how = f"images are resized to {own.resize} pixels ({own.interpolation}) and cropped to {own.crop}"
        if self.kind == "file" and self.published:
            return f"{self.label} is torchvision's {self.published}, by its hash: {how}, as published with it"
        if self.kind == "file":
            return (
                f"{self.label}: {how}, the default of {self.arch.name}, because the file is none of those that "
                f"torchvision published; make sure that the weights were trained so"
            )
        return f"{how}, {'as published with them' if self.published else 'the default of the architecture'}"

    @property
    def file(self) -> Path | None:
        """The file that holds (or would hold) the tensors; None for random ones."""
        return weights.weights_path(self.arch, self.section.weights)

    @cached_property
    def tensors(self) -> dict[str, "Tensor"]:
        """The frozen tensors.

        Raises:
            MachineError: they are out of reach, damaged, or of another network.
        """
        tensors, self.unused = weights.load_with_note(self.arch, self.section.weights, self.transform.crop)
        return tensors

    @cached_property
    def tensors_sha256(self) -> str:
        """Of the tensors as they were read, 64 hex digits; raises as `tensors`."""
        return weights.hash_tensors(self.tensors)

    @cached_property
    def sha256(self) -> str:
        """Of the tensors; remembered by the file's stat, so that a known file is not even opened.

        Raises:
            MachineError: it is not remembered, and the tensors are out of reach, damaged, or of another network.
        """
        key = weights.memo_key(self.section.weights)
        file = self.file
        known = self.memo.find(self.arch.name, key, file, vouched=self.kind == "published")
        if known is None:
            weights.import_torch_beside(lambda: self.file_sha256)
            with weights.correct_other_network(self.section.weights, self.section.arch):
                known = self.tensors_sha256
            self.remember(key, known)
        elif file is not None and self.file_sha256 and self.memo.file_sha256(self.arch.name, file) is None:
            with contextlib.suppress(MachineError):  # noted by an earlier version; where it cannot be, nothing is lost
                self.remember(key, known)
        return known

    def remember(self, key: str, sha256: str) -> None:
        """Note the hash of the tensors, and that of their file.

        Args:
            key: What stands for the weights in the memory.
            sha256: Of the tensors, 64 hex digits.

        Raises:
            MachineError: the cache cannot be written to.
        """
        vouched = self.kind == "published"
        fetched = self._before is None  # then what was hashed is what stands there now
        self.memo.remember(
            self.arch.name, key, self.file, sha256, vouched=vouched, before=self._before,
            read_at=now_ns() if fetched else self._named_at, file_sha256=self.file_sha256,
        )  # fmt: skip

    def choose_engine(self, engine: str, device: str, images: int) -> EngineChoice:
        """Return how the forward is run, "auto" decided.

        Args:
            engine: One of `ENGINES`.
            device: As torch calls it.
            images: How many there are to embed.
        """
        return choose_engine(engine, device, images)

    def portable_settings(self) -> dict[str, Any]:
        """Return the settings of the section, with what names the weights from any folder."""
        return {**self.section.model_dump(exclude_defaults=True), "weights": self.argument}

    def spec(self, compute: Compute, layer: str | None = None, view: View | None = None) -> TrunkSpec:
        """Return the identity of what this trunk makes at a precision.

        Args:
            compute: What the forward computes in, "float32" or "bfloat16".
            layer: Which of the layers, which the network need not have (`layer_width` refuses it); None: the first.
            view: Of each image; None: the plain one.

        Raises:
            MachineError: as `sha256`.
        """
        layer = self.layers[0] if layer is None else layer
        return TrunkSpec(
            arch=self.arch_name, weights_sha256=self.sha256, transform=self.transform, layer=layer,
            compute=compute, stored=stored_type(self.section.stored, layer), view=view,
        )  # fmt: skip

    def specs(self, compute: Compute) -> tuple[TrunkSpec, ...]:
        """Return the identity of each layer of each view at a precision, in the order of `list_views` and `layers`.

        Args:
            compute: What the forward computes in, "float32" or "bfloat16".

        Raises:
            MachineError: as `sha256`.
        """
        return tuple(self.spec(compute, layer, view) for view in list_views(self.section) for layer in self.layers)

    def choose(self, held: Sequence[TrunkSpec], device: Callable[[], str]) -> tuple[TrunkSpec, ...]:
        """Return the spec of each layer of each view, all of one precision.

        It is as typed; or with "auto" that of a store that fits otherwise, else what the device is fast in.

        Args:
            held: The specs of the stores that are there.
            device: Called for the device where that decides.

        Raises:
            MachineError: as `spec`.
        """
        if self.section.precision != "auto":
            return self.specs(PRECISION[self.section.precision])
        fitting = [specs for specs in map(self.specs, PRECISION.values()) if any(spec in held for spec in specs)]
        return fitting[0] if len(fitting) == 1 else self.specs(fast_precision(device()))
