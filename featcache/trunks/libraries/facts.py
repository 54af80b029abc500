"""What names the stores of a library's network, so that neither it nor its library need be loaded for it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import UsageError
from featcache.files import read_file_stat
from featcache.media import ImageTransform
from featcache.trunks import TrunkSpec

if TYPE_CHECKING:
    from featcache.trunks.libraries.base import LoadedNetwork


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What names the stores of a network, and what `info` says of it."""

    sha256: str  # of the tensors
    transform: ImageTransform
    widths: dict[str, int]  # of `cls`, `mean`, `pooled`, and `tokens` laid flat; those that it has
    parameters: int
    config: str

    def to_json(self, arch: str) -> dict[str, Any]:
        """Return it as JSON values; the checked part of it is a spec's."""
        spec = TrunkSpec(arch=arch, weights_sha256=self.sha256, transform=self.transform, config=self.config)
        return {"spec": spec.to_json(), "widths": self.widths, "parameters": self.parameters}

    @classmethod
    def from_json(cls, document: Any) -> "NetworkFacts | None":
        """Return what `to_json` wrote; None of anything else, which is then found once more."""
        try:
            spec = TrunkSpec.from_json(document["spec"])
            widths = {str(name): int(width) for name, width in document["widths"].items()}
            return cls(spec.weights_sha256, spec.transform, widths, int(document["parameters"]), spec.config)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


PACKAGES = {
    "": "torchvision", "timm": "timm", "hf": "transformers", "open_clip": "open_clip_torch", "module": "torch",
}  # fmt: skip


def library_version(library: str) -> str:
    """Return the version of a library that is installed, without importing it; "absent" where it is not."""
    try:
        return version(PACKAGES[library])
    except PackageNotFoundError:
        return "absent"


def describe_files(folder: Path) -> str:
    """Return the size and time of each file of a network's folder, as one word."""
    stats = sorted((path.name, read_file_stat(str(path))) for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def measure_widths(network: "LoadedNetwork", layers: Sequence[str], arch: str) -> dict[str, int]:
    """Return the width of each of these layers that a network has, by one forward of a black image.

    Args:
        network: It, with its transform.
        layers: Names of layers.
        arch: What a message calls the network.

    Raises:
        UsageError: its forward fails on such an image, or it has no submodule of a name.
    """
    import torch

    from featcache.trunks.libraries.layers import LayerReader

    assert network.transform is not None  # noqa: S101 (one without is refused before)
    pixels = torch.zeros(1, 3, *network.transform.input_size)
    reader = LayerReader(network, [layer for layer in layers if layer.startswith("name:")])
    with torch.inference_mode():
        try:
            named = reader(pixels)
            maps = network.forward(pixels)
        except (RuntimeError, TypeError, ValueError) as error:  # a network that does not take what it is given
            raise UsageError(
                f"{arch}: its forward fails on images of {pixels.shape[3]} x {pixels.shape[2]}: "
                f"{str(error).splitlines()[0]}"
            ) from None
    widths = {layer: value[0].numel() for layer, value in zip(reader.layers, named, strict=True)}
    known = {
        "cls": maps.cls,
        "mean": None if maps.patches is None else maps.patches[:, 0],
        "pooled": maps.pooled,
        "tokens": maps.patches,
    }
    return widths | {name: value[0].numel() for name, value in known.items() if value is not None and name in layers}
