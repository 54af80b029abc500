"""The command that comes after a refused one: the same with its mistake corrected, else the help of the command."""

import itertools
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from featcache.errors import Correction, DataError, FeatcacheError, UsageError

_SHOWN = re.compile(r"`featcache |^  featcache ", re.MULTILINE)  # a command in a message

_OPTION = re.compile(r"(?:^| )--[a-z]")  # an option in a message: the help of the command describes it


def error_text(error: FeatcacheError, words: Sequence[str], names: Iterable[str]) -> str:
    """Return an error as it is printed: its message and, on a line of its own, the command to type next.

    There is none where the message has a command already, and where no other command line helps.

    Args:
        error: What was refused.
        words: The command line behind `featcache`.
        names: Those of all commands.
    """
    command = next_command(error, words, names)
    return f"error: {error}" if f"  {command}\n" in str(error) or not command else f"error: {error}\ntry: {command}"


def next_command(error: FeatcacheError, words: Sequence[str], names: Iterable[str]) -> str:
    """Return the command that an error advises beside its message, "" where it advises none.

    Args:
        error: What was refused.
        words: The command line behind `featcache`.
        names: Those of all commands.
    """
    corrected = correct_words(words, error.corrections)
    if corrected != correct_words(words, ()):  # what is wrong may stand in a recipe, and not in these words
        return shlex.join(["featcache", *corrected])
    if _SHOWN.search(str(error)) or not (isinstance(error, UsageError | DataError) or _OPTION.search(str(error))):
        return ""
    command = [word for word in words[:1] if word in set(names)]
    return shlex.join(["featcache", *command, "--help"])


def correct_words(words: Iterable[str], corrections: Iterable[Correction]) -> list[str]:
    """Return a command line with its mistakes corrected, `--option=value` as two words.

    Args:
        words: The command line behind `featcache`.
        corrections: What is wrong in it, and what is right.
    """
    corrected = [part for word in words for part in _split_option(word)]
    for written in corrections:
        is_of_several = written.wrong == "--fold" and written.right is not None and "--folds" in corrected
        correction = replace(written, wrong="--folds") if is_of_several else written
        if correction.wrong == "--pipeline":
            corrected = ["--pipeline" if word == "-p" else word for word in corrected]
        if correction.wrong.startswith("--"):
            corrected = _correct_option(corrected, correction)
        elif correction.wrong.endswith("="):
            corrected = [_correct_setting(word, correction) for word in corrected]
        elif correction.wrong in corrected:
            place = corrected.index(correction.wrong)
            corrected[place : place + 1] = [] if correction.right is None else shlex.split(correction.right)
    return corrected


def _correct_setting(word: str, correction: Correction) -> str:
    """Return a word KEY=VALUE with another key, or with another key and value."""
    right = correction.right or ""
    if not word.startswith(correction.wrong):
        return word
    return right + word.removeprefix(correction.wrong) if right.endswith("=") else right


def _split_option(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, value] if equals and name.startswith("--") else [word]


def _correct_option(words: list[str], correction: Correction) -> list[str]:
    """Return the words with an option renamed, or with one value where it had none or others, or without it."""
    option, right = correction.wrong, correction.right
    if right is not None and (right == "" or right.startswith("--")):
        return [right if word == option else word for word in words if word != option or right]
    kept: list[str] = []
    place = None
    skipped = False
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        if skipped:
            skipped = False
        elif word == option:
            place = len(kept) if place is None else place
            skipped = following != "" and re.match(r"--|-[a-z]", following) is None
        else:
            kept.append(word)
    if right is not None:
        place = len(kept) if place is None else place
        kept[place:place] = [option, right]
    return kept
