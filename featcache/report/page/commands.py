"""The commands that make a report again: pasted into a shell in any folder, they give the same head and figures."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from featcache.errors import FeatcacheError
from featcache.evaluation import RULES, Examined
from featcache.extraction import MAX_BAD
from featcache.heads import HeadConfig
from featcache.heads.classifiers import Value, parse
from featcache.heads.saved import SavedClassifier
from featcache.listing import data_source, in_order
from featcache.recipe import DriveActData, HeadSection, absolute_pipeline
from featcache.store import ExtractedListing, read_split_assignment
from featcache.trunks import DECODERS, PRECISION, WeightsMemo

Flag = tuple[str, object]  # its name and its value; "" where the name is all
PART = re.compile(r"(limit|fraction) ([^,]+)(?:, seed (\d+))?")  # as `listing.subset` words it


def commands(found: Examined, by: str, configs: Sequence[HeadConfig]) -> Iterator[str]:
    """The commands, in their order, and as comments what they cannot say.

    Args:
        found: the head and the split.
        by: "image" or "clip".
        configs: of the heads of the run; none where another classifier was fitted.
    """
    asked, head = found.asked, found.head
    recipe = asked.recipe
    weights, comment = _weights(found)
    trunk = found.store.trunk.spec
    precision = next(word for word, compute in PRECISION.items() if compute == trunk.compute)
    where: list[Flag] = [("--pipeline", absolute_pipeline(asked.pipeline, data=asked.data))]
    where += [("--data", os.path.abspath(recipe.data.root)), ("--name", asked.name), ("--cache", asked.cache)]
    named: list[Flag] = [("--weights", weights), ("--precision", precision)]
    if comment:
        yield comment
    if isinstance(recipe.data, DriveActData) and not os.path.isabs(recipe.data.annotations or "/"):
        yield f"# run these in {_quoted(str(Path.cwd()))}: the recipe names its annotations from there"
    of_trunk: list[Flag] = [("--arch", trunk.arch), *named]
    of_trunk += [("--stored", trunk.stored)] if trunk.stored != recipe.trunk.stored else []
    decode = next(word for word, decoder in DECODERS.items() if decoder == trunk.decoder)
    of_trunk += [("--decode", decode)] if decode != recipe.trunk.decode else []
    early, late = _extracts(found)
    for flags in early:
        yield typed("extract", where, flags, of_trunk)
    if isinstance(head, SavedClassifier):
        kept: list[Flag] = [("--predict", split) for split in head.predictions if split != "val"]
        yield typed(" ".join(["fit", *map(_quoted, (head.kind, *settings_of(head)))]), where, named, kept)
    else:
        for name in _unsayable(configs, recipe.head):
            yield f"# {name}: no flag says that there is none; take it out of the recipe"
        chosen_by = found.run.selected_by.removesuffix(" on val").replace(" ", "_")
        select: list[Flag] = [("--select", chosen_by)] if chosen_by not in ("", recipe.head.select) else []
        check: list[Flag] = [("--no-check", "")] if found.which.check is None else []
        yield typed("fit-head", where, named, head_flags(configs, recipe.head), select, check)
    for flags in late:
        yield typed("extract", where, flags, of_trunk)
    options: list[Flag] = [("--split", found.features.split)]
    options += [("--by", "clip")] if by == "clip" else []
    options += [("--clip-rule", found.clips.rule)] if found.clips is not None and found.clips.rule != RULES[0] else []
    options += [("--allow-shared-subjects", "")] if found.shared_allowed else []
    yield typed(f"report {_quoted(head.name)}", where, named, options, [("--html", "report.html")])


def head_flags(configs: Sequence[HeadConfig], section: HeadSection) -> list[Flag]:
    """The flags of fit-head that give these heads where the recipe has this section.

    --lr for each learning rate; --grid where more than that varies.
    """
    varied: dict[str, list[str]] = {}
    flags: list[Flag] = []
    for field in fields(HeadConfig):
        values, stated = _values(configs, field.name), getattr(section, field.name)
        if field.name != "lr" and values == list(stated if isinstance(stated, tuple) else (stated,)):
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if len(values) > 1 or field.name == "lr":
            varied[field.name] = [_text(value) for value in values]
        elif isinstance(values[0], bool):
            flags.append((flag if values[0] else f"--no-{field.name}", ""))
        elif values[0] is not None:
            flags.append((flag, _text(values[0])))
    if varied.keys() == {"lr"}:
        return [*(("--lr", rate) for rate in varied["lr"]), *flags]
    return [*flags, ("--grid", " ".join(f"{name}={','.join(values)}" for name, values in varied.items()))]


def settings_of(head: SavedClassifier) -> list[str]:
    """The words KEY=VALUE,VALUE that `featcache fit` took: every combination that was tried, in its order."""
    trials = [trial.settings for trial in head.trials]
    values = {key: list(dict.fromkeys((type(t[key]), t[key]) for t in trials)) for key in trials[0]}
    # The last setting that was typed changes with every trial, the first one least often.
    changes = {key: next((n for n, t in enumerate(trials) if t[key] != trials[0][key]), len(trials)) for key in values}
    ordered = sorted(values, key=lambda key: -changes[key])
    return [f"{key}={','.join(value_word(value) for _, value in values[key])}" for key in ordered]


def value_word(value: Value) -> str:
    """A value of a classifier's setting as `settings.parse` reads it."""
    word = value if isinstance(value, str) else repr(value)
    try:
        if value is not None and parse([f"x={word}"])["x"] == (value,) and word == word.strip():
            return word
    except FeatcacheError:
        pass
    return repr(value)


