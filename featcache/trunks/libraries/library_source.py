"""A trunk of another library that is asked for but not yet loaded; of a known one the library is not imported."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MachineError, UsageError
from featcache.files import expand_home
from featcache.media import ImageTransform, View
from featcache.recipe import CNN, OWN_WEIGHTS, is_network_object
from featcache.trunks import (
    DECODERS,
    RANDOM,
    Compute,
    EngineChoice,
    TrunkSource,
    TrunkSpec,
    resolve_layers,
)
from featcache.trunks.libraries.facts import PACKAGES, NetworkFacts, describe_source, describe_versions, library_version
from featcache.trunks.libraries.layers import AUTO, check_layer
from featcache.trunks.libraries.registry import library_of, name_in_specs, split_arch
from featcache.trunks.libraries.stated_transform import describe_transform, state_transform
from featcache.trunks.libraries.weights_argument import PRETRAINED, name_weights

if TYPE_CHECKING:
    from torch import Tensor

    from featcache.trunks.libraries.base import LoadedNetwork

_OWNERS = {"module": "as the module says", CNN: "its own"}
_NAMING = {"image_size", "interpolate_positions", "transform", "cnn"}  # settings that say which network it is, too
_TORCHVISION_DEFAULT = "IMAGENET1K_V1"  # the recipe's default, which other libraries call otherwise


class LibrarySource(TrunkSource):
    """A network of timm, transformers, open_clip, torchvision's zoo, or one's own."""

    def _name_network(self) -> None:
        """Read from the section which network it is, and with which weights.

        Raises:
            UsageError: an empty name, or a layer that cannot be.
        """
        section = self.section
        self.library_name, self.model_name = split_arch(section.arch)
        self.arch_in_specs = name_in_specs(section.arch)
        self.weights = PRETRAINED if section.weights == _TORCHVISION_DEFAULT and self.library_name else section.weights
        self.weights, self.kind = name_weights(section.arch, self.weights)
        self.named_layers = tuple(check_layer(layer) for layer in section.layer)

    @property
    def arch_name(self) -> str:
        """The network's name in specs: of a folder, its own name alone."""
        return self.arch_in_specs

    @property
    def label(self) -> str:
        """The weights as a person names them; of a file, its name without the folder."""
        name = Path(self.weights).name if self.kind == "file" else self.weights
        return f"./{name}" if self.kind == "file" and name == RANDOM else name

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
        own = _OWNERS.get(self.library_name, f"as {PACKAGES[self.library_name]} has it for this network")
        return f"{describe_transform(self.transform)}, {'as typed' if self.section.transform else own}"

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are kept, in their order, each once; "auto" is the class token, where there is one."""
        if AUTO not in self.named_layers:
            return resolve_layers(self.named_layers)
        auto = "cls" if "cls" in self.facts.widths else "pooled"
        return resolve_layers([auto if layer == AUTO else layer for layer in self.named_layers])

    def layer_width(self, layer: str) -> int:
        """Return how many numbers a layer has; the network is loaded where only a forward tells that.

        Args:
            layer: As "cls".

        Raises:
            UsageError: the network has no such layer.
            MachineError: as `loaded`.
        """
        widths = self.facts.widths
        if layer in widths:
            return widths[layer]
        if "@" in layer or layer.startswith(("grid", "name:")):
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

        library, name = library_of(self.section.arch, self.section.cnn)
        size, interpolate = self.section.image_size, self.section.interpolate_positions
        network = library.load(name, expand_home(self.weights), size, interpolate=interpolate)
        self.unused = network.note
        transform = network.transform
        if self.section.transform:
            transform = state_transform(self.section.transform, transform)
        transform = transform or self.fixed_transform  # that of a store, where the network itself does not say
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
        state = self.loaded.module.state_dict() if self.loaded.named is None else self.loaded.named
        return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}

    @cached_property
    def facts(self) -> NetworkFacts:
        """What names its stores; remembered, so that a known network is not even imported."""
        is_object = is_network_object(self.arch_name)  # it is here, whole, and its transform may have changed
        known = None if is_object else self.memo.find_facts(self.arch_name, self._key, self.file)
        if (facts := NetworkFacts.from_json(known)) is not None:
            return facts
        network = self.loaded
        assert network.transform is not None  # noqa: S101 (`loaded` refuses it)
        facts = NetworkFacts(
            sha256=self.tensors_sha256,
            transform=network.transform,
            widths=self._probe(["cls", "mean", "pooled", "tokens"]),
            parameters=sum(value.numel() for value in network.module.parameters()),
            config=network.config,
            positions="interpolated" if network.is_interpolated else "own",
        )
        if is_object:
            return facts
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

    def spec(self, compute: Compute, layer: str | None = None, view: View | None = None) -> TrunkSpec:
        """Return the identity of what this trunk makes at a precision, as `TrunkSource.spec`.

        Args:
            compute: What the forward computes in, "float32" or "bfloat16".
            layer: Which of the layers; None: the first.
            view: Of each image; None: the plain one.

        Raises:
            FeatcacheError: as `loaded`.
        """
        spec = super().spec(compute, layer, view)
        return replace(spec, config=self.facts.config, positions=self.facts.positions)

    def choose(self, held: Sequence[TrunkSpec], device: Callable[[], str]) -> tuple[TrunkSpec, ...]:
        """Return the specs to use, as `TrunkSource.choose`; a module of one's own computes in float32 unless asked.

        Args:
            held: The specs of the stores that are there.
            device: Called for the device where that decides.

        Raises:
            FeatcacheError: as `loaded`.
        """
        if self.library_name == "module" and self.section.precision == "auto":
            return self.specs("float32")
        return super().choose(held, device)

    def build(self, spec: TrunkSpec, device: str, layers: tuple[str, ...]) -> Any:
        """Return the network on a device, at the spec's precision.

        Args:
            spec: What it is to make; of several layers, the spec of one of them.
            device: As torch calls it.
            layers: Which are kept, in this order.

        Raises:
            UsageError: it has no such layer.
            MachineError: as `loaded`.
        """
        import torch

        from featcache.trunks.libraries.running import build_network

        network, is_own = self.loaded, self.library_name == "module"
        del self.loaded  # its module is cast and moved now
        versions = describe_versions(self.library_name, self.model_name)
        return build_network(
            network, layers, spec.transform, dtype=getattr(torch, spec.compute), device=device, versions=versions,
            package="" if is_own else PACKAGES[self.library_name],
        )  # fmt: skip

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
        """Return the settings of the section, with what names the network and its weights from any folder.

        Raises:
            UsageError: it is a module that was handed over, which has no name in another process.
        """
        if is_network_object(self.arch_name):
            raise UsageError(
                f"{self.arch_name}: a module that is handed over runs on one device; name the one with device, or give "
                f"its import path as arch, package.module:callable, for several"
            )
        return {**super().portable_settings(), **self._settings()}

    def _probe(self, layers: Sequence[str]) -> dict[str, int]:
        """Return the width of each of these layers that the network has, by one forward of a black image."""
        from featcache.trunks.libraries.widths import measure_widths

        return measure_widths(self.loaded, layers, self.arch_name)

    def _settings(self) -> dict[str, Any]:
        """Return what names this network from any folder, in the words of a recipe."""
        arch, folder = self.section.arch, Path(self.model_name).expanduser()
        if self.library_name == "hf" and folder.is_dir():
            arch = f"hf:{folder.absolute()}"
        named = self.section.model_dump(include=_NAMING, exclude_defaults=True)
        return {"arch": arch, "weights": self.argument, **named}

    @cached_property
    def _key(self) -> str:
        """What stands for the network and its weights in the memory: their names, and all that may change the facts."""
        named = PRETRAINED if self.weights == OWN_WEIGHTS else self.argument  # "pretrained", as in earlier versions
        parts = [named, f"{self.library_name or 'torchvision'} {library_version(self.library_name)}"]
        parts += [f"torch {version('torch')}"] * (self.kind == "random")
        parts += [f"size {self.section.image_size}"] if self.section.image_size else []
        parts += ["interpolated"] * self.section.interpolate_positions
        parts += [f"transform {self.section.transform}"] * bool(self.section.transform)
        parts += [f"cnn {self.section.cnn}"] * (self.library_name == CNN)
        has_folder = self.kind == "file" and os.path.isdir(expand_home(self.weights))
        parts += describe_source(self.library_name, expand_home(self.weights) if has_folder else self.model_name)
        return " | ".join(parts)
