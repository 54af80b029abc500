"""Which containers a data set is made of, and the split of each by its name."""

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featcache.containers import (
    CONTAINER_SUFFIXES,
    PARQUET_SUFFIXES,
    expand_pattern,
    fetch_hub,
    has_image_column,
    hub_folder,
    is_container_path,
    is_elsewhere,
    is_hub_name,
    is_member_path,
    is_pattern,
    split_root,
)
from featcache.errors import DataError, MachineError, UsageError
from featcache.files import nearest_path
from featcache.files.objects import is_remote
from featcache.listing.leftovers import IMAGE_SUFFIXES, is_left_out
from featcache.listing.paths import encode_name, shown_path
from featcache.listing.saved_dataset import find_saved_files, is_saved_dataset
from featcache.listing.source import find_split_word
from featcache.text import counted

_NAMED = 5  # files in a message
_SUFFIXES = f"{', '.join(CONTAINER_SUFFIXES[:-1])} or {CONTAINER_SUFFIXES[-1]}"
_COMPRESSED = re.compile(r"\.(tgz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
_LEVELS = 2  # of folders below the one that is named, which are looked into to tell what it is


@dataclass(frozen=True, slots=True)
class ContainerFiles:
    """The containers of a data set."""

    root: str  # absolute; the folder that their paths are relative to
    paths: tuple[str, ...]  # (files,), sorted, or in the order of the pattern
    splits: tuple[str, ...]  # (files,), by the names of files or folders; "" where they say nothing


def is_of_containers(path: str) -> bool:
    """Return whether a path names containers: a file, a pattern, or a folder that has one and no folder with images.

    A Parquet file is one where it holds images; one of their paths is a table.

    Args:
        path: As it was typed.
    """
    if is_hub_name(path) or is_remote(path):
        return True
    if os.path.isdir(path):
        return _holds_containers(path)
    if os.path.isfile(path):
        return _may_have_images(path) or _COMPRESSED.search(path) is not None
    return is_container_path(path) or _COMPRESSED.search(path) is not None or is_pattern(path)


def has_split_files(path: str) -> bool:
    """Return whether containers have a split by their names; False where that cannot be told.

    Args:
        path: As it was typed.
    """
    if is_elsewhere(path):
        return False
    if is_hub_name(path) and (folder := hub_folder(path)) is not None:
        path = folder  # what was fetched: the Hub is not asked again
    try:
        return any(find_containers(path).splits)
    except (DataError, UsageError, MachineError):
        return False


def find_containers(path: str) -> ContainerFiles:
    """Return the containers that a path names, with the split of each.

    Args:
        path: A file, a folder, a pattern, or a data set of the Hugging Face Hub, which is fetched where it is not here.

    Raises:
        DataError: there is none, one is missing, or some have a split by their names and others have none.
        UsageError: a pattern that stands for too many files, or a package that is not installed.
        MachineError: the Hub cannot be reached.
    """
    refuse_compressed(path)
    root, pattern = (fetch_hub(path), "") if is_hub_name(path) else split_root(path)
    if not pattern and is_saved_dataset(root):
        paths, splits = zip(*find_saved_files(root), strict=True)
        return ContainerFiles(root, paths, splits)
    names = list(expand_pattern(root, pattern)) if pattern else sorted(_walk(root), key=encode_name)
    _refuse_missing(path, root, names)
    return ContainerFiles(root, tuple(names), find_split_words(root, names))


def _refuse_missing(path: str, root: str, names: Sequence[str]) -> None:
    """Refuse a path that stands for nothing, for files that are not there, or for names that no row can have."""
    if not names and is_pattern(path):
        raise DataError(f"{path}: this pattern matches no file; name files that are there, or their folder")
    if not names:
        raise DataError(f"{path}: no container of images is there, a file whose name ends in {_SUFFIXES}")
    missing = [name for name in names if not os.path.exists(os.path.join(root, name))]
    if missing and len(names) == 1:
        close = nearest_path(path, suffixes=CONTAINER_SUFFIXES)
        error = DataError(f"{path}: it does not exist{f'; did you mean {shown_path(close)}?' if close else ''}")
        raise error if close is None else error.correct(path, shlex.quote(close))
    if missing:
        named = ", ".join(map(shown_path, missing[:_NAMED]))
        raise DataError(f"{path}: {len(missing):,} of {counted(len(names), 'file')} missing: {named}")
    if bad := [name for name in names if is_member_path(name)]:
        raise DataError(f"{root}: {shown_path(bad[0])}: '#' stands behind a container's suffix; rename it")


def find_split_words(root: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the split that the name of each container says, (files,); "" where they say nothing.

    Args:
        root: What the names are below, for the message.
        names: Of the containers.

    Raises:
        DataError: some say one, and others none.
    """
    splits = tuple(find_split_word(os.path.splitext(name)[0]) for name in names)
    if any(splits) and not all(splits):
        none = shown_path(names[splits.index("")])
        split, named = next((split, shown_path(name)) for split, name in zip(splits, names, strict=True) if split)
        raise DataError(
            f"{root}: {named} is of split {split!r} by its name, and {none} of none; put train, val or test into the "
            f"name of every file, or name the files that are meant"
        )
    return splits


def refuse_compressed(path: str) -> None:
    """Refuse a tar file that is compressed, by its name.

    Args:
        path: As it was typed.

    Raises:
        DataError: it is one.
    """
    if not _COMPRESSED.search(path):
        return
    raise DataError(
        f"{path}: a compressed tar file has to be read from its start for every image; expected a .tar without "
        f"compression, which is hardly larger, since images are compressed already. Unpack it, and pack it again: "
        f"tar -cf {_COMPRESSED.sub('.tar', os.path.basename(path))} FOLDER"
    )


def _holds_containers(folder: str) -> bool:
    """Return whether a folder has a container, and none of the folders in it an image; few entries are looked at."""
    if is_saved_dataset(folder):
        return True
    has_container, level = False, [folder]
    for depth in range(_LEVELS + 1):
        below: list[str] = []
        for entry in _entries(level):
            if depth and entry.name.lower().endswith(IMAGE_SUFFIXES):
                return False
            if _is_folder(entry):
                below += [entry.path] if not entry.name.startswith(".") else []
            else:
                has_container = has_container or _may_have_images(entry.path)
        level = below
    return has_container


def _entries(folders: Sequence[str]) -> Iterator[os.DirEntry[str]]:
    """Yield what lies in these folders; nothing of one that cannot be read."""
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            yield from entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder; a link that leads nowhere, or round in a circle, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _may_have_images(path: str) -> bool:
    """Return whether a file is a container by its name; one of Parquet, by its columns: a table of paths is none."""
    return has_image_column(path) if path.lower().endswith(PARQUET_SUFFIXES) else is_container_path(path)


def _walk(folder: str) -> Iterator[str]:
    """Yield the containers below a folder, as paths relative to it; leftovers are none."""
    for above, folders, names in os.walk(folder):
        top = above == folder
        folders[:] = sorted(name for name in folders if not is_left_out(os.path.join(above, name), top=top))
        for name in sorted(filter(is_container_path, names)):
            path = os.path.join(above, name)
            if not is_left_out(path, top=top):
                yield os.path.relpath(path, folder)
