"""Which published weights are on this machine: in the caches of torch and of the hub, and where a cache knows."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from featcache.trunks import ARCHITECTURES, WeightsMemo
from featcache.trunks.libraries.facts import hub_cache
from featcache.trunks.libraries.weights_argument import PRETRAINED

_WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.pt")


def find_local_weights(names: Iterable[str], memo: WeightsMemo) -> dict[str, tuple[str, ...]]:
    """Return the weights that need no network, as `--weights` takes them, by the network's name.

    Args:
        names: Of the networks that libraries list.
        memo: The cache's memory of weights, with the files that it has seen.
    """
    here: dict[str, list[str]] = {}
    for arch, weights in [*_torchvision(), *_hub(frozenset(names)), *_remembered(memo)]:
        if weights not in here.setdefault(arch, []):
            here[arch].append(weights)
    return {arch: tuple(weights) for arch, weights in here.items()}


def _torchvision() -> Iterator[tuple[str, str]]:
    """Yield what torch.hub has fetched of torchvision's weights."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    files = {file.name for file in Path(home).expanduser().glob("hub/checkpoints/*.pth")}
    if not files:
        return
    import torchvision

    for arch in torchvision.models.list_models(module=torchvision.models):
        for entry in torchvision.models.get_model_weights(arch):
            if entry.url.rpartition("/")[2] in files:
                yield arch, entry.name


def _hub(names: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield the networks whose weights Hugging Face's cache holds: timm's by their names, others as hf:ORG/NAME."""
    for name in list_hub_models(hub_cache()):
        organisation, _, model = name.partition("/")
        if organisation == "timm":
            if f"timm:{model}" in names:
                yield f"timm:{model}", PRETRAINED
        else:
            yield f"hf:{name}", PRETRAINED


def list_hub_models(folder: Path) -> list[str]:
    """Return ORG/NAME of each model in a hub's cache that has a configuration and weights.

    Args:
        folder: As `hub_cache` returns it; it need not be there.
    """
    names = []
    for root in sorted(folder.glob("models--*--*")):
        snapshots = [path for path in root.glob("snapshots/*") if (path / "config.json").is_file()]
        if any(file.is_file() for path in snapshots for pattern in _WEIGHTS for file in path.glob(pattern)):
            names.append(root.name.removeprefix("models--").replace("--", "/", 1))
    return names


def _remembered(memo: WeightsMemo) -> Iterator[tuple[str, str]]:
    """Yield the files that a cache has seen, and that are still there."""
    for arch, asked, sha256 in memo.entries():
        settings: list[dict[str, Any]] = memo.settings_of(arch, sha256)
        files = [str(entry.get("weights", "")) for entry in settings] or ([asked] if arch in ARCHITECTURES else [])
        for file in files:
            if os.path.isabs(file) and os.path.exists(file):
                yield arch, file
