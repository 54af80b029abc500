"""The folder of a model: its name, which stands for everything that made it, and how its files are published."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featcache.files import make_folder, publish, seal_document
from featcache.heads import HeadConfig
from featcache.store import FeatureStore


def heads_folder(store: FeatureStore, data_set: str, variant: str) -> Path:
    """Return the folder in which the models of a data set are kept, heads and classifiers alike.

    Args:
        store: The store that they were trained on.
        data_set: The data set's name in the cache.
        variant: The name of its variant: fold, view, cap, stride, assigned splits.
    """
    return store.root / "heads" / data_set / variant


def hashed_name(words: str, made_from: Mapping[str, Any]) -> str:
    """Return a folder's name: words for a person, and the start of a hash over all that the model was made from."""
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return f"{words}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def publish_model(
    folder: Path, files: Mapping[str, bytes], document_name: str, document: Mapping[str, Any]
) -> None:  # fmt: skip
    """Write the files of a model and, last of all, its document: a folder without one is no model.

    Raises:
        MachineError: the disk refuses.
    """
    make_folder(folder)
    for name, data in files.items():
        publish(folder / name, data, replace=True)
    publish(folder / document_name, seal_document(dict(document)), replace=True)


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages by name; one that is no installed distribution is left out."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a module of the user's own
            continue
    return versions


def head_name(
    config: HeadConfig, sources: Mapping[str, Mapping[str, str]], finetuned: Mapping[str, Any] | None = None
) -> str:
    """Return the name of a head's folder: its settings in words, and a hash over them, the trunk and the listings.

    Args:
        config: Its settings.
        sources: Of each split, where it came from.
        finetuned: How its trunk was trained with it, as head.json has it; None or {} where that was frozen.
    """
    made_from: dict[str, Any] = {
        "config": config.changed, "sources": {split: dict(source) for split, source in sources.items()},
    }  # fmt: skip
    if not finetuned:
        return hashed_name(config.name, made_from)
    start = str(finetuned.get("start", "")).partition(" ")[0]
    part = [f"unfreeze{finetuned['unfreeze']}"] if "unfreeze" in finetuned else []
    words = "-".join(["finetune", start, *part, f"lr{config.lr:.15g}"])
    settings = {name: value for name, value in finetuned.items() if name != "weights"}  # a path: what they are counts
    return hashed_name(words, {**made_from, "finetuned": settings})
