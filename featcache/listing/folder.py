"""An image folder: `<root>/<split>/<class>/.../image`, any depth below the class.

The folder right above an image is its clip, where it is not the class folder itself. Hidden entries and what systems
leave behind (`leftovers`) are no split, class or row: `Listing.left_out` names them. A file whose name does not end
like an image's is no row either: `Listing.ignored` names it. A class is text and has one spelling; a path is bytes.

A flat folder, `<root>/<class>/.../image`, has no splits: it is listed as one, whose rows `AssignedSplits` divides.
"""

import glob
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from featcache.arguments import nearest_name
from featcache.containers import CONTAINER_SUFFIXES
from featcache.errors import DataError
from featcache.files import NAME_PATTERN, nearest_path
from featcache.listing.flat_folder import POOL, has_split_name, is_flat, refuse_undivided
from featcache.listing.folder_names import check_clips, check_names
from featcache.listing.leftovers import IMAGE_SUFFIXES, is_left_out
from featcache.listing.listing import Listing
from featcache.listing.paths import encode_name, shown_path
from featcache.listing.sheet import TABLE_SUFFIXES
from featcache.listing.source import describe_splits, nearest_split, order_splits
from featcache.listing.videos import find_videos
from featcache.text import counted

_NAMED = 10  # folders in a message


@dataclass(frozen=True, slots=True)
class Folder:
    """One image folder, as a recipe names it; a `DataSource`."""

    root: str
    data_set: str
    variant: str
    is_divided: bool = False  # whether splits are assigned to its rows, so that it may have none of its own

    has_disjoint_splits = True
    unreadable = ""

    def splits(self) -> list[str]:
        """Return the names of the folders at the top; train, val and test first. A flat folder is all train.

        Raises:
            DataError: what `find_splits` raises, or a flat folder whose rows nobody divides.
        """
        names = find_splits(self.root, data_set=self.data_set)
        if not is_flat(self.root, names):
            return names
        if not self.is_divided:
            refuse_undivided(self.root, names, self.data_set)
        return [POOL]

    def listing(self, split: str) -> Listing:
        """Return the rows of one split, sorted by class and path.

        Raises:
            DataError: what `list_folder` raises, or a split that could not name a file of the cache.
        """
        listing = list_folder(
            self.root, split, data_set=self.data_set, variant=self.variant, is_divided=self.is_divided
        )
        if not re.fullmatch(NAME_PATTERN, split):
            raise DataError(
                f"{listing.root}: split {split!r} would name a file of the cache; expected letters, digits, '.', '_' "
                f"and '-' alone: rename its folder, or name the splits that are meant with --split"
            )
        return listing


def find_splits(root: str, *, data_set: str = "") -> list[str]:
    """Return the splits of an image folder, sorted; train, val and test first.

    Args:
        root: The image folder.
        data_set: The data set's name, for messages; "" where it has none.

    Raises:
        DataError: no such folder, or nothing in it that could be a split.
    """
    if not os.path.isdir(root):
        raise _no_folder_error(root, data_set)
    left_out: list[str] = []
    entries = _entries(root, left_out, "")
    names = [entry.name for entry in entries if _is_folder(entry) and not _is_cache(entry.path)]
    if not names:
        images = any(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in entries)
        above = ". It holds images: if it is one class, name the folder above it" if images else ""
        shown = f" but {', '.join(map(shown_path, left_out[:_NAMED]))}" if left_out else ""
        error = DataError(
            f"{root}: no folder in it{shown}; expected <root>/<class>/image or <root>/<split>/<class>/image{above}"
        )
        raise error.correct(root, shlex.quote(_data_set_above(root))) if images else error
    return order_splits(names)


