"""The arguments of the public functions, checked against their signatures: unknown keywords, values of a wrong type.

Python itself refuses an unknown keyword only where a function has no `**settings`, and never looks at a type: a string
where a list is meant would be taken letter by letter. `checked` refuses both, in one sentence.
"""

import difflib
import functools
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any, TypeVar, Union, cast

from featcache.errors import UsageError
from featcache.text import value_text

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type[Any])

# Names that other tools use, for what is called otherwise here and is not spelt alike.
_SYNONYMS = {
    "learning_rate": "lr", "learning_rates": "lr", "l2": "weight_decay", "wd": "weight_decay", "bs": "batch_size",
    "n_epochs": "epochs", "num_epochs": "epochs", "optim": "optimizer", "scheduler": "schedule", "model": "arch",
    "backbone": "arch", "dataset": "data", "root": "data", "folder": "data", "recipe": "pipeline", "config": "pipeline",
    "num_workers": "workers", "n_jobs": "jobs", "params": "settings", "n_trials": "trials", "output": "to",
}  # fmt: skip
_MOST_BITS = 4096  # of a whole number: more is none of any setting, and Python writes none of 15,000 bits
_ONE_SLASH = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")  # what pathlib leaves of the beginning of a URL
_IN_WORDS: Mapping[Any, str] = {
    str: "a non-empty string", int: "a whole number", float: "a number", bool: "True or False", type(None): "None",
}  # fmt: skip
_LIST_IN_WORDS: Mapping[Any, str] = {
    str: "a list of non-empty strings", int: "a list of whole numbers", float: "a list of numbers",
}  # fmt: skip


class ArgumentError(UsageError, TypeError):
    """A public function was called with a keyword that it does not take, or with a value of another type."""


class _MisfitError(Exception):
    """The value is of none of the types."""


def synonym_of(word: str) -> str:
    """Return our name for what other tools call so: "lr" for "learning-rate"; the word itself where there is none."""
    return _SYNONYMS.get(word.lower().replace("-", "_"), word)


def nearest_name(word: str, names: Iterable[str]) -> str | None:
    """Return the name that a misspelt one most likely means; None where none is near."""
    names = list(names)
    if _SYNONYMS.get(word.lower()) in names:
        return _SYNONYMS[word.lower()]
    folded = {name.casefold().replace("-", "_"): name for name in names}
    written = word.casefold().replace("-", "_")
    if f"{written}s" in folded:  # before what only begins alike
        return folded[f"{written}s"]
    longer = [name for name in folded if written and name.startswith(f"{written}_")]  # the word is its first part
    close = difflib.get_close_matches(written, longer or folded, n=1, cutoff=0.0 if longer else 0.6)
    return folded[close[0]] if close else None


def suggest_name(word: str, names: Iterable[str]) -> str:
    """Return how a message about an unknown name ends: "did you mean lr?", or the names that there are."""
    names = list(names)
    close = nearest_name(word, names)
    return f"did you mean {close}?" if close else f"expected {', '.join(names) or 'none'}"


def checked(function: Function) -> Function:
    """Return the function with its arguments checked: a wrong one raises an `ArgumentError` that names it.

    Where a parameter is a sequence, one value stands for a sequence of that one, and an iterator or an array of one
    dimension becomes a tuple; a path becomes a string. Mappings, sets and bytes are not taken for sequences.
    """
    return cast("Function", _check_arguments(function, function.__name__))


def checked_class(class_: Class) -> Class:
    """Return the class with a constructor that checks its arguments as `checked` does."""
    class_.__init__ = _check_arguments(class_.__init__, class_.__name__)
    return class_


