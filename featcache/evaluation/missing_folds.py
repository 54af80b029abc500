"""Folds of a data set that have no head yet, and how to make one for each."""

import shlex
from collections.abc import Mapping

from featcache.dataset import DatasetRequest
from featcache.errors import CacheError
from featcache.heads.saved import read_runs
from featcache.recipe import absolute_pipeline


def refuse_missing_folds(folds: Mapping[int, DatasetRequest]) -> None:
    """Raise a CacheError where some of these folds have no head; each is named with the commands that make one.

    Args:
        folds: what is asked for, by the fold's number.

    Raises:
        CacheError: a fold has no head.
    """
    without = {fold: request for fold, request in folds.items() if not _has_head(request)}
    if not without:
        return
    with_head = [f"fold {fold}" for fold in folds if fold not in without]
    others = f" (it has one for {' and '.join(with_head)})" if with_head else ""
    named = " and ".join(f"fold {fold}" for fold in without)
    example = next(iter(without.values()))
    lines = [f"  fold {fold}: {_commands(request)}" for fold, request in without.items()]
    raise CacheError(
        "\n".join([f"{example.folder}: {example.recipe.name} has no head for {named}{others}. To make one:", *lines])
    )


def _has_head(request: DatasetRequest) -> bool:
    return any(read_runs(store, request.recipe.name, request.variant, newest=False) for store in request.stores())


def _commands(request: DatasetRequest) -> str:
    """Return the commands that make a head, with the flags that this one was given."""
    recipe = absolute_pipeline(request.pipeline, data=request.data)
    flags: list[tuple[str, object]] = [("-p", recipe), ("--data", request.data), ("--name", request.name)]
    flags += [("--cache", request.cache), *request.data_flags()]
    options = "".join(f" {flag} {shlex.quote(str(value))}" for flag, value in flags if value is not None)
    is_extracted = any(request.key("train") in store.listings for store in request.stores())
    commands = [f"`featcache {command}{options}`" for command in (() if is_extracted else ("extract",)) + ("fit-head",)]
    return f"run {' and '.join(commands)}"
