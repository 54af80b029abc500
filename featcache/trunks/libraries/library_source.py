"""A trunk of another library that is asked for but not yet loaded; of a known one the library is not imported."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from featcache.errors import MachineError, UsageError
from featcache.files import expand_home
from featcache.media import ImageTransform
from featcache.recipe import TrunkSection
from featcache.trunks import (
    DECODERS,
    RANDOM,
    EngineChoice,
    TrunkSource,
    TrunkSpec,
    WeightsMemo,
    hash_tensors,
)
from featcache.trunks.libraries.facts import PACKAGES, NetworkFacts, describe_files, library_version, measure_widths
from featcache.trunks.libraries.import_path import describe_source, hash_source
from featcache.trunks.libraries.layers import AUTO, check_layer
from featcache.trunks.libraries.registry import library_of, name_in_specs, split_arch
from featcache.trunks.libraries.stated_transform import describe_transform, state_transform
from featcache.trunks.libraries.weights_kind import PRETRAINED, weights_kind

if TYPE_CHECKING:
    from torch import Tensor

    from featcache.trunks.libraries.base import LoadedNetwork

_OWNERS = {"module": "as the module says"}
_TORCHVISION_DEFAULT = "IMAGENET1K_V1"  # the recipe's default, which other libraries call otherwise


class LibrarySource(TrunkSource):
    """A network of timm, transformers, open_clip, torchvision's zoo, or one's own."""

    def __init__(self, section: TrunkSection, memo: WeightsMemo, transform: ImageTransform | None = None) -> None:
        """Name a trunk; nothing is read yet.

        Args:
            section: The recipe's [trunk] section.
            memo: The cache's memory of weights' hashes.
            transform: That of a store that is there, where it is not to be what the weights would get today.

        Raises:
            UsageError: an empty name, or a layer that cannot be.
        """
        self.section, self.memo, self.fixed_transform = section, memo, transform
        self.library_name, self.model_name = split_arch(section.arch)
        self.arch_in_specs = name_in_specs(section.arch)
        self.weights = PRETRAINED if section.weights == _TORCHVISION_DEFAULT and self.library_name else section.weights
        self.kind: Literal["random", "file", "published"] = weights_kind(expand_home(self.weights))
        self.layers = tuple(check_layer(layer) for layer in section.layer)
        self._look_at_file()
        self.unused = ""

    @property
    def arch_name(self) -> str:
        """The network's name in specs: of a folder, its own name alone."""
        return self.arch_in_specs

    @property
    def label(self) -> str:
        """The weights as a person names them; of a file, its name without the folder."""
        if self.kind != "file":
            return self.weights
        name = Path(self.weights).name
        return f"./{name}" if name == RANDOM else name

    @property
    def argument(self) -> str:
        """What `--weights` takes for these weights in any folder."""
        return str(Path(self.weights).absolute()) if self.kind == "file" else self.weights

    @property
    def file(self) -> Path | None:
        """The file that holds the tensors, where one was named."""
        return Path(expand_home(self.weights)) if self.kind == "file" else None

    @property
    def transform(self) -> ImageTransform:
        """What is done to an image before the trunk sees it."""
        if self.fixed_transform is not None:
            return self.fixed_transform
        transform = replace(self.facts.transform, exif=self.section.exif, decoder=DECODERS[self.section.decode])
        if transform.decoder == "nvjpeg" and not transform.is_square_crop:
            raise UsageError(
                f"--decode gpu: it only cuts squares as torchvision does, and {self.arch_name} is given other pixels"
            )
        return transform

    @property
    def published(self) -> str:
        """The name of the published weights, or ""."""
        return self.weights if self.kind == "published" else ""

    @property
    def sentence(self) -> str:
        """Which transform images get, and why this one."""
        why = _OWNERS.get(self.library_name, f"as {PACKAGES[self.library_name]} has it for this network")
        why = "as typed" if self.section.transform else why
        return f"{describe_transform(self.transform)}, {why}"

    @property
    def width(self) -> int:
        """How many numbers the embedding has."""
        return self.layer_width(self.layer)

    @property
    def layer(self) -> str:
        """The layer that is kept, "auto" decided: the class token, where there is one."""
        first = self.layers[0]
        return first if first != AUTO else "cls" if "cls" in self.facts.widths else "pooled"

    def layer_width(self, layer: str) -> int:
        """Return how many numbers a layer has.

        Args:
            layer: Its name.

        Raises:
            UsageError: the network has no such layer.
        """
        widths = self.facts.widths
        if layer in widths:
            return widths[layer]
        if layer.startswith("grid") and "tokens" in widths:
            return widths["mean"] * int(layer.removeprefix("grid")) ** 2
        if "@" in layer and "mean" in widths:
            return widths["mean"]
        if layer.startswith("name:"):
            return self._probe([layer])[layer]
        raise UsageError(f"layer {layer}: {self.arch_name} has no such layer; it has {', '.join(widths)}")

    @property
    def frozen_parameters(self) -> int:
        """How many parameters it has, but for the classifier's."""
        return self.facts.parameters

    @cached_property
    def loaded(self) -> "LoadedNetwork":
        """The network with its weights, float32 on the CPU.

        Raises:
            UsageError: no such network, or no such weights.
            MachineError: the library is not installed; weights out of reach, damaged, or another network's; or its
                preprocessing cannot be reproduced.
        """
        from featcache.trunks.libraries import own_forward, pixels

        library, name = library_of(self.section.arch)
        network = library.load(name, expand_home(self.weights), self.section.image_size)
        self.unused = network.note
        transform = network.transform
        if self.section.transform:
            transform = state_transform(self.section.transform, transform)
        if transform is None:
            raise UsageError(f"{name}: {network.no_transform}")
        if not self.section.transform:
            pixels.require_equal_pixels(network, transform, self.arch_name)
        if isinstance(network.forward, own_forward.OwnForward):
            own_forward.require_repeatable(network.forward, transform.input_size)
        return replace(network, transform=transform)

    @cached_property
    def tensors(self) -> dict[str, "Tensor"]:
        """The frozen tensors, by the library's own names."""
        state = self.loaded.module.state_dict()
        return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}

    @cached_property
    def facts(self) -> NetworkFacts:
        """What names its stores; remembered, so that a known network is not even imported."""
        known = NetworkFacts.from_json(self.memo.find_facts(self.arch_name, self._key, self.file))
        if known is not None:
            return known
        network = self.loaded
        assert network.transform is not None  # noqa: S101 (`loaded` refuses it)
        facts = NetworkFacts(
            sha256=hash_tensors(self.tensors),
            transform=network.transform,
            widths=self._probe(["cls", "mean", "pooled", "tokens"]),
            parameters=sum(value.numel() for value in network.module.parameters()),
            config=network.config,
        )
        with contextlib.suppress(MachineError):  # a cache that cannot be written to can still be read
            self.memo.remember(
                self.arch_name, self.label, self.file, facts.sha256, vouched=False, before=self._before,
                read_at=self._named_at, key=self._key,
                facts={**facts.to_json(self.arch_name), "settings": self._settings()},
            )  # fmt: skip
        return facts

    @cached_property
    def sha256(self) -> str:
        """Of the tensors."""
        return self.facts.sha256

    def spec(self, compute: Literal["float32", "bfloat16"]) -> TrunkSpec:
        """Return the identity of what this trunk makes at a precision.

        Args:
            compute: What the forward computes in.
        """
        return TrunkSpec(
            arch=self.arch_name, weights_sha256=self.sha256, transform=self.transform, layer=self.layer,
            compute=compute, stored=self.section.stored, config=self.facts.config,
        )  # fmt: skip

    def choose(self, held: Sequence[TrunkSpec], device: Callable[[], str]) -> TrunkSpec:
        """Return the spec to use, as `TrunkSource.choose`; a module of one's own computes in float32 unless asked.

        Args:
            held: The specs of the stores that are there.
            device: Called for the device where that decides.
        """
        if self.library_name == "module" and self.section.precision == "auto":
            return self.spec("float32")
        return super().choose(held, device)

    def build(self, spec: TrunkSpec, device: str) -> Any:
        """Return the network on a device, at the spec's precision.

        Args:
            spec: What it is to make.
            device: As torch calls it.
        """
        import torch

        from featcache.trunks.libraries.network import LibraryNetwork

        network = self.loaded
        del self.loaded  # its module is cast and moved now
        versions = {PACKAGES[self.library_name]: library_version(self.library_name)}
        if self.library_name == "module":  # its code is no part of the spec: other code is held against the old rows
            versions = {self.model_name.partition(":")[0]: hash_source(self.model_name)}
        return LibraryNetwork(
            network, [spec.layer], spec.transform, dtype=getattr(torch, spec.compute), device=device, versions=versions
        )

    def choose_engine(self, engine: str, device: str, images: int) -> EngineChoice:
        """Return the engine, as `TrunkSource.choose_engine`; code of one's own is not compiled unasked.

        Args:
            engine: One of `ENGINES`.
            device: As torch calls it.
            images: How many there are to embed.
        """
        if self.library_name == "module" and engine == "auto":
            return EngineChoice("eager", "a module of your own is run as it is")
        return super().choose_engine(engine, device, images)

    def portable_settings(self) -> dict[str, Any]:
        """Return the settings of the section, with what names the network and its weights from any folder."""
        return {**super().portable_settings(), **self._settings()}

    def _probe(self, layers: Sequence[str]) -> dict[str, int]:
        """Return the width of each of these layers that the network has, by one forward of a black image."""
        return measure_widths(self.loaded, layers, self.arch_name)

    def _settings(self) -> dict[str, Any]:
        """Return what names this network from any folder, in the words of a recipe."""
        arch = self.section.arch
        folder = Path(self.model_name).expanduser()
        if self.library_name == "hf" and folder.is_dir():
            arch = f"hf:{folder.absolute()}"
        settings = {"arch": arch, "weights": self.argument}
        size = {"image_size": self.section.image_size} if self.section.image_size else {}
        return {**settings, **size, **({"transform": self.section.transform} if self.section.transform else {})}

    @cached_property
    def _key(self) -> str:
        """What stands for the network and its weights in the memory: their names, and all that may change the facts."""
        parts = [self.argument, f"{self.library_name or 'torchvision'} {library_version(self.library_name)}"]
        parts += [f"torch {version('torch')}"] if self.kind == "random" else []
        parts += [f"size {self.section.image_size}"] if self.section.image_size else []
        parts += [f"transform {self.section.transform}"] if self.section.transform else []
        folder = Path(self.model_name).expanduser()
        if self.library_name == "hf":
            folder = Path(expand_home(self.weights)) if self.kind == "file" and os.path.isdir(self.weights) else folder
            parts += [str(folder.absolute()), describe_files(folder)] if folder.is_dir() else []
        if self.library_name == "module":
            parts.append(describe_source(self.model_name))
        return " | ".join(parts)
