"""From a head on a split to its page: the sweep's curves, the certificate, and how to make it again."""

from featcache.evaluation import UNITS, HeadOnSplit
from featcache.recipe import LINEAR
from featcache.report.page.commands import list_commands, report_flags
from featcache.report.page.curves import configs_of_run, curves_of_run
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
    configs = configs_of_run(head_on_split)
    return Page(
        evaluation=head_on_split.evaluation(by),
        predictions=head_on_split.predictions(by),
        root=features.source["root"],
        videos=store.listing(head_on_split.request.key(features.split)).listing.videos,
        curves=tuple(curves_of_run(head_on_split, configs)),
        check=check,
        check_note="" if check else _why_no_check(head_on_split),
        train_support=_train_support(head_on_split),
        trained=day(head_on_split.run.at),
        trunk=describe_trunk(head_on_split.store),
        head=describe_head(head_on_split.head),
        commands=tuple(list_commands(head_on_split, report_flags(head_on_split, by), list(configs.values()))),
        origin=tuple(list_origin(head_on_split)),
        provenance=tuple(list_provenance(head_on_split)),
        recipe=describe_recipe(head_on_split),
    )


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
