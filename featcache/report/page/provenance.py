"""What a report was made from: for a reader in words, and for who makes it again with every hash and version."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import featcache
from featcache.evaluation import HeadOnSplit
from featcache.files import contract_home
from featcache.finetuning import read_augmentation
from featcache.heads.saved import SavedModel, is_function, settings_in_words
from featcache.recipe import FROM_SCRATCH
from featcache.store import FeatureStore, label_features
from featcache.trunks import DECODERS, PRECISION, RANDOM

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


def day(nanoseconds: int) -> str:
    """Return the day, in UTC, as "30 November 2026"; "" where there is none.

    Args:
        nanoseconds: since 1970, as `time.time_ns` counts; a damaged log may hold any number.
    """
    try:
        date = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}" if nanoseconds > 0 else ""


def describe_trunk(store: FeatureStore) -> str:
    """Return the trunk in words: "vit_b_16, weights IMAGENET1K_V1, computed in bfloat16".

    Args:
        store: whose trunk it is.
    """
    if len(store.parts) > 1:
        trunks = dict.fromkeys(map(describe_trunk, store.parts))
        return f"{label_features(store.parts)} of {' and of '.join(trunks)}"
    record = store.trunk
    name = record.weights_name
    weights = f"weights of the file {name}" if PurePath(name).suffix else f"weights {name}"
    weights = "random weights" if name == "random" else weights
    return f"{record.spec.arch}, {weights}, computed in {record.spec.compute}"


def describe_head(head: SavedModel) -> str:
    """Return the head in words: "linear, learning rate 0.03, epochs 20".

    Args:
        head: the model.
    """
    kind = "fine-tuned network" if head.command == "finetune" else head.kind
    return ", ".join([kind, *settings_in_words(head.settings)])


def describe_recipe(head_on_split: HeadOnSplit) -> str:
    """Return the recipe that makes this trunk and this head, with every setting, as JSON.

    Flags and the default grid may have said otherwise than the recipe that was read: what was made is what counts.

    Args:
        head_on_split: the head and the split.
    """
    store, head = head_on_split.store, head_on_split.head
    record = store.parts[0].trunk  # of several trunks a recipe names the first
    document = head_on_split.request.recipe.model_dump(mode="json")
    document["features"] = label_features(store.parts) if len(store.parts) > 1 else ""
    document["trunk"] |= {
        "arch": record.spec.arch,
        "weights": record.weights_path or record.weights_name,
        "precision": next(word for word, compute in PRECISION.items() if compute == record.spec.compute),
        "stored": record.spec.stored,
        "exif": record.spec.transform.exif,
        "decode": next(word for word, decoder in DECODERS.items() if decoder == record.spec.decoder),
    }
    section = document.pop("head")
    document["fit"] = {} if head.layer is not None or is_function(head.kind) else {head.kind: dict(head.settings)}
    if head.layer is not None:
        settings = asdict(head.layer.config)
        made = {name: value for name, value in settings.items() if name in section}
        listed = {name: [value] if isinstance(section[name], list) else value for name, value in made.items()}
        tuned = head.layer.finetuned
        document["head"] = section if tuned else section | listed
        if tuned:
            named = {**settings, **tuned}
            document["finetune"] |= {name: named[name] for name in document["finetune"] if name in named}
            document["augmentation"] = read_augmentation(str(tuned.get("augment", "none"))).model_dump(mode="json")
            document["trunk"]["weights"] = _first_weights(tuned, document["trunk"]["weights"])
    text = json.dumps(document, indent=2, ensure_ascii=True, default=str)
    return contract_home(text, escape=lambda path: json.dumps(path)[1:-1])


def _first_weights(finetuned: Mapping[str, Any], own: str) -> str:
    """Return which weights a trunk that was trained with its head began with; of a start from a head, its own now."""
    return RANDOM if finetuned["start"] == FROM_SCRATCH else str(finetuned.get("weights", own))


def list_origin(head_on_split: HeadOnSplit) -> Iterator[tuple[str, str]]:
    """Yield what a reader wants to know of the making: a name, and a value in words.

    Args:
        head_on_split: the head and the split.
    """
    source, parts = head_on_split.features.source, head_on_split.store.parts
    yield "images", source["root"]
    for transform in dict.fromkeys(part.trunk.spec.transform for part in parts):
        yield "preprocessing", f"resized to {transform.resize} pixels, {transform.crop} cut from the middle"
    yield from head_on_split.head.facts()
    yield from dict.fromkeys(origin for part in parts for origin in _embedded_on(part))


def list_provenance(head_on_split: HeadOnSplit) -> Iterator[tuple[str, str]]:
    """Yield what must be the same for the same figures: names, hashes and versions.

    Args:
        head_on_split: the head and the split.
    """
    head, features = head_on_split.head, head_on_split.features
    source, parts = features.source, head_on_split.store.parts
    yield "data set", f"{source['data_set']}, {source['variant']}"
    yield "head", head.name
    if len(parts) > 1:
        yield "features", label_features(parts)
    for store in parts:
        yield "store", store.name
        yield "trunk", store.fingerprint
        for name, value in _flatten(store.trunk.spec.to_json()):
            yield f"trunk: {name}", value
        yield "weights asked for", store.trunk.weights_path or store.trunk.weights_name
    for split, split_source in head.sources.items():
        yield f"listing of {split}", split_source["listing"]
    if features.split not in head.sources:
        yield f"listing of {features.split}", source["listing"]
    for name, value in head.versions.items():
        yield f"trained with: {name}", value
    yield "reported with", f"featcache {featcache.__version__}"


def _embedded_on(store: FeatureStore) -> Iterator[tuple[str, str]]:
    """Yield on which machine, and with which versions, each part of a store was made."""
    for place, part in enumerate(store.trunk.provenance, start=1):
        versions = ", ".join(f"{package} {version}" for package, version in part.get("versions", {}).items())
        numbered = f" ({place})" if len(store.trunk.provenance) > 1 else ""
        batches = f"batches of {part.get('batch_size', '?')}"
        yield f"embedded on{numbered}", f"{part.get('device', '?')}, {batches}; {versions}"


def _flatten(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of nested objects, each under the names that lead to it: "transform.resize"."""
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)
