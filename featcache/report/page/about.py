"""From a head that was examined to its page: the sweep's curves, the certificate, and how to make it again."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import featcache
from featcache.errors import CacheError
from featcache.evaluation import BY, Examined
from featcache.heads import HeadConfig
from featcache.heads.saved import SavedClassifier, library_versions, load_head, read_history
from featcache.report.page.charts import Curve
from featcache.report.page.commands import commands
from featcache.report.page.page import Page


def page_of(found: Examined, by: str = BY[0]) -> Page:
    """All that the page of a head shows, by image or by clip."""
    answers = found.clips if by == "clip" and found.clips is not None else found.images
    check = found.which.check
    return Page(
        evaluation=found.evaluation(by),
        answers=answers,
        root=found.features.source["root"],
        videos=found.store.listing(found.asked.key(found.features.split)).listing.videos,
        curves=tuple(_curves(found)),
        check=check,
        check_note="" if check else _no_check(found),
        train=_train(found),
        commands=tuple(commands(found, by, list(_configs(found).values()))),
        made=tuple(_made(found)),
        recipe=json.dumps(found.asked.recipe.model_dump(mode="json"), indent=2, ensure_ascii=True),
    )


def _curves(found: Examined) -> Iterator[Curve]:
    """The history of every head of the run; a head is named by its learning rate, where that tells them apart."""
    configs = _configs(found)
    rates = {name: f"lr {config.lr:g}" for name, config in configs.items()}
    apart = len(set(rates.values())) == len(found.run.heads)
    for name in found.run.heads:
        columns = read_history(found.head.folder.parent / name)
        if columns.get("epoch"):
            label = rates[name] if apart else name.rpartition("-")[0] or name
            epochs = tuple(int(epoch) for epoch in columns["epoch"])
            yield Curve(label, name == found.head.name, epochs, columns)


def _configs(found: Examined) -> dict[str, HeadConfig]:
    """The settings of the heads of the run; those that are gone or damaged are left out."""
    configs = {}
    for name in found.run.heads:
        with contextlib.suppress(CacheError):  # no linear head among them, where it is another classifier's run
            configs[name] = load_head(found.head.folder.parent / name).head.config
    return configs


def _no_check(found: Examined) -> str:
    if isinstance(found.head, SavedClassifier):
        return "Not known: the check is made of linear heads, and this is another classifier."
    if found.run.best != found.head.name:
        return "Not known: the check is made of the best head of a fit-head, and this is another one of its sweep."
    return "Not known: fit-head left the check out (--no-check), or the training rows did not fit into memory."


def _train(found: Examined) -> tuple[int, ...]:
    key = found.asked.key("train")
    if key not in found.store.listings:
        return ()
    train = found.store.listing(key)
    if train.listing.classes != found.features.classes:
        return ()
    return tuple(train.listing.take(train.embedded).support().tolist())


def _made(found: Examined) -> Iterator[tuple[str, str]]:
    """What must be the same for the same figures, and on what it was made."""
    source, trunk = found.features.source, found.store.trunk
    yield "data set", f"{source['data_set']}, {source['variant']}"
    yield "images", source["root"]
    yield "store", found.store.name
    yield "trunk", trunk.spec.fingerprint()
    for name, value in _flat(trunk.spec.to_json()):
        yield f"trunk: {name}", value
    yield "weights asked for", trunk.weights_path or trunk.weights_name
    for split, where in found.head.sources.items():
        yield f"listing of {split}", where["listing"]
    if found.features.split not in found.head.sources:
        yield f"listing of {found.features.split}", source["listing"]
    if isinstance(found.head, SavedClassifier):
        yield (
            "classifier",
            ", ".join([found.head.kind, *(f"{key} {value}" for key, value in found.head.settings.items())]),
        )
    else:
        yield "head", ", ".join(f"{name} {value}" for name, value in asdict(found.head.head.config).items())
        yield "steps", f"{found.head.head.steps:,}"
    for number, made in enumerate(trunk.provenance, start=1):
        versions = ", ".join(f"{package} {version}" for package, version in made.get("versions", {}).items())
        part = f" ({number})" if len(trunk.provenance) > 1 else ""
        batches = f"batches of {made.get('batch_size', '?')}"
        yield f"embedded on{part}", f"{made.get('device', '?')}, {batches}; {versions}"
    by = found.head.versions if isinstance(found.head, SavedClassifier) else library_versions(found.head.folder)
    for name, value in by.items():
        yield f"trained with: {name}", value
    yield "reported with", f"featcache {featcache.__version__}"


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)