@functools.cache
def keyword_types(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the keywords that a function takes, with their types; those of its `**options: Unpack[...]` too."""
    keywords: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            keywords |= typing.get_type_hints(typing.get_args(parameter.annotation)[0])
        elif name != "self":
            keywords[name] = parameter.annotation
    return keywords


def _check_arguments(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    signature = inspect.signature(function)
    rest = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        keywords = keyword_types(function)
        for word in kwargs:
            if word not in keywords:
                raise ArgumentError(f"{name}(): there is no setting {word!r}; {_advise(name, word, keywords)}")
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{name}(): {error}; it takes {', '.join(keywords)}") from None
        arguments = bound.arguments
        for word, value in arguments.items():
            if word in keywords:
                arguments[word] = _convert(name, word, value, keywords[word])
        if rest in arguments:
            arguments[rest] = {
                word: _convert(name, word, value, keywords[word]) for word, value in arguments[rest].items()
            }
        return function(*bound.args, **bound.kwargs)

    return call


def _advise(name: str, word: str, keywords: Mapping[str, Any]) -> str:
    """Return which other function has a setting of this name, else the nearest of this function, else all."""
    if synonym_of(word) not in keywords and (others := _functions_with(word)):
        return f"{' and '.join(f'{other}()' for other in others)} takes it. {name}() takes {', '.join(keywords)}"
    return suggest_name(word, keywords)


def _functions_with(word: str) -> list[str]:
    """Return the public functions that take a keyword; needed only when a call has failed."""
    import featcache

    return [
        name
        for name in featcache.__all__
        if (inspect.isfunction(function := getattr(featcache, name)) or name == "Settings")
        and word in keyword_types(function)
    ]


def _convert(function: str, word: str, value: Any, kind: Any) -> Any:
    """Return an argument as the function takes it, or refuse it by its name."""
    try:
        return _fit(value, kind)
    except _MisfitError:
        raise ArgumentError(f"{function}(): {word} is {value_text(value)}, expected {_describe(kind)}") from None
    except ValueError as error:  # of a type that says itself how a value is taken
        raise ArgumentError(f"{function}(): {word} cannot be taken: {error}") from None


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fit(value: Any, kind: Any) -> Any:
    """Return a value converted to a type.

    Raises:
        _MisfitError: it is of none of the types.
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # NumPy's numbers become Python's
    alternatives = _alternatives(kind)
    for alternative in alternatives:
        if typing.get_origin(alternative) is not Sequence and _is_of(value, alternative):
            if hasattr(alternative, "convert_argument"):
                return alternative.convert_argument(value)
            return path_text(value) if isinstance(value, os.PathLike) else value
    for alternative in alternatives:
        if typing.get_origin(alternative) is Sequence:
            return _fit_each(value, typing.get_args(alternative)[0])
    raise _MisfitError


def _fit_each(value: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(value, bytes | bytearray | Mapping | Set):
        raise _MisfitError
    if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable):
        return (_fit(value, kind),)
    return tuple(_fit(element, kind) for element in value)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a type that is no sequence and no union."""
    if kind in (inspect.Parameter.empty, Any):
        return True
    if kind is float:
        fits = isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)
        return fits and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _MOST_BITS
    origin = typing.get_origin(kind) or kind
    if origin is str and isinstance(value, str) and not value:  # of an unset variable: it would count as left out
        return False
    if origin is Callable:
        return callable(value)
    if isinstance(value, os.PathLike) and (origin is str or issubclass(origin, os.PathLike)):
        return isinstance(path_text(value), str)
    return isinstance(value, origin)


def path_text(path: "os.PathLike[Any]") -> Any:
    """Return a path as it is typed; of a URL, from which pathlib takes a slash, the URL.

    Args:
        path: A path, or what stands for one; a place in an object store is one that no system call takes.
    """
    text = str(path) if isinstance(path, PurePath) else os.fspath(path)
    return _ONE_SLASH.sub(r"\1://", text) if isinstance(path, PurePath) else text


def _describe(kind: Any) -> str:
    """Return a type in words: "a number, a list of numbers or None"."""
    words = list(dict.fromkeys(_describe_one(alternative) for alternative in _alternatives(kind)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _describe_one(kind: Any) -> str:
    origin = typing.get_origin(kind) or kind
    if origin is Sequence:
        (element,) = typing.get_args(kind)
        return _LIST_IN_WORDS.get(element) or f"a list, each {_describe(element)}"
    if origin is Callable:
        return "a function"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a dict"
    if isinstance(origin, type) and issubclass(origin, os.PathLike):
        return "a path"
    return _IN_WORDS.get(origin) or getattr(origin, "in_words", None) or f"featcache.{origin.__name__}"
