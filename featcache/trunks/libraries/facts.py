"""What names the stores of a library's network, so that neither it nor its library need be loaded for it."""

import hashlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from featcache.files import read_file_stat
from featcache.media import ImageTransform
from featcache.trunks import TrunkSpec


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What names the stores of a network, and what `info` says of it."""

    sha256: str  # of the tensors
    transform: ImageTransform
    widths: dict[str, int]  # of `cls`, `mean`, `pooled`, and `tokens` laid flat; those that it has
    parameters: int
    config: str
    positions: Literal["own", "interpolated"] = "own"

    def to_json(self, arch: str) -> dict[str, Any]:
        """Return it as JSON values; the checked part of it is a spec's."""
        spec = TrunkSpec(
            arch=arch, weights_sha256=self.sha256, transform=self.transform, config=self.config,
            positions=self.positions,
        )  # fmt: skip
        return {"spec": spec.to_json(), "widths": self.widths, "parameters": self.parameters}

    @classmethod
    def from_json(cls, document: Any) -> "NetworkFacts | None":
        """Return what `to_json` wrote; None of anything else, which is then found once more."""
        try:
            spec = TrunkSpec.from_json(document["spec"])
            widths = {str(name): int(width) for name, width in document["widths"].items()}
            parameters = int(document["parameters"])
            return cls(spec.weights_sha256, spec.transform, widths, parameters, spec.config, spec.positions)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


_PACKAGES = {
    "": "torchvision", "timm": "timm", "hf": "transformers", "open_clip": "open_clip_torch", "module": "torch",
}  # fmt: skip


def library_version(library: str) -> str:
    """Return the version of a library that is installed, without importing it; "absent" where it is not."""
    try:
        return version(_PACKAGES[library])
    except PackageNotFoundError:
        return "absent"


def describe_files(folder: Path) -> str:
    """Return the size and time of each file of a network's folder, as one word."""
    stats = sorted((path.name, read_file_stat(str(path))) for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def describe_module(name: str) -> str:
    """Return the size and time of the file that an import path names, without importing it."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):
        return ""
    return repr(read_file_stat(found.origin)) if found is not None and found.origin else ""
