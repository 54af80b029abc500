"""Settings as they are typed: `C=0.1,1,10`, `hidden_layer_sizes=(256,64)`, `class_weight=balanced`."""

import ast
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.heads.classifiers.answers import Choices, Settings, Value

MOST_COMBINATIONS = 10_000
_LONGEST = 1_000  # characters of one setting


def parse(words: Iterable[str]) -> dict[str, tuple[Value, ...]]:
    """`KEY=VALUE` words as choices: a comma outside brackets and quotes separates values to choose among.

    Raises:
        UsageError: a word without `=`, a key twice, or no value.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier() or not text.strip():
            raise UsageError(f"{word[:80]!r}: expected KEY=VALUE, such as C=10 or k=5,20,200")
        if key in found:
            raise UsageError(f"{key} is given twice; separate the values to choose among by commas: {key}=1,2")
        if len(text) > _LONGEST:
            raise UsageError(f"{key}: {len(text):,} characters, expected at most {_LONGEST:,}")
        found[key] = tuple(_value(part.strip(), key) for part in _split(text))
    return found


def choices_of(settings: Mapping[str, Any]) -> dict[str, tuple[Value, ...]]:
    """Settings of a recipe or a Python caller as choices: a list holds values to choose among, a tuple is a value."""
    return {
        key: tuple(map(frozen, value)) if isinstance(value, list) else (frozen(value),)
        for key, value in settings.items()
    }


def combinations(choices: Choices) -> list[Settings]:
    """Every combination, the last key fastest; a repeated value counts once.

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


def refuse_unknown(kind: str, choices: Choices, known: Sequence[str]) -> None:
    """Name a setting that the classifier does not have.

    Raises:
        UsageError: there is one.
    """
    unknown = [key for key in choices if key not in known]
    if unknown:
        near = [close for key in unknown if (close := nearest_name(key, known)) is not None]
        meant = f"did you mean {' and '.join(near)}? " if near else ""
        there = ", ".join(sorted(known))
        raise UsageError(f"{kind}: no setting {', '.join(map(repr, unknown))}; {meant}it has {there}")


def text_of(value: Value) -> str:
    """A value as a name or a table shows it: 0.07, 256x64, balanced."""
    if isinstance(value, tuple):
        return "x".join(map(text_of, value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def frozen(value: Any) -> Value:
    """A plain value; a list becomes a tuple.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(f"a setting is {type(value).__name__}, expected a number, a word, True, False, None or a tuple")


def _value(text: str, key: str) -> Value:
    if not text:
        raise UsageError(f"{key}: an empty value between commas")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # a word: balanced, l2, lsqr
    return frozen(found)


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no bracket and no quote."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
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
