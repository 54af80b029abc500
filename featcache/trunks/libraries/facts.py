"""What names the stores of a library's network, so that neither it nor its library need be loaded for it."""

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from featcache.files import expand_home, read_file, read_file_stat
from featcache.media import ImageTransform
from featcache.recipe import CNN, find_network_object
from featcache.trunks import TrunkSpec
from featcache.trunks.libraries.import_path import describe_source as hash_stats
from featcache.trunks.libraries.import_path import hash_source


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


PACKAGES = {
    "": "torchvision", "timm": "timm", "hf": "transformers", "open_clip": "open_clip_torch", "module": "torch",
    CNN: "torch",
}  # fmt: skip


def library_version(library: str) -> str:
    """Return the version of a library that is installed, without importing it; "absent" where it is not."""
    try:
        return version(PACKAGES[library])
    except PackageNotFoundError:
        return "absent"


def describe_versions(library: str, name: str) -> dict[str, str]:
    """Return what is recorded with embeddings: the library's version; of a module of one's own, the hash of its code.

    That code is no part of a spec: where it has changed, a few images are compared with the rows that are there.

    Args:
        library: As `split_arch` gives it.
        name: Behind the library's prefix.
    """
    if library != "module":
        return {PACKAGES[library]: library_version(library)}
    module = find_network_object(name)
    path = name.partition(":")[0] if module is None else type(module).__module__
    return {path: hash_source(path)}


def describe_files(folder: Path) -> str:
    """Return the size and time of each file of a network's folder, as one word."""
    stats = sorted((path.name, read_file_stat(str(path))) for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def describe_source(library: str, name: str) -> list[str]:
    """Return words that change when what a name stands for does, where that lies on this machine.

    Args:
        library: As `split_arch` gives it. Of "hf" it is a folder's files, or the version in the hub's cache; of a
            module of one's own its file.
        name: Behind the library's prefix.
    """
    if library == "module":
        return [hash_stats(name)]
    if library != "hf":
        return []
    folder = Path(expand_home(name))
    return [str(folder.absolute()), describe_files(folder)] if folder.is_dir() else [describe_snapshot(name)]


def describe_snapshot(name: str) -> str:
    """Return which version of a network of the hub its cache holds, without importing the hub's library; "" for none.

    Args:
        name: ORG/NAME.
    """
    head = hub_cache() / f"models--{name.replace('/', '--')}" / "refs" / "main"
    try:
        return read_file(head, 100, follow_links=True).decode("ascii").strip()
    except (OSError, ValueError):
        return ""


def hub_cache() -> Path:
    """Return the folder in which Hugging Face's libraries keep what they fetch; nothing of them is imported."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(expand_home(cache))
