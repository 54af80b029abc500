"""From a head that was examined to its page: the sweep's curves, the certificate, and how to make it again."""

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

import featcache
from featcache.errors import CacheError
from featcache.heads import saved
from featcache.heads.classifiers.kept import SavedClassifier
from featcache.heads.config import HeadConfig
from featcache.report.evaluate import BY, Examined
from featcache.report.page.charts import Curve
from featcache.report.page.page import Page

_RECIPE_ONLY = ("plateau_epochs",)  # settings that have no flag; they stand among the head's


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
    configs = _configs(found)
    rates = {name: f"lr {config.lr:g}" for name, config in configs.items()}
    apart = len(set(rates.values())) == len(found.run.heads)
    for name in found.run.heads:
        columns = saved.history(found.head.folder.parent / name)
        if columns.get("epoch"):
            label = rates[name] if apart else name.rpartition("-")[0] or name
            epochs = tuple(int(epoch) for epoch in columns["epoch"])
            yield Curve(label, name == found.head.name, epochs, columns)


def _configs(found: Examined) -> dict[str, HeadConfig]:
    """The settings of the heads of the run; those that are gone or damaged are left out."""
    configs = {}
    for name in found.run.heads:
        with contextlib.suppress(CacheError):  # no linear head among them, where it is another classifier's run
            configs[name] = saved.load(found.head.folder.parent / name).head.config
    return configs


def _no_check(found: Examined) -> str:
    if isinstance(found.head, SavedClassifier):
        return "Not known: the check is made of linear heads, and this is another classifier."
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
    asked = found.asked
    where = [(f"--{flag}", getattr(asked, flag)) for flag in ("pipeline", "data", "name") if getattr(asked, flag)]
    trunk = found.store.trunk
    precision = {"float32": "fp32", "bfloat16": "bf16"}[trunk.spec.compute]
    stored = [] if trunk.spec.stored == "float32" else [("--stored", trunk.spec.stored)]
    yield _typed("extract", where, [("--arch", trunk.spec.arch), ("--weights", trunk.asked), ("--precision", precision),
                                    *stored])  # fmt: skip
    if isinstance(found.head, SavedClassifier):
        settings = [f"{key}={value}" for key, value in found.head.settings.items() if value is not None]
        yield _typed(" ".join(["fit", *map(shlex.quote, (found.head.kind, *settings))]), where)
    else:
        yield _typed("fit-head", where, _settings(list(_configs(found).values())))
    clips = [("--by", "clip"), ("--clip-rule", found.clips.rule)] if by == "clip" and found.clips else []
    yield _typed(f"report {shlex.quote(found.head.name)}", where, [("--split", found.features.split), *clips,
                                                                    ("--html", "report.html")])  # fmt: skip


def _settings(configs: list[HeadConfig]) -> list[tuple[str, Any]]:
    """The flags of fit-head that give these heads: --lr for each learning rate, --grid where more than that varies."""
    varied, flags = {}, []
    for field in fields(HeadConfig):
        values = list(dict.fromkeys(getattr(config, field.name) for config in configs))
        flag = f"--{field.name.replace('_', '-')}"
        if len(values) > 1 and field.name != "lr":
            varied[field.name] = values
        elif field.name == "lr":
            flags += [(flag, f"{value:.15g}") for value in values]
        elif values[0] is True:
            flags.append((flag, ""))
        elif values[0] is not None and field.name not in _RECIPE_ONLY and values[0] != field.default:
            flags.append((flag, values[0]))
    if not varied:
        return flags
    rates = [value for flag, value in flags if flag == "--lr"]
    grid = {"lr": rates, **varied}
    text = " ".join(f"{name}={','.join(map(str, values))}" for name, values in grid.items())
    return [*(pair for pair in flags if pair[0] != "--lr"), ("--grid", text)]


def _typed(command: str, *flags: list[tuple[str, Any]]) -> str:
    words = ["featcache", command]
    for name, value in (flag for part in flags for flag in part):
        words += [name] if value == "" else [name, shlex.quote(str(value))]
    return " ".join(words)


def _made(found: Examined) -> Iterator[tuple[str, str]]:
    """What must be the same for the same figures, and on what it was made."""
    source, trunk = found.features.source, found.store.trunk
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
    if isinstance(found.head, SavedClassifier):
        yield (
            "classifier",
            ", ".join([found.head.kind, *(f"{key} {value}" for key, value in found.head.settings.items())]),
        )
    else:
        yield "head", ", ".join(f"{name} {value}" for name, value in asdict(found.head.head.config).items())
        yield "steps", f"{found.head.head.steps:,}"
    for number, made in enumerate(trunk.made, start=1):
        versions = ", ".join(f"{package} {version}" for package, version in made.get("versions", {}).items())
        part = f" ({number})" if len(trunk.made) > 1 else ""
        batches = f"batches of {made.get('batch_size', '?')}"
        yield f"embedded on{part}", f"{made.get('device', '?')}, {batches}; {versions}"
    by = found.head.versions if isinstance(found.head, SavedClassifier) else saved.versions(found.head.folder)
    for name, value in by.items():
        yield f"trained with: {name}", value
    yield "reported with", f"featcache {featcache.__version__}"


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)
