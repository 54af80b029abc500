"""Paths that stand for several containers: a folder of them, or a pattern such as `shards-{000..009}.tar`."""

import glob
import itertools
import os
import re
from collections.abc import Iterator

from featcache.containers.address import is_container_path
from featcache.containers.hub import hub_folder, is_hub_name
from featcache.containers.hub_files import is_streamed, parse_streamed
from featcache.errors import UsageError
from featcache.files.objects import is_remote

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MOST_FILES = 1_000_000  # that a pattern may stand for


def is_pattern(path: str) -> bool:
    """Return whether a path stands for several containers: it has braces, or what a shell expands.

    Args:
        path: As it was typed.
    """
    has_magic = _BRACES.search(path) is not None or glob.has_magic(path)
    return has_magic and is_container_path(path) and not os.path.lexists(path)


def split_root(path: str) -> tuple[str, str]:
    """Return the folder that containers' paths are relative to, absolute, and what names them below it.

    Args:
        path: As it was typed; nothing need be there. Of a data set of the Hub, the folder is where it was fetched to;
            of one that is read there, and in a bucket, it is a name without its last part or its pattern.

    Returns:
        The folder, and the name or the pattern; "" where every container of the folder is meant.
    """
    if is_hub_name(path) and not is_streamed(path):
        return hub_folder(path) or path, ""
    if is_streamed(path):
        place = parse_streamed(path)
        return place.root, place.below
    if is_remote(path) and not is_container_path(path):
        return path.rstrip("/"), ""
    path = path if is_remote(path) else os.path.abspath(path)
    if not is_container_path(path) or os.path.isdir(path):
        return path, ""
    fixed = re.split(r"[{*?\[]", path)[0] if is_pattern(path) else path
    folder = os.path.dirname(fixed)
    return folder, path.removeprefix(folder).lstrip("/") if is_remote(path) else os.path.relpath(path, folder)


def expand_pattern(folder: str, pattern: str) -> Iterator[str]:
    """Yield the paths that a pattern stands for, relative to its folder.

    Braces stand for what they say, whether it is there or not; `*`, `?` and `[…]` for what is there, sorted.

    Args:
        folder: The folder.
        pattern: What names files in it.

    Raises:
        UsageError: it stands for too many files.
    """
    if os.path.lexists(os.path.join(folder, pattern)):
        yield pattern
        return
    for path in expand_braces(pattern):
        if glob.has_magic(path):
            yield from sorted(glob.glob(path, root_dir=folder, recursive=True), key=os.fsencode)
        else:
            yield path


def stem_of(path: str) -> str:
    """Return what the names of the containers of a path begin with: `shards` of `a/shards-{000..009}.tar`.

    Args:
        path: A container's, or a pattern; nothing need be there.
    """
    return re.split(r"[{*?\[]", os.path.splitext(os.path.basename(path))[0])[0].rstrip("-_.") or "images"


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield the paths that the braces of a pattern stand for, whether anything is there or not.

    Args:
        pattern: With braces or without.

    Raises:
        UsageError: it stands for too many files.
    """
    parts: list[list[str]] = []
    count, end = 1, 0
    for match in _BRACES.finditer(pattern):
        choices = match[3].split(",") if match[3] is not None else _count_up(match[1], match[2])
        parts += [[pattern[end : match.start()]], choices]
        end, count = match.end(), count * len(choices)
    if count > _MOST_FILES:
        raise UsageError(f"{pattern}: stands for {count:,} files, expected at most {_MOST_FILES:,}")
    return map("".join, itertools.product(*parts, [pattern[end:]]))


def _count_up(first: str, last: str) -> list[str]:
    """Return the numbers of `{first..last}`, as wide as the first is written."""
    if int(last) - int(first) >= _MOST_FILES:
        raise UsageError(f"{{{first}..{last}}}: stands for too many files, expected at most {_MOST_FILES:,}")
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
