"""Settings as they are typed: `C=0.1,1,10`, `hidden_layer_sizes=(256,64)`, `class_weight=balanced`."""

import ast
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.heads.classifiers.classifier import ClassifierSettings, SettingChoices, SettingValue

MOST_COMBINATIONS = 10_000
_LONGEST = 1_000  # characters of one setting


def parse_settings(words: Iterable[str]) -> dict[str, tuple[SettingValue, ...]]:
    """Return `KEY=VALUE` words as choices: a comma outside brackets and quotes separates values to choose among.

    Args:
        words: As they are typed: "C=0.1,1,10", "hidden_layer_sizes=(256,64)".

    Raises:
        UsageError: a word without `=`, a key twice, no value, or one that no setting can have or that is too long.
    """
    choices: dict[str, tuple[SettingValue, ...]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier() or not text.strip():
            error = UsageError(f"{word[:80]!r}: expected KEY=VALUE, such as C=10 or k=5,20,200")
            raise error.correct(word, None)
        if key in choices:
            raise UsageError(f"{key} is given twice; separate the values to choose among by commas: {key}=1,2")
        if len(text) > _LONGEST:
            raise UsageError(f"{key}: {len(text):,} characters, expected at most {_LONGEST:,}")
        choices[key] = tuple(_parse_value(part.strip(), key) for part in _split_values(text))
    return choices


def choices_from(settings: Mapping[str, Any]) -> dict[str, tuple[SettingValue, ...]]:
    """Return settings of a recipe or a Python caller as choices.

    Args:
        settings: By name a value, or a list of values to choose among; a tuple is one value.

    Raises:
        UsageError: a value is none that a setting can have.
    """
    return {
        key: tuple(map(freeze_value, value)) if isinstance(value, list) else (freeze_value(value),)
        for key, value in settings.items()
    }


def combinations(choices: SettingChoices) -> list[ClassifierSettings]:
    """Return every combination, the last key fastest; a repeated value counts once.

    Raises:
        UsageError: a key without a value, or too many combinations.
    """
    count = 1
    for key, values in choices.items():
        if not values:
            raise UsageError(f"{key}: no value to choose among")
        count *= len(values)
    if count > MOST_COMBINATIONS:
        raise UsageError(f"{count:,} combinations of settings, expected at most {MOST_COMBINATIONS:,}")
    # 1, 1.0 and True are equal to Python and different to a classifier.
    distinct = [list({(type(value), value): value for value in values}.values()) for values in choices.values()]
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*distinct)]


def refuse_unknown(kind: str, choices: SettingChoices, known: Sequence[str]) -> None:
    """Raise a UsageError unless a classifier has all of these settings.

    Raises:
        UsageError: it lacks one; the message names the closest that it has.
    """
    unknown = [key for key in choices if key not in known]
    if unknown:
        near = [close for key in unknown if (close := nearest_name(key, known)) is not None]
        suggestion = f"did you mean {' and '.join(near)}? " if near else ""
        available = ", ".join(sorted(known))
        error = UsageError(f"{kind}: no setting {', '.join(map(repr, unknown))}; {suggestion}it has {available}")
        for key in unknown:
            close = nearest_name(key, known)
            error = error if close is None else error.correct(f"{key}=", f"{close}=")
        raise error


def format_value(value: SettingValue) -> str:
    """Return a value as a name or a table shows it: 0.07, 256x64, balanced.

    Args:
        value: Of a setting; a tuple's items are joined by x, a number is shown with at most 15 digits.
    """
    if isinstance(value, tuple):
        return "x".join(map(format_value, value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def value_as_typed(value: SettingValue) -> str:
    """Return a value as `parse_settings` reads it.

    Args:
        value: Of a setting.
    """
    word = value if isinstance(value, str) else repr(value)
    try:
        if value is not None and parse_settings([f"x={word}"])["x"] == (value,) and word == word.strip():
            return word
    except UsageError:
        pass
    return repr(value)


def freeze_value(value: Any) -> SettingValue:
    """Return a value with every list in it made a tuple.

    Args:
        value: Of a setting, from TOML or from Python.

    Raises:
        UsageError: it is, or holds, something else than numbers, words, True, False and None.
    """
    if isinstance(value, list | tuple):
        return tuple(map(freeze_value, value))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError("a setting is a whole number of more than 64 bits, expected one of at most 64")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(f"a setting is {type(value).__name__}, expected a number, a word, True, False, None or a tuple")


def _parse_value(text: str, key: str) -> SettingValue:
    if not text:
        raise UsageError(f"{key}: an empty value between commas")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # a word: balanced, l2, lsqr
    return freeze_value(literal)


def _split_values(text: str) -> list[str]:
    """Return the parts between commas that stand in no bracket and no quote."""
    parts, depth, quote, is_escaped = [""], 0, "", False
    for character in text:
        if quote:
            quote = "" if character == quote and not is_escaped else quote
            is_escaped = character == "\\" and not is_escaped
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts
