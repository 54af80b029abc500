"""The data set that was typed, added to the commands that a message advises: `featcache extract` becomes one to paste.

The functions of the library do not know how their data set was named; where they advise a command, it is a bare one.
"""

import contextlib
import re
import shlex
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

_TYPED: ContextVar[Mapping[str, Any]] = ContextVar("options of the data set", default={})  # noqa: B039 (never changed)
_ADVISED = re.compile(r"(`featcache extract|(?:[Rr]un|and) `featcache (?:fit-head|fit|compare)(?= |`))([^`]*)`")
_OF_CACHE = re.compile(r"`featcache (repair|verify|gc)([^`]*)`")  # commands that take no data set
_FLAGS = ("pipeline", "name", "cache", "fold", "view", "stride", "level", "target")


def remember_data_set(options: Mapping[str, Any]) -> None:
    """Remember how the data set of the command that runs was typed.

    Args:
        options: Its options, those of `DataOptions` among them.
    """
    _TYPED.set(options)


def add_data_set(message: str) -> str:
    """Return a message in which each advised command has the data set that was typed, unless it names one.

    Args:
        message: An error, a warning or a note.
    """
    return _OF_CACHE.sub(_with_cache, _ADVISED.sub(_with_data_set, message))


def remember_cache(cache: str | None) -> None:
    """Remember the cache of a command that takes no data set, and the cache's data set where it has a single one.

    Args:
        cache: As it was typed; None where it was not.
    """
    from featcache.cli.typed_folder import typed_root
    from featcache.dataset import DatasetRequest
    from featcache.errors import FeatcacheError

    _TYPED.set({"cache": cache})
    with contextlib.suppress(FeatcacheError):  # the command itself says what is wrong
        request = DatasetRequest(cache=cache)
        data_sets = {} if request.is_named else request.data_sets()
        if len(data_sets) == 1:
            _TYPED.set({"cache": cache, "data": typed_root(*data_sets.values())})


def _with_cache(match: re.Match[str]) -> str:
    command, rest = match.groups()
    cache = _TYPED.get().get("cache")
    if cache is None or "--cache" in rest.split():
        return match[0]
    return f"`featcache {command}{rest} --cache {shlex.quote(str(cache))}`"


def _with_data_set(match: re.Match[str]) -> str:
    advised, rest = match.groups()
    words, typed = rest.split(), _TYPED.get()
    data = typed.get("data")
    flags = [(f"--{name}", typed[name]) for name in _FLAGS if typed.get(name) is not None]
    is_complete = data is None and not flags
    if is_complete or "FOLDER" in words or {"--data", "--pipeline", data} & set(words) or _has_folder(words):
        return match[0]
    folder = [] if data is None else [*(["--data"] if advised.endswith(" fit") else []), shlex.quote(data)]
    named = [part for name, value in flags if name not in words for part in (name, shlex.quote(str(value)))]
    return f"{' '.join([advised + rest, *folder, *named])}`"


def _has_folder(words: list[str]) -> bool:
    """Return whether a command's words begin with its argument: it was made for the data set already."""
    return bool(words) and not words[0].startswith("-")
