"""What a data set in a bucket or on the Hub is made of: images that are objects, or containers of images."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field

from featcache.containers import (
    expand_braces,
    is_container_path,
    is_pattern,
    is_streamed,
    list_streamed,
    split_root,
)
from featcache.errors import DataError
from featcache.files import FileStat
from featcache.files.objects import list_remote
from featcache.listing.container_files import ContainerFiles, find_split_words
from featcache.listing.leftovers import IMAGE_SUFFIXES, is_leftover


@dataclass(slots=True)
class RemoteFiles:
    """What stands below a name in a bucket."""

    images: list[tuple[str, FileStat]] = field(default_factory=list)  # below the root, in the order of their names
    containers: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    others: int = 0  # objects that are neither


def find_remote_containers(root: str) -> ContainerFiles | None:
    """Return the containers that a place elsewhere stands for by its name; None where it is a prefix of a bucket.

    Args:
        root: `s3://bucket/photos.tar`, a pattern, or a place on the Hub.

    Raises:
        DataError: a pattern that stands for nothing, or a data set of the Hub without containers.
        UsageError: no such place, or a package is not installed.
        MachineError: whoever has it does not answer.
    """
    above, below = split_root(root)
    if is_streamed(root):
        return _as_files(root, above, filter(_is_container, list_streamed(root)))
    if not is_container_path(root):
        return None
    names = list(expand_braces(below)) if is_pattern(root) else [below]
    if not any(mark in below for mark in "*?["):
        return _as_files(root, above, names)
    there = sorted(key for key, _ in list_remote(above) if any(_fits(key, each) for each in names))
    return _as_files(root, above, filter(_is_container, there))


def _fits(key: str, pattern: str) -> bool:
    """Return whether a key fits a pattern, whose `*` ends at a slash."""
    return key.count("/") == pattern.count("/") and fnmatch.fnmatchcase(key, pattern)


def _as_files(typed: str, root: str, names: Iterable[str]) -> ContainerFiles:
    paths = tuple(names)
    if not paths:
        raise DataError(f"{typed}: no container of images is there, such as a .tar or .parquet file")
    return ContainerFiles(root, paths, find_split_words(root, paths))


def list_bucket(root: str) -> RemoteFiles:
    """Return what stands in a bucket below a prefix, by the names; no object is opened.

    Args:
        root: The prefix.

    Raises:
        DataError: nothing stands there.
        UsageError, MachineError: the bucket cannot be listed.
    """
    files = RemoteFiles()
    for key, status in sorted(list_remote(root)):
        if any(map(is_leftover, key.split("/"))):
            files.left_out.append(key)
        elif key.lower().endswith(IMAGE_SUFFIXES):
            files.images.append((key, status))
        elif is_container_path(key):
            files.containers.append(key)
        else:
            files.others += 1
    return files


def _is_container(name: str) -> bool:
    return is_container_path(name) and not any(map(is_leftover, name.split("/")))