def _no_folder_error(root: str, data_set: str) -> DataError:
    """Return the error that a data set's folder is not there, or is a file, with the folder that may be meant."""
    is_file = os.path.exists(root)
    if not is_file and glob.has_magic(root):
        return _no_match_error(root)
    suffixes = TABLE_SUFFIXES if root.lower().endswith(TABLE_SUFFIXES) else ()
    meant = _data_set_above(os.path.dirname(root)) if is_file else nearest_path(root, suffixes=suffixes)
    hint = f" Did you mean {shown_path(meant)}?" if meant else ""
    error = DataError(
        f"{root}: the folder of {f'data set {data_set!r}' if data_set else 'images'} "
        f"{'is a file' if is_file else 'does not exist'}; expected <root>/<class>/image or "
        f"<root>/<split>/<class>/image.{hint} Name yours with --data DIR, or the root in the recipe."
    )
    return error.correct(root, shlex.quote(meant)) if meant else error


def _no_match_error(pattern: str) -> DataError:
    """Return the error that a pattern matches no container of images, with the suffix that may be meant."""
    stem, suffix = os.path.splitext(pattern)
    close = nearest_name(suffix, CONTAINER_SUFFIXES) if suffix else None
    meant = f"{stem}{close}" if close is not None and glob.glob(f"{stem}{close}") else None
    hint = f"; did you mean {shown_path(meant)}?" if meant else ""
    error = DataError(
        f"{shown_path(pattern)}: this pattern matches no file whose name ends in {', '.join(CONTAINER_SUFFIXES)}{hint}"
    )
    if meant is None:
        return error
    pairs = {pattern: meant, os.path.relpath(pattern): os.path.relpath(meant)}  # one of them is what was typed
    for wrong, right in pairs.items():
        error = error.correct(wrong, shlex.quote(right))
    return error


def _data_set_above(folder: str) -> str:
    """Return the data set that a class's folder belongs to: the folder above it, or above its split."""
    above = os.path.dirname(folder.rstrip(os.sep)) or "."
    return (os.path.dirname(above) or ".") if has_split_name([os.path.basename(above)]) else above


def _is_cache(folder: str) -> bool:
    """Return whether this is a featcache cache that lies among the splits, as it does under `--data .`."""
    return os.path.isdir(os.path.join(folder, "stores")) and os.path.exists(os.path.join(folder, "stat.log"))


