"""A flat image folder, `<root>/<class>/.../image`: how it is told from one with splits, and what to do about it."""

import json
import os
import shlex
from collections.abc import Iterable, Sequence
from typing import NoReturn

from featcache.errors import DataError
from featcache.listing.leftovers import IMAGE_SUFFIXES, is_left_out
from featcache.listing.paths import readable, shown_path
from featcache.listing.source import USUAL_SPLITS

POOL = "train"  # the split whose rows are divided: of a flat folder, all
_SPLIT_NAMES = frozenset({*USUAL_SPLITS, "training", "valid", "validation", "dev", "testing"})
_NAMED = 5  # classes in a message


def is_flat(root: str, names: Sequence[str]) -> bool:
    """Return whether the folders at the top of an image folder are classes and not splits.

    They are where none of them is called like a split, and images lie right below one of them, or all folders below
    them have different names: clips do, while the classes below a split are those below another.

    Args:
        root: The image folder.
        names: The folders at its top.
    """
    if has_split_name(names):
        return False
    tops = [os.path.join(root, name) for name in names]
    return any(map(_has_image, tops)) or _has_clips(tops)


def has_split_name(names: Iterable[str]) -> bool:
    """Return whether one of these folders is called like a split.

    Args:
        names: The folders' names.
    """
    return any(name.casefold() in _SPLIT_NAMES for name in names)


def refuse_undivided(root: str, classes: Sequence[str], data_set: str) -> NoReturn:
    """Raise the error of a flat folder that nobody divides: it shows the two ways to divide it, ready to be pasted.

    Args:
        root: The image folder.
        classes: The folders at its top.
        data_set: The data set's name.

    Raises:
        DataError: always.
    """
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    named = ", ".join(shown_path(name) for name in classes[:_NAMED]) + more
    typed = os.path.relpath(root) if os.path.abspath(root).startswith(os.path.join(os.getcwd(), "")) else root
    error = DataError(
        f"{root}: the folders in it are classes ({named}), and there is no train, val or test. Let featcache divide "
        f"the images, on the command line:\n"
        f"  featcache extract {shlex.quote(typed)} --val 0.15 --test 0.15\n"
        f"or in featcache.toml, for every command:\n"
        f'  name = "{data_set or "photos"}"\n'
        f"  data.root = {json.dumps(readable(typed), ensure_ascii=False)}\n"
        f'  data.split = {{val = 0.15, test = 0.15, by = "image"}}\n'
        f'(`featcache init {shlex.quote(typed)}` writes that file; by = "clip" keeps the images of one folder '
        f"together.)"
    )
    raise error.correct("--val", "0.15").correct("--test", "0.15")


def _has_clips(classes: Sequence[str]) -> bool:
    """Return whether each of these has folders with images in them, and no two of those the same name."""
    below = [list_folders(folder) for folder in classes]
    names = [os.path.basename(path) for paths in below for path in paths]
    if len(below) < 2 or len(set(names)) < len(names) or has_split_name(names):
        return False
    return all(any(map(_has_image, clips)) for clips in below)


def list_folders(folder: str) -> list[str]:
    """Return the paths of the folders in a folder, sorted; without leftovers, and none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            paths = [entry.path for entry in entries if entry.is_dir() and not is_left_out(entry.path, top=False)]
    except OSError:
        return []
    return sorted(paths)


def _has_image(folder: str) -> bool:
    """Return whether an image lies right in a folder, by the names of its files; False if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return any(
                entry.name.lower().endswith(IMAGE_SUFFIXES)
                and not entry.is_dir()
                and not is_left_out(entry.path, top=False)
                for entry in entries
            )
    except OSError:
        return False
