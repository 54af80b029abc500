"""What a public function is called with, held against its signature: unknown keywords and values of a wrong type.

Python itself refuses an unknown keyword only where a function has no `**settings`, and never looks at a type: a text
where a list is meant would be walked over letter by letter. `checked` refuses both, in one sentence.
"""

import difflib
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, TypeVar, Union, cast

from featcache.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type[Any])

# Names that other tools use, for what is called otherwise here and is not spelt alike.
_SYNONYMS = {
    "learning_rate": "lr", "learning_rates": "lr", "l2": "weight_decay", "wd": "weight_decay", "bs": "batch_size",
    "n_epochs": "epochs", "num_epochs": "epochs", "optim": "optimizer", "scheduler": "schedule", "model": "arch",
    "backbone": "arch", "dataset": "data", "root": "data", "folder": "data", "recipe": "pipeline", "config": "pipeline",
    "num_workers": "workers", "n_jobs": "jobs", "params": "settings", "n_trials": "trials", "output": "to",
}  # fmt: skip
_LONGEST = 80  # characters of a value that a message shows
_PLAIN: Mapping[Any, str] = {
    str: "a text that is not empty", int: "a whole number", float: "a number", bool: "True or False",
    type(None): "None",
}  # fmt: skip


class ArgumentError(UsageError, TypeError):
    """A public function was called with a keyword that it does not take, or with a value of another type."""


class _MisfitError(Exception):
    """The value is of none of the types."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely means; None where none is near."""
    names = list(known)
    if _SYNONYMS.get(word.lower()) in names:
        return _SYNONYMS[word.lower()]
    folded = {name.casefold().replace("-", "_"): name for name in names}
    written = word.casefold().replace("-", "_")
    longer = [name for name in folded if written and name.startswith(f"{written}_")]  # the word is its first part
    close = difflib.get_close_matches(written, longer or folded, n=1, cutoff=0.0 if longer else 0.6)
    return folded[close[0]] if close else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """What a message about an unknown name ends with: "did you mean lr?", or the names that there are."""
    names = list(known)
    close = nearest(word, names)
    return f"did you mean {close}?" if close else f"expected {', '.join(names) or 'none'}"


def checked(function: Function) -> Function:
    """Return the function with its arguments checked: a fault is an `ArgumentError` that names it.

    One value where a parameter is a sequence of such values stands for a sequence of that one; an iterator or an array
    of one dimension becomes a tuple; a path becomes its text. A mapping, a set or bytes are no sequence.
    """
    return cast("Function", _checked(function, function.__name__))


def checked_class(found: Class) -> Class:
    """Return the class, whose constructor checks its arguments as `checked` does."""
    found.__init__ = _checked(found.__init__, found.__name__)
    return found


@functools.cache
def settings_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The names that a function takes as keywords, with their types; those of its `**settings: Unpack[...]` too."""
    taken: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            taken |= typing.get_type_hints(typing.get_args(parameter.annotation)[0])
        elif name != "self":
            taken[name] = parameter.annotation
    return taken


def _checked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    signature = inspect.signature(function)
    several = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        taken = settings_of(function)
        for word in kwargs:
            if word not in taken:
                raise ArgumentError(f"{name}(): there is no setting {word!r}; {_advice(name, word, taken)}")
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{name}(): {error}; it takes {', '.join(taken)}") from None
        given = bound.arguments
        for word, value in given.items():
            if word in taken:
                given[word] = _argument(name, word, value, taken[word])
        if several in given:
            given[several] = {word: _argument(name, word, value, taken[word]) for word, value in given[several].items()}
        return function(*bound.args, **bound.kwargs)

    return call


def _advice(name: str, word: str, taken: Mapping[str, Any]) -> str:
    """The nearest setting of this function, else which other function has one of that name, else all settings."""
    if nearest(word, taken) is None and (others := _takers(word)):
        return f"{' and '.join(f'{other}()' for other in others)} takes it. {name}() takes {', '.join(taken)}"
    return suggestion(word, taken)


def _takers(word: str) -> list[str]:
    """The public functions that take a keyword; asked only when a call has failed."""
    import featcache

    found = []
    for name in featcache.__all__:
        function = getattr(featcache, name)
        if (inspect.isfunction(function) or name == "Settings") and word in settings_of(function):
            found.append(name)
    return found


def _argument(function: str, word: str, value: Any, kind: Any) -> Any:
    try:
        return _fitted(value, kind)
    except _MisfitError:
        shown = " ".join(repr(value).split())  # an array's has lines
        shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."
        raise ArgumentError(f"{function}(): {word} is {shown}, expected {_described(kind)}") from None


def _options(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fitted(value: Any, kind: Any) -> Any:
    """The value as the function takes it.

    Raises:
        _MisfitError: it is of none of the types.
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # NumPy's numbers become Python's
    options = _options(kind)
    for option in options:
        if typing.get_origin(option) is not Sequence and _is_one(value, option):
            return os.fspath(value) if isinstance(value, os.PathLike) else value
    for option in options:
        if typing.get_origin(option) is Sequence:
            return _several(value, typing.get_args(option)[0])
    raise _MisfitError


def _several(value: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(value, bytes | bytearray | Mapping | Set):
        raise _MisfitError
    if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable):
        return (_fitted(value, kind),)
    return tuple(_fitted(element, kind) for element in value)


def _is_one(value: Any, option: Any) -> bool:
    """Whether a value is of one type, which is no sequence and no union."""
    if option in (inspect.Parameter.empty, Any):
        return True
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    origin = typing.get_origin(option) or option
    if origin is str and isinstance(value, str) and not value:  # of an unset variable: it would count as left out
        return False
    if origin is Callable:
        return callable(value)
    if isinstance(value, os.PathLike) and (origin is str or issubclass(origin, os.PathLike)):
        return isinstance(os.fspath(value), str)
    return isinstance(value, origin)


def _described(kind: Any) -> str:
    """A type in words: "a number, a list of numbers or None"."""
    words = list(dict.fromkeys(_described_one(option) for option in _options(kind)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _described_one(option: Any) -> str:
    origin = typing.get_origin(option) or option
    if origin is Sequence:
        return f"a list, each {_described(typing.get_args(option)[0])}"
    if origin is Callable:
        return "a function"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a dict"
    if isinstance(origin, type) and issubclass(origin, os.PathLike):
        return "a path"
    return _PLAIN.get(origin) or f"featcache.{origin.__name__}"
