"""From a head that was examined to its page: the sweep's curves, the certificate, and how to make it again."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import featcache
from featcache.errors import CacheError
from featcache.heads import saved
from featcache.report.evaluate import BY, Examined
from featcache.report.page.charts import Curve
from featcache.report.page.page import Page


def page_of(found: Examined, by: str = BY[0]) -> Page:
    """All that the page of a head shows, by image or by clip."""
    answers = found.clips if by == "clip" and found.clips is not None else found.images
    check = found.run.check if found.run.best == found.head.name else None
    return Page(
        evaluation=found.evaluation(by),
        answers=answers,
        root=found.features.source["root"],
        videos=found.store.listing(found.asked.key(found.features.split)).listing.videos,
        curves=tuple(_curves(found)),
        check=check,
        check_note="" if check else _no_check(found),
        train=_train(found),
        commands=tuple(_commands(found, by)),
        made=tuple(_made(found)),
        recipe=json.dumps(found.asked.recipe.model_dump(mode="json"), indent=2, ensure_ascii=True),
    )


def _curves(found: Examined) -> Iterator[Curve]:
    """The history of every head of the run; a head is named by its learning rate, where that tells them apart."""
    folder = found.head.folder.parent
    rates = []
    for name in found.run.heads:
        try:
            rates.append(f"lr {saved.load(folder / name).head.config.lr:g}")
        except CacheError:
            rates.append(name)  # it is gone or damaged: its history may still be there
    labels = rates if len(set(rates)) == len(rates) else list(found.run.heads)
    for name, label in zip(found.run.heads, labels, strict=True):
        columns = saved.history(folder / name)
        if columns.get("epoch"):
            epochs = tuple(int(epoch) for epoch in columns["epoch"])
            yield Curve(label, name == found.head.name, epochs, columns)


def _no_check(found: Examined) -> str:
    if found.run.best != found.head.name:
        return "Not known: the check is made of the best head of a fit-head, and this is another one of its sweep."
    return "Not known: fit-head was told to leave the check out (--no-check)."


def _train(found: Examined) -> tuple[int, ...]:
    key = found.asked.key("train")
    if key not in found.store.listings:
        return ()
    train = found.store.listing(key)
    if train.listing.classes != found.features.classes:
        return ()
    return tuple(train.listing.take(train.good).support().tolist())


def _commands(found: Examined, by: str) -> Iterator[str]:
    """The commands that make this report again, on a cache of their own; paths as they were typed."""
    asked, config = found.asked, found.head.head.config
    where = [(f"--{flag}", getattr(asked, flag)) for flag in ("pipeline", "data", "name") if getattr(asked, flag)]
    trunk = found.store.trunk
    precision = {"float32": "fp32", "bfloat16": "bf16"}[trunk.spec.compute]
    stored = [] if trunk.spec.stored == "float32" else [("--stored", trunk.spec.stored)]
    yield _typed("extract", where, [("--arch", trunk.spec.arch), ("--weights", trunk.asked), ("--precision", precision),
                                    *stored])  # fmt: skip
    rates = [name.split("-")[0].removeprefix("lr") for name in found.run.heads]
    rest = [
        (f"--{key.replace('_', '-')}", value)
        for key, value in asdict(config).items()
        if key in ("epochs", "batch_size", "momentum", "weight_decay", "clip_norm", "seed") and value is not None
    ]
    yield _typed("fit-head", where, [*(("--lr", rate) for rate in rates), *rest])
    clips = [("--by", "clip"), ("--clip-rule", found.clips.rule)] if by == "clip" and found.clips else []
    yield _typed(f"report {shlex.quote(found.head.name)}", where, [("--split", found.features.split), *clips,
                                                                    ("--html", "report.html")])  # fmt: skip


def _typed(command: str, *flags: list[tuple[str, Any]]) -> str:
    return " ".join(
        ["featcache", command, *(f"{name} {shlex.quote(str(value))}" for part in flags for name, value in part)]
    )


def _made(found: Examined) -> Iterator[tuple[str, str]]:
    """What must be the same for the same figures, and on what it was made."""
    source, trunk, config = found.features.source, found.store.trunk, found.head.head.config
    yield "data set", f"{source['data_set']}, {source['variant']}"
    yield "images", source["root"]
    yield "store", found.store.name
    yield "trunk", trunk.spec.fingerprint()
    for name, value in _flat(trunk.spec.to_json()):
        yield f"trunk: {name}", value
    yield "weights asked for", trunk.asked
    for split, where in found.head.sources.items():
        yield f"listing of {split}", where["listing"]
    if found.features.split not in found.head.sources:
        yield f"listing of {found.features.split}", source["listing"]
    yield "head", ", ".join(f"{name} {value}" for name, value in asdict(config).items())
    yield "steps", f"{found.head.head.steps:,}"
    for number, made in enumerate(trunk.made, start=1):
        versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
        part = f" ({number})" if len(trunk.made) > 1 else ""
        yield f"embedded on{part}", f"{made['device']}, batches of {made['batch_size']}; {versions}"
    for name, value in saved.versions(found.head.folder).items():
        yield f"trained with: {name}", value
    yield "reported with", f"featcache {featcache.__version__}"


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)
