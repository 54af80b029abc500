"""The words of a command line before they are parsed: other names for options, and slips of the shell."""

import itertools
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

from featcache.arguments import synonym_of
from featcache.cli.typed_folder import is_data_folder
from featcache.errors import UsageError

_SETTING = re.compile(r"[a-z_-]+=\S+")  # of a grid, with its values


def read_words(args: Sequence[str], command: Any) -> list[str]:
    """Return the words behind a command as its parser takes them.

    Args:
        args: As they were typed.
        command: The command.

    Raises:
        UsageError: the shell took a grid apart, a cache would be in memory, or an option has another for its value.
    """
    words = _join_start(args) if command.name in ("finetune", "search") else list(args)
    refuse_split_grid(words)
    _refuse_memory(words)
    _refuse_missing_value(words, command)
    return words


def use_own_names(args: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the words of a command line, each option that has another name in other tools under ours.

    Args:
        args: The words.
        names: The options of the command; of none, every other name becomes ours.
    """
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    for number, word in enumerate(words[:end]):
        name, equals, value = word.partition("=")
        own = f"--{synonym_of(name[2:]).replace('_', '-')}" if name.startswith("--") else name
        if name not in names and own in names:
            words[number] = f"{own}{equals}{value}"
    return words


def _join_start(args: Sequence[str]) -> list[str]:
    """Return the words of finetune with `--from head NAME` as one option and its value; a folder is no head."""
    words = list(args)
    for place, name in enumerate(words[2:]):
        if words[place : place + 2] == ["--from", "head"] and not name.startswith("-") and not is_data_folder(name):
            return [*words[: place + 1], f"head {name}", *words[place + 3 :]]
    return words


def typed_value(option: str, words: Sequence[str]) -> str:
    """Return what was typed last for an option, "" where nothing was.

    Args:
        option: With its dashes.
        words: Those behind the command.
    """
    value = ""
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        name, equals, behind = word.partition("=")
        if name == option:
            value = behind if equals else following
    return value


def _refuse_missing_value(words: Sequence[str], command: Any) -> None:
    """Refuse an option that has another option where its value should stand: an unset variable of the shell is no word.

    Args:
        words: Those behind the command.
        command: The command that was typed.

    Raises:
        UsageError: there is one.
    """
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    with_value = {name for option in options if not option.is_flag for name in option.opts}
    for word, following in itertools.pairwise(words):
        if word in with_value and following in names:
            error = UsageError(f"{word} needs a value behind it, found the option {following}")
            raise error.correct(word, None)


def _refuse_memory(args: Sequence[str]) -> None:
    """Refuse a cache or data in memory, which no other command would see.

    Args:
        args: The words.

    Raises:
        UsageError: one of them, or FEATCACHE_CACHE, is such a URL.
    """
    typed = [word.partition("=")[2] if word.startswith("--") and "=" in word else word for word in args]
    for text in (*typed, os.environ.get("FEATCACHE_CACHE", "")):
        if text.lower().startswith("memory://"):
            raise UsageError(
                f"{text}: memory:// lasts as long as one process, and this command is one; name a folder, or a bucket "
                f"(s3://BUCKET/PREFIX)"
            )


def refuse_split_grid(words: Sequence[str]) -> None:
    """Refuse a grid that the shell took apart: `--grid lr=0.1,0.3 seed=0,1` without quotes.

    Args:
        words: Those behind a command.

    Raises:
        UsageError: words behind the grid are settings of it.
    """
    place = next((place for place, word in enumerate(words) if word.partition("=")[0] == "--grid"), len(words))
    grid = typed_value("--grid", words[: place + 2])
    behind = words[place + (1 if "=" in "".join(words[place : place + 1]) else 2) :]
    parts = list(itertools.takewhile(lambda word: _SETTING.fullmatch(word) and not os.path.exists(word), behind))
    if not parts:
        return
    whole = " ".join([grid, *parts])
    error = UsageError(f'--grid takes one word, and the shell made {1 + len(parts)} of it: type --grid "{whole}"')
    for part in parts:
        error = error.correct(part, None)
    raise error.correct("--grid", whole)
