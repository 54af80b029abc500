"""A word on the command line that may be a data set: the name of a folder, or of a file with images inside."""

import os
import shlex
from collections.abc import Mapping
from typing import Any

from featcache.errors import UsageError


def is_data_folder(word: str) -> bool:
    """Return whether a word that may be a head's name is a data set instead: a folder, or containers of images."""
    from featcache.containers import is_container_path, is_hub_name
    from featcache.files import expand_home
    from featcache.files.objects import is_remote

    is_other = is_container_path(word) or is_hub_name(word) or is_remote(word)
    return word not in ("best", "latest") and (is_other or os.path.isdir(expand_home(word)))


def typed_root(root: str) -> str:
    """Return how the place of a data set's images is typed in this folder: a path relative to it, or a URL as it is.

    Args:
        root: Absolute, or the URL of what is in a bucket or on the Hub.
    """
    from featcache.containers import is_elsewhere, is_hub_name

    return root if is_elsewhere(root) or is_hub_name(root) else os.path.relpath(root)


def refuse_misspelt_folder(word: str | None, options: Mapping[str, Any]) -> None:
    """Refuse the name of a folder that is not here, where a head may stand too and no data set is named.

    Raises:
        UsageError: a folder of nearly that name is here.
    """
    from featcache.files import nearest_path
    from featcache.recipe import has_local_recipe

    if word is None or word in ("best", "latest") or options["data"] or options["pipeline"] or has_local_recipe():
        return
    if (close := nearest_path(word)) is not None:
        error = UsageError(f"{word!r} is no folder, and no data set is named; did you mean {close}?")
        raise error.correct(word, shlex.quote(close))
