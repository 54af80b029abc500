"""A head of one's own: a `torch.nn.Module` by its import path, or as the object that a program hands over.

Importing runs code: what a path names is imported only where a person has typed it, on the command line or in a call;
never because a recipe, a cache or a kept head has it. This module remembers what was typed, and what was handed over.
"""

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from featcache.errors import CacheError
from featcache.recipe.modules import is_own_head
from featcache.recipe.network_object import hash_module, is_network

_FIRST_WEIGHTS = "@"  # in a name, before what stands for the first weights of a module that was handed over
_typed: set[str] = set()  # import paths
_makers: dict[str, Any] = {}  # by name, what a program handed over


class _IsHead(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return (isinstance(value, str) and bool(value)) or callable(value)


class HeadObject(metaclass=_IsHead):
    """The type of a head among a function's arguments: its name, or what makes it; torch is not imported for it."""

    in_words = "a name, package.module:Class, or a class or torch.nn.Module of your own"

    @staticmethod
    def convert_argument(value: Any) -> str:
        """Return the name of a head, and remember that it was typed, or what makes it.

        Args:
            value: a name; or a class or function that gets the width of a row and the number of outputs and returns a
                `torch.nn.Module`; or such a module, whose weights are the first ones of the training.
        """
        if isinstance(value, str):
            remember_typed_head(value)
            return value
        named = value if hasattr(value, "__qualname__") else getattr(value, "func", type(value))
        path = re.sub(r"[^\w.]", "", named.__qualname__.replace("<locals>.", ""))
        name = f"{named.__module__}:{path or 'head'}"
        _makers[name] = value
        if is_network(value):
            name = f"{name}{_FIRST_WEIGHTS}{hash_module(value)[:8]}"
            _makers[name] = value
        return name


if TYPE_CHECKING:
    HeadWord: TypeAlias = Any
else:  # what functions take as `head` or `head_class`; once their arguments are checked, it is a name
    HeadWord = HeadObject


def remember_typed_head(name: str) -> None:
    """Remember that a person has typed the path of a head: from now on it may be imported.

    Args:
        name: as `--head` or `--head-class` has it; one that is no path is left alone.
    """
    if is_own_head(name):
        _typed.add(head_path(name))


def find_head_maker(name: str) -> Any:
    """Return what makes a head of one's own, if this program was given it; None where its path is to be imported.

    Args:
        name: as `HeadObject.convert_argument` returned it; that of a kept head, where any first weights will do.

    Raises:
        CacheError: nobody has typed its path.
    """
    path = name.partition(_FIRST_WEIGHTS)[0]
    maker = _makers.get(name, _makers.get(path))
    if maker is None and path not in _typed:
        error = CacheError(
            f"a head of class {path} is a module of your own: it is imported, which runs its code, only where it is "
            f"typed. Add --head-class {path}"
        )
        raise error.correct("--head-class", path)
    return maker


def head_path(name: str) -> str:
    """Return the import path of a head of one's own, without what stands for its first weights.

    Args:
        name: as a head's settings have it.
    """
    return name.partition(_FIRST_WEIGHTS)[0]
