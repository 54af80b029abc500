"""The two places of `featcache copy`: a cache that is there, and one that holds nothing but a cache."""

import shlex
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import list_folders, nearest_path
from featcache.files.objects import ObjectPath
from featcache.listing import shown_path

_STORES = "stores"
_OF_CACHE = {_STORES, "listings", "finetuned", "damaged", "stat.log", "weights.json", "README.md"}
_NAMED = 3


def require_cache(place: Path, typed: str) -> None:
    """Refuse to copy what is no cache.

    Args:
        place: Where the cache is said to be.
        typed: As it was typed.

    Raises:
        CacheError: there is none; it names the folder beside it that a misspelt name most likely means.
    """
    if list_folders(place / _STORES):
        return
    remote = isinstance(place, ObjectPath)
    close = None if remote or place.exists() else nearest_path(typed)
    hint = "name the cache that `featcache extract` wrote" if close is None else f"did you mean {shown_path(close)}?"
    error = CacheError(f"{shown_path(typed)}: there is no cache here to copy; {hint}")
    raise error if close is None else error.correct(typed, shlex.quote(close))


def require_free(place: Path, typed: str) -> None:
    """Refuse to copy a cache into a place that holds something else.

    Args:
        place: Where the copy is to be; it need not be there.
        typed: As it was typed.

    Raises:
        CacheError: it is a file, or holds files or folders that are of no cache, and no cache.
    """
    if not isinstance(place, ObjectPath) and place.exists() and not place.is_dir():
        raise CacheError(f"{shown_path(typed)}: a file, expected a folder for the copy; name another place")
    if not place.is_dir() or (place / _STORES).is_dir():
        return
    others = sorted(path.name for path in place.iterdir() if path.name not in _OF_CACHE and path.name[:1] != ".")
    if others:
        named = ", ".join(map(shown_path, others[:_NAMED])) + (", …" if len(others) > _NAMED else "")
        below = f"{typed.rstrip('/')}/cache"
        error = CacheError(
            f"{shown_path(typed)}: it holds what is of no cache ({named}), expected a cache, or nothing; name a place "
            f"of its own for the copy, such as {shown_path(below)}"
        )
        raise error.correct(typed, shlex.quote(below))