def list_folder(root: str, split: str, *, data_set: str, variant: str = "all", is_divided: bool = False) -> Listing:
    """Return the rows of one split, sorted by class and path; the classes are the union over all splits, sorted.

    Args:
        root: The image folder.
        split: The name of a folder at its top; of a flat folder, `train`.
        data_set: The name that the listing is kept under, for messages too.
        variant: The variant that the listing is kept under.
        is_divided: Whether a flat folder is meant to be divided into splits.

    Raises:
        DataError: a missing split, a folder that cannot be read, no class, or no image; a flat folder that is not
            divided.
    """
    root = os.path.abspath(root)
    names = find_splits(root, data_set=data_set)
    flat = is_flat(root, names)
    if flat and not is_divided:
        refuse_undivided(root, names, data_set)
    known = [POOL] if flat else names
    if split not in known:
        error = DataError(f"{root}: no split {split!r} in it; {describe_splits(known, instead_of=split)}")
        close = nearest_split(split, known)
        raise error if close is None else error.correct(split, shlex.quote(close))
    left_out: list[str] = []
    top = _entries(root, left_out, "")
    if flat:
        loose_images = [entry for entry in top if entry.name.lower().endswith(IMAGE_SUFFIXES) and not _is_folder(entry)]
        entries = {POOL: [entry for entry in top if entry.name in names] + loose_images}
    else:
        entries = {name: _entries(os.path.join(root, name), left_out if name == split else [], name) for name in names}
    classes_of = {name: [entry.name for entry in in_split if _is_folder(entry)] for name, in_split in entries.items()}
    classes = sorted({name for in_split in classes_of.values() for name in in_split})
    notes = check_names(root, [] if flat else names, classes_of, is_flat=flat)
    rows = _list_rows(root, "" if flat else split, entries[split], classes, left_out)
    check_clips(root, rows.clips)
    if not classes or not rows.paths:
        loose = [name for name in rows.ignored if name.lower().endswith(IMAGE_SUFFIXES)]
        if not loose and (videos := find_videos(root)):
            raise DataError(
                f"{root}: no image is in a class folder, but {counted(len(videos), 'video')}, such as "
                f"{shown_path(videos[0])}. `featcache init {shlex.quote(os.path.relpath(root))}` writes a recipe for "
                f"{'it' if len(videos) == 1 else 'them'}."
            )
        found_instead = f"{loose[0]}, right below the split" if loose else "no image"
        raise DataError(
            f"{root}: split {split!r} has no image in a class folder; found {found_instead}, expected "
            f"{split}/<class>/.../image. Where the classes stand at the top, move them into a folder train/."
        )
    return Listing(
        data_set=data_set,
        variant=variant,
        split=split,
        root=root,
        classes=tuple(classes),
        paths=tuple(rows.paths),
        labels=np.array(rows.labels, dtype=np.int64),
        clips=tuple(rows.clips),
        subjects=("",) * len(rows.paths),
        ignored=tuple(rows.ignored),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one split, and what lies beside them."""

    paths: list[str]  # (rows,), below the root
    labels: list[int]  # (rows,)
    clips: list[str]  # (rows,)
    ignored: list[str]  # paths of files that are no images by their names


def _list_rows(
    root: str, split: str, entries: Sequence["os.DirEntry[str]"], classes: Sequence[str], left_out: list[str]
) -> _Rows:
    """Return the rows below the class folders among these entries; `split` is "" where they stand at the top."""
    rows = _Rows([], [], [], [])
    index = {name: label for label, name in enumerate(classes)}
    below_root = f"{split}/" if split else ""
    for entry in entries:
        if not _is_folder(entry):
            rows.ignored.append(f"{below_root}{entry.name}")
            continue
        above = tuple(_identity(folder) for folder in (root, os.path.join(root, split), entry.path))
        start = f"{below_root}{entry.name}/"
        files = _files(entry.path, start, above, left_out)
        for below, name in sorted(files, key=lambda file: encode_name("".join(file))):
            path = below + name
            if name.lower().endswith(IMAGE_SUFFIXES):
                rows.paths.append(path)
                rows.labels.append(index[entry.name])
                rows.clips.append(below[:-1] if below != start else "")
            else:
                rows.ignored.append(path)
    return rows


def _entries(folder: str, left_out: list[str], below: str) -> list[os.DirEntry[str]]:
    """Return a folder's entries, sorted; leftovers are added to `left_out`, as paths below the root.

    `below` is the folder's own path below the root, "" for the root itself.
    """
    kept: list[os.DirEntry[str]] = []
    leftovers: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_left_out(entry.path, top=not below):
                    leftovers.append(f"{below.rstrip('/')}/{entry.name}".lstrip("/"))
                else:
                    kept.append(entry)
    except OSError as error:
        raise DataError(f"{folder}: this folder cannot be read: {error.strerror}") from None
    left_out += sorted(leftovers)
    return sorted(kept, key=lambda entry: encode_name(entry.name))


def _identity(folder: str) -> tuple[int, int]:
    """Return what is equal for two paths of one folder: its device and inode."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or where nobody may look: reading it fails, and says so
        return False


def _files(
    folder: str, below: str, above: tuple[tuple[int, int], ...], left_out: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield (folder below the root, with its slash; file name) for every file under `folder`, links followed.

    What is neither a file nor a folder (a FIFO, a dangling link) counts as a file: reading it fails, and says so.
    `above` are the identities of the folders above: a link that leads back to one of them is refused.
    """
    for entry in _entries(folder, left_out, below):
        if not _is_folder(entry):
            yield below, entry.name
            continue
        here = _identity(entry.path)
        if here in above:
            raise DataError(f"{entry.path}: this link leads back to a folder above it; remove the link")
        yield from _files(entry.path, f"{below}{entry.name}/", (*above, here), left_out)
