"""The commands that make a report again: pasted into a shell in any folder, they give the same head and figures."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from featcache.errors import FeatcacheError
from featcache.evaluation import CLIP_RULES, HeadOnSplit
from featcache.extraction import MAX_BAD
from featcache.files import expand_home
from featcache.heads import HeadConfig
from featcache.heads.classifiers import value_as_typed
from featcache.heads.saved import SavedHead, SavedModel, drawn_views, is_function
from featcache.listing import order_splits, resolve_source
from featcache.recipe import (
    FROM_HEAD,
    DriveActData,
    FinetuneSettings,
    HeadSection,
    absolute_pipeline,
    declared_settings,
)
from featcache.report.page.head_on_rows import HeadOnRows
from featcache.report.page.trunk_flags import Flag, TrunkFlags, extracts_of_trunks, name_features
from featcache.store import ExtractedListing, read_split_assignment
from featcache.text import metric_of_words

PART = re.compile(r"(limit|fraction) ([^,]+)(?:, seed (\d+))?")  # as `listing.take_subset` words it


def list_commands(
    head_on_split: HeadOnRows, options: Sequence[Flag], configs: Sequence[HeadConfig]
) -> Iterator[str]:  # fmt: skip
    """Yield the commands, in their order, and as comments what they cannot say.

    Args:
        head_on_split: the head and the split.
        options: of the report, beside those of the data set and the head.
        configs: of the heads of the run; none where another classifier was fitted.
    """
    request, head = head_on_split.request, head_on_split.head
    recipe = request.recipe
    parts = head_on_split.store.parts
    where: list[Flag] = [("--pipeline", absolute_pipeline(request.pipeline, data=request.data))]
    root = recipe.data.root if request.data is None else expand_home(request.data)  # of a table, its file
    where += [("--data", os.path.abspath(root)), ("--name", request.name), ("--cache", request.cache)]
    where += request.data_flags()
    trunks = [TrunkFlags(part, recipe) for part in parts]
    yield from dict.fromkeys(trunk.comment for trunk in trunks if trunk.comment)
    if isinstance(recipe.data, DriveActData) and not os.path.isabs(recipe.data.annotations or "/"):
        yield f"# run these in {_quoted(str(Path.cwd()))}: the recipe names its annotations from there"
    named = name_features(head_on_split, trunks)
    augment, views = drawn_views(head)
    set_of_views: list[Flag] = [("--augment", augment)] if views else []
    of_trunks = extracts_of_trunks(trunks)
    of_trunks = [[*flags, ("--views", views), *set_of_views] if views else flags for flags in of_trunks]
    early, late = _extracts(head_on_split)
    is_tuned = isinstance(head, SavedHead) and bool(head.head.finetuned)  # which embeds the images itself
    for flags in [] if is_tuned else early:
        yield from (command_line("extract", where, flags, of_trunk) for of_trunk in of_trunks)
    if is_function(head.kind):
        yield "# the head is a function of Python, which no command makes"
    elif isinstance(head, SavedHead) and is_tuned:
        yield from _finetune(head, where, trunks[0])
    elif head.command == "fit":
        kept: list[Flag] = [("--predict", split) for split in head.predictions if split != "val"]
        yield command_line(" ".join(["fit", *map(_quoted, (head.kind, *classifier_words(head)))]), where, named, kept)
    else:
        for name in _settings_without_flag(configs, recipe.head):
            yield f"# {name}: no flag says that there is none; take it out of the recipe"
        chosen_by = metric_of_words(head_on_split.choice.run.selected_by.removesuffix(" on val"))
        select: list[Flag] = [("--select", chosen_by)] if chosen_by not in ("", recipe.head.select) else []
        check: list[Flag] = [("--no-check", "")] if head_on_split.choice.check is None else []
        yield command_line("fit-head", where, named, head_flags(configs, recipe.head), set_of_views, select, check)
    for flags in late:
        yield from (command_line("extract", where, flags, of_trunk) for of_trunk in of_trunks)
    if not head.command:
        yield f'# featcache.save_report("report.html", {head.name}, …) wrote this page'
        return
    yield command_line(f"report {_quoted(head.name)}", where, named, options, [("--html", "report.html")])


def report_flags(head_on_split: HeadOnSplit, by: str) -> list[Flag]:
    """Return the flags of a report on classes, beside those of the data set and the head.

    Args:
        head_on_split: the head and the split.
        by: "image" or "clip".
    """
    clips = head_on_split.clips
    options: list[Flag] = [("--split", head_on_split.features.split)]
    options += [("--by", "clip")] if by == "clip" else []
    options += [("--clip-rule", clips.rule)] if clips is not None and clips.rule != CLIP_RULES[0] else []
    options += [("--allow-shared-subjects", "")] if head_on_split.shared_subjects_allowed else []
    options += [("--test-views", ""), ("--augment", head_on_split.augment)] if head_on_split.test_views else []
    return options


def _finetune(head: SavedHead, where: Sequence[Flag], trunk: TrunkFlags) -> Iterator[str]:
    """Yield the command that trains a network again, and as a comment what it starts from."""
    declared = declared_settings(FinetuneSettings)
    made = {**_settings_of(head), **head.head.finetuned}
    start = str(made.pop("start"))
    flags: list[Flag] = [("--from", start)]
    if start.startswith(FROM_HEAD):
        yield f"# {start}: the page of that head has the commands that train it"
    else:
        own = [("--weights", made["weights"])] if "weights" in made else []
        flags += [*trunk.network_flags(), *own]
    if "augment" in made or trunk.recipe.augmentation.is_any:
        flags += [("--augment", made.get("augment", "none"))]
    flags += [
        (declared[name].option, _text(value))
        for name, value in made.items()
        if name in declared and value != declared[name].default and value is not None
    ]
    yield command_line("finetune", where, flags)


def _settings_of(head: SavedHead) -> dict[str, Any]:
    """Return the settings of a head by name."""
    config = head.head.config
    return {field.name: getattr(config, field.name) for field in fields(config)}


def head_flags(configs: Sequence[HeadConfig], section: HeadSection) -> list[Flag]:
    """Return the flags of fit-head that give these heads where the recipe has this section.

    --lr for each learning rate; --grid where more than that varies.
    """
    varied: dict[str, list[str]] = {}
    flags: list[Flag] = []
    for name in configs[0].applicable:  # fit-head refuses the flags of other heads
        values, stated = _values(configs, name), getattr(section, name)
        if name != "lr" and values == list(stated if isinstance(stated, tuple) else (stated,)):
            continue
        flag = f"--{name.replace('_', '-')}"
        if len(values) > 1 or name == "lr":
            varied[name] = [_text(value) for value in values]
        elif isinstance(values[0], bool):
            flags.append((flag if values[0] else f"--no-{flag[2:]}", ""))
        elif values[0] is not None:
            flags.append((flag, _text(values[0])))
    if varied.keys() == {"lr"}:
        return [*(("--lr", rate) for rate in varied["lr"]), *flags]
    return [*flags, ("--grid", " ".join(f"{name}={','.join(values)}" for name, values in varied.items()))]


def classifier_words(head: SavedModel) -> list[str]:
    """Return the words KEY=VALUE,VALUE that `featcache fit` took: every combination that was tried, in its order."""
    trials = [trial.settings for trial in head.trials]
    values = {key: list(dict.fromkeys((type(t[key]), t[key]) for t in trials)) for key in trials[0]}
    # The last setting that was typed changes with every trial, the first one least often.
    changes = {key: next((n for n, t in enumerate(trials) if t[key] != trials[0][key]), len(trials)) for key in values}
    ordered = sorted(values, key=lambda key: -changes[key])
    return [f"{key}={','.join(value_as_typed(value) for _, value in values[key])}" for key in ordered]


def command_line(command: str, *flags: Sequence[Flag]) -> str:
    """Return one command line, quoted for a shell; a flag whose value is None is left out."""
    words = ["featcache", command]
    for name, value in (flag for part in flags for flag in part):
        if value is not None:
            words += [name] if value == "" else [name, _quoted(str(value))]
    return " ".join(words)


def _extracts(head_on_split: HeadOnRows) -> tuple[list[list[Flag]], list[list[Flag]]]:
    """Return the flags of each extract before the head was trained, and of those after it."""
    store, request = head_on_split.store, head_on_split.request
    extracted = {key[2]: store.listing(key) for key in request.keys_of(store)}
    before = {*head_on_split.head.sources, *head_on_split.head.predictions}
    needed = order_splits({*before, head_on_split.features.split} & extracted.keys())
    flags = {split: _part(extracted[split]) for split in needed}
    try:
        on_disk = set(
            resolve_source(
                request.recipe, read_split_assignment(store.cache, request.recipe.name, request.variant)
            ).splits()
        )
    except FeatcacheError:  # the images are not here
        on_disk = set()
    alike = len({str(_part(listing)) for listing in extracted.values()}) == 1
    if on_disk == extracted.keys() and alike and ("val" in on_disk) == ("val" in head_on_split.head.sources):
        return [flags[needed[0]]], []
    early = [split for split in needed if split in before]
    late = [split for split in needed if split not in early]
    return tuple([[("--split", split), *flags[split]] for split in part] for part in (early, late))  # type: ignore[return-value]


def _part(extracted: ExtractedListing) -> list[Flag]:
    """Return the flags that name a part of a split, and the share of it that may be unreadable."""
    flags: list[Flag] = []
    if match := PART.fullmatch(extracted.listing.part):
        flags = [(f"--{match[1]}", match[2]), ("--seed", match[3])]
    bad = 1 - len(extracted.embedded) / max(1, len(extracted.listing))
    return [*flags, ("--max-bad", f"{bad + 5e-4:.3f}")] if bad > MAX_BAD else flags


def _settings_without_flag(configs: Sequence[HeadConfig], section: HeadSection) -> list[str]:
    """Return the settings that these heads leave out and the recipe states."""
    return [
        name
        for name in configs[0].applicable
        if _values(configs, name) == [None] and getattr(section, name) is not None
    ]


def _values(configs: Sequence[HeadConfig], name: str) -> list[Any]:
    """Return the different values of a setting, in their order."""
    return list(dict.fromkeys(getattr(config, name) for config in configs))


def _text(value: object) -> str:
    """Return a value as a flag takes it."""
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)


def _quoted(word: str) -> str:
    """Return a word as a shell takes it; with escapes where a terminal or a page could not show it as it is.

    A path below the home folder begins with a tilde, which the shell expands: a page that is shared names no user.
    """
    home = os.path.join(os.path.expanduser("~"), "")
    if len(home) > 1 and os.path.isabs(home) and len(word) > len(home) and word.startswith(home):
        return f"~/{_quoted(word.removeprefix(home))}"
    if word.isascii() and word.isprintable():
        return shlex.quote(word)
    if word.isprintable() and "\\" not in word:
        return shlex.quote(word)
    escapes = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(escapes)}'"
