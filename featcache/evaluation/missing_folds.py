"""Folds of a data set that have no head yet, and how to make one for each."""

import shlex
from collections.abc import Mapping

from featcache.dataset import Asked
from featcache.errors import CacheError
from featcache.heads.saved import read_runs
from featcache.recipe import absolute_pipeline


def refuse_missing(folds: Mapping[int, Asked]) -> None:
    """Refuse an average over folds of which some have no head; each is named with the commands that make it one.

    Raises:
        CacheError: a fold has no head.
    """
    without = {fold: asked for fold, asked in folds.items() if not _has_head(asked)}
    if not without:
        return
    there = [str(fold) for fold in folds if fold not in without]
    have = f" (there is one of fold {' and '.join(there)})" if there else ""
    lines = [f"  fold {fold}: {_way(fold, asked)}" for fold, asked in without.items()]
    named = " and ".join(map(str, without))
    of_what = next(iter(without.values()))
    raise CacheError(
        "\n".join([f"{of_what.folder}: no head of {of_what.recipe.name}, fold {named}{have}. Make it:", *lines])
    )


def _has_head(asked: Asked) -> bool:
    return any(read_runs(store, asked.recipe.name, asked.variant, newest=False) for store in asked.stores())


def _way(fold: int, asked: Asked) -> str:
    """The recipe's setting, then the commands, as the flags of this one need them."""
    recipe = absolute_pipeline(asked.pipeline, data=asked.data)
    flags = [("-p", recipe), ("--data", asked.data), ("--name", asked.name), ("--cache", asked.cache)]
    typed = "".join(f" {flag} {shlex.quote(str(value))}" for flag, value in flags if value is not None)
    held = any(asked.key("train") in store.listings for store in asked.stores())
    commands = [f"`featcache {command}{typed}`" for command in (() if held else ("extract",)) + ("fit-head",)]
    return f"set fold = {fold} in the recipe's [data], then run {' and '.join(commands)}"
