"""From a head on a split to its page: the sweep's curves, the certificate, and how to make it again."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

from featcache.errors import CacheError
from featcache.evaluation import UNITS, HeadOnSplit
from featcache.heads import HeadConfig
from featcache.heads.saved import describe_model, read_history
from featcache.recipe import LINEAR
from featcache.report.page.charts import Curve
from featcache.report.page.commands import list_commands
from featcache.report.page.page import Page
from featcache.report.page.provenance import (
    day,
    describe_head,
    describe_recipe,
    describe_trunk,
    list_origin,
    list_provenance,
)


def build_page(head_on_split: HeadOnSplit, by: str = UNITS[0]) -> Page:
    """Return all that the page of a head shows.

    Args:
        head_on_split: the head and the split.
        by: "image" or "clip": what one row is.

    Raises:
        CacheError: the listing of the split, or of train, is damaged.
    """
    store, features = head_on_split.store, head_on_split.features
    check = head_on_split.choice.check
    configs = _configs(head_on_split)
    return Page(
        evaluation=head_on_split.evaluation(by),
        predictions=head_on_split.predictions(by),
        root=features.source["root"],
        videos=store.listing(head_on_split.request.key(features.split)).listing.videos,
        curves=tuple(_curves(head_on_split, configs)),
        check=check,
        check_note="" if check else _why_no_check(head_on_split),
        train_support=_train_support(head_on_split),
        trained=day(head_on_split.run.at),
        trunk=describe_trunk(head_on_split.store),
        head=describe_head(head_on_split.head),
        commands=tuple(list_commands(head_on_split, by, list(configs.values()))),
        origin=tuple(list_origin(head_on_split)),
        provenance=tuple(list_provenance(head_on_split)),
        recipe=describe_recipe(head_on_split),
    )


def _configs(head_on_split: HeadOnSplit) -> dict[str, HeadConfig]:
    """Return the settings of the heads of the run; those that are gone or damaged are left out."""
    configs = {}
    for name in head_on_split.run.heads:
        with contextlib.suppress(CacheError):
            layer = describe_model(head_on_split.head.folder.parent / name).layer
            if layer is not None:  # another classifier's run has no head of fit-head among its models
                configs[name] = layer.config
    return configs


def _curves(head_on_split: HeadOnSplit, configs: Mapping[str, HeadConfig]) -> Iterator[Curve]:
    """Yield the history of every head of the run, named by what tells it from the others."""
    head, heads = head_on_split.head, head_on_split.run.heads
    rates = {name: f"lr {config.lr:g}" for name, config in configs.items()}
    labels = rates if len(set(rates.values())) == len(heads) else _differing_parts(heads)
    for name in heads:
        try:
            columns = read_history(head.folder.parent / name)
        except CacheError:  # missing or damaged, or of another kind of model: the page does without its curve
            continue
        if columns["epoch"]:
            epochs = tuple(int(epoch) for epoch in columns["epoch"])
            yield Curve(labels[name], name == head.name, epochs, columns)


def _differing_parts(heads: Sequence[str]) -> dict[str, str]:
    """Return, by a head's name, the settings in it that not every name has; the whole of a name that has no other."""
    parts = {name: re.split(r"-(?=[a-z])", name.rpartition("-")[0] or name) for name in heads}
    shared = set.intersection(*map(set, parts.values()))
    return {name: "-".join(part for part in own if part not in shared) or "-".join(own) for name, own in parts.items()}


def _why_no_check(head_on_split: HeadOnSplit) -> str:
    if head_on_split.head.command == "finetune":
        return "Not available: the trunk was trained with this head, and such a training has no convex optimum."
    if head_on_split.head.kind != LINEAR:
        kind = "a torch module" if head_on_split.head.layer is not None else "another classifier"
        return f"Not available: only linear heads have an optimum to be held against, and this is {kind}."
    if head_on_split.run.best != head_on_split.head.name:
        return "Not available: fit-head checks the best head of a sweep, and this is another one of it."
    return "Not available: fit-head ran without the check (--no-check), or the training rows did not fit into memory."


def _train_support(head_on_split: HeadOnSplit) -> tuple[int, ...]:
    """Return the rows of each class in train, from its listing; none where it is gone or has other classes."""
    store, key = head_on_split.store, head_on_split.request.key("train")
    if key not in store.listings:
        return ()
    train = store.listing(key)
    if train.listing.classes != head_on_split.features.classes:
        return ()
    return tuple(train.listing.take(train.embedded).support().tolist())