def typed(command: str, *flags: Sequence[Flag]) -> str:
    """One command line, quoted for a shell; a flag whose value is None is left out."""
    words = ["featcache", command]
    for name, value in (flag for part in flags for flag in part):
        if value is not None:
            words += [name] if value == "" else [name, _quoted(str(value))]
    return " ".join(words)


def _extracts(found: Examined) -> tuple[list[list[Flag]], list[list[Flag]]]:
    """The flags of each extract before the head was trained, and of those after it."""
    store, asked = found.store, found.asked
    held = {key[2]: store.listing(key) for key in asked.keys_of(store)}
    answered = found.head.predictions if isinstance(found.head, SavedClassifier) else {}
    before = {*found.head.sources, *answered}
    needed = in_order({*before, found.features.split} & held.keys())
    flags = {split: _part(held[split]) for split in needed}
    try:
        there = set(
            data_source(asked.recipe, read_split_assignment(store.cache, asked.recipe.name, asked.variant)).splits()
        )
    except FeatcacheError:  # the images are not here
        there = set()
    alike = len({str(_part(extracted)) for extracted in held.values()}) == 1
    if there == held.keys() and alike and ("val" in there) == ("val" in found.head.sources):
        return [flags[needed[0]]], []
    early = [split for split in needed if split in before]
    late = [split for split in needed if split not in early]
    return tuple([[("--split", split), *flags[split]] for split in part] for part in (early, late))  # type: ignore[return-value]


def _part(extracted: ExtractedListing) -> list[Flag]:
    """How a part of a split was asked for, and which share of it may be unreadable."""
    flags: list[Flag] = []
    if match := PART.fullmatch(extracted.listing.part):
        flags = [(f"--{match[1]}", match[2]), ("--seed", match[3])]
    bad = 1 - len(extracted.embedded) / max(1, len(extracted.listing))
    return [*flags, ("--max-bad", f"{bad + 5e-4:.3f}")] if bad > MAX_BAD else flags


def _weights(found: Examined) -> tuple[str, str]:
    """What --weights takes in any folder, and a comment where that is not known."""
    record = found.store.trunk
    memo = WeightsMemo(found.store.cache).entries()
    paths = [name for arch, name, sha256 in memo if (arch, sha256) == (record.spec.arch, record.spec.weights_sha256)]
    files = [
        name
        for name in (record.weights_path, *paths)
        if name.startswith("/") and name.endswith(f"/{record.weights_name}")
    ]
    if files:
        return next((name for name in files if os.path.isfile(name)), files[0]), ""
    if record.weights_path or not Path(record.weights_name).suffix:
        return record.weights_path or record.weights_name, ""
    return (
        record.weights_name,
        f"# of the weights the store knows the file's name alone: put its folder before {record.weights_name}",
    )


def _unsayable(configs: Sequence[HeadConfig], section: HeadSection) -> list[str]:
    """The settings that these heads leave out and the recipe states."""
    return [
        field.name
        for field in fields(HeadConfig)
        if _values(configs, field.name) == [None] and getattr(section, field.name) is not None
    ]


def _values(configs: Sequence[HeadConfig], name: str) -> list[Any]:
    return list(dict.fromkeys(getattr(config, name) for config in configs))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)


def _quoted(word: str) -> str:
    """A word as a shell takes it; with escapes where a terminal or a page could not show it as it is."""
    if word.isascii() and word.isprintable():
        return shlex.quote(word)
    if word.isprintable() and "\\" not in word:
        return shlex.quote(word)
    escapes = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(escapes)}'"
