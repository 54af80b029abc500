"""The rows of all containers of a data set: collected, labelled, and checked."""

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from featcache.containers import (
    ContainerError,
    LmdbFile,
    TableFile,
    TarFile,
    is_elsewhere,
    member_path,
    open_container,
)
from featcache.errors import DataError
from featcache.files import NAME_PATTERN, FileStat
from featcache.files.objects import is_remote, parse_path
from featcache.listing.container_files import ContainerFiles, find_containers, find_split_words, refuse_compressed
from featcache.listing.container_rows import ROLES, ContainerRows
from featcache.listing.container_tables import list_table
from featcache.listing.flat_folder import POOL
from featcache.listing.key_folders import read_folders
from featcache.listing.lmdb_keys import list_lmdb
from featcache.listing.paths import is_text, shown_path
from featcache.listing.remote_files import find_remote_containers, list_bucket
from featcache.listing.sheet import refuse_problems
from featcache.listing.source import usual_split
from featcache.listing.spellings import find_case_clashes, find_spelling_faults, same_name_key
from featcache.listing.webdataset import list_tar
from featcache.recipe import ContainerData


@dataclass(slots=True)
class CollectedRows:
    """The rows of all containers of a data set."""

    root: str  # absolute; the folder that the containers' paths are relative to
    paths: list[str] = field(default_factory=list)  # (rows,)
    keys: list[str] = field(default_factory=list)  # (rows,)
    columns: dict[str, list[str]] = field(default_factory=lambda: {role: [] for role in ROLES})  # (rows,) each
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stats: list[FileStat] = field(default_factory=list)  # (rows,) of what is elsewhere; of others none
    are_members: bool = True  # whether images are inside containers, and no objects of their own
    has_labels: bool = False  # whether any container says itself what its images are
    unlabelled: dict[str, str] = field(default_factory=dict)  # containers that do not, each with its first image

    def add(self, container: str, rows: ContainerRows, split: str) -> None:
        """Add the rows of one container.

        Args:
            container: Its path below the root.
            rows: What it says of its images.
            split: By the container's name, that of all rows of which it does not say one; "" where that says nothing.
        """
        self.paths += [member_path(container, key) for key in rows.keys]
        self.keys += rows.keys
        none = ("",) * len(rows.keys)
        columns = {role: rows.columns.get(role, none) for role in ROLES}
        columns["split"] = tuple(usual_split(own) or split for own in columns["split"])
        for role, column in columns.items():
            self.columns[role] += column
        self.left_out += [f"{container}/{name}" for name in rows.left_out]
        self.notes += [f"{shown_path(container)}: {note}" for note in rows.notes]
        self.problems += [f"{shown_path(container)}: {problem}" for problem in rows.problems]
        if with_zeros := [key for key in rows.keys if "\0" in key]:
            more = f" and {len(with_zeros) - 1:,} more" if len(with_zeros) > 1 else ""
            self.problems.append(f"{shown_path(container)}: a key with a zero byte: {shown_path(with_zeros[0])}{more}")
        if "label" in rows.columns:
            self.has_labels = True
        elif rows.keys:
            self.unlabelled[container] = rows.keys[0]


def collect_rows(data: ContainerData) -> CollectedRows:
    """Return the rows of every container of a data set, each with its label and its split.

    Args:
        data: Names the containers.

    Raises:
        DataError: there is no container, or a damaged one, no image, images without a label, or a name with two
            spellings: each is named.
    """
    rows = _read_remote(data) if is_elsewhere(data.root) else _read_containers(data, find_containers(data.root))
    if not rows.has_labels:
        _take_folders(rows)
    rows.problems += [
        f"{shown_path(container)}: no label stands beside {shown_path(key)} or another image of it, as in other files"
        for container, key in rows.unlabelled.items()
        if rows.has_labels
    ]
    if not any(rows.columns["split"]):
        rows.columns["split"] = [POOL] * len(rows.paths)
    refuse_problems(data.root, [*rows.problems, *_find_faults(rows)])
    return rows


def list_container(path: str) -> list[str]:
    """Return the paths of all images in one container, in its order, whatever is known of their labels.

    Args:
        path: Of the container.

    Raises:
        DataError: it cannot be read, or has no image.
    """
    keys = _read_rows(path)[0].keys
    if not keys:
        raise DataError(f"{path}: no image in this container, by the ends of their names")
    return [member_path(path, key) for key in keys]


def _read_containers(data: ContainerData, files: ContainerFiles) -> CollectedRows:
    """Return the rows of every container as it has them.

    Raises:
        DataError: a container cannot be read, or none has an image.
        MachineError: it is elsewhere, and whoever has it does not answer.
    """
    rows = CollectedRows(files.root)
    for container, split in zip(files.paths, files.splits, strict=True):
        path = os.path.join(files.root, container)
        read, status = _read_rows(path, data.label_column, data.image_column)
        rows.add(container, read, split)
        if is_elsewhere(path):
            rows.stats += [status] * len(read.keys)
    if not rows.paths:
        raise DataError(
            f"{data.root}: no image in it; expected members such as ants/0013.jpg and ants/0013.cls, or rows"
        )
    return rows


def _read_remote(data: ContainerData) -> CollectedRows:
    """Return the rows of a data set in a bucket or on the Hub: of its containers, or of the objects that are images.

    Raises:
        DataError: there is none, or nothing at all; or a container cannot be read.
        UsageError, MachineError: it cannot be listed.
    """
    root = data.root
    if is_remote(root):
        parse_path("/".join(root.split("/")[:3]), "--data")  # refuses credentials, and repeats none
    refuse_compressed(root)
    if (named := find_remote_containers(root)) is not None:
        return _read_containers(data, named)
    files = list_bucket(root)
    if files.containers and not files.images:
        paths = tuple(files.containers)
        return _read_containers(data, ContainerFiles(root.rstrip("/"), paths, find_split_words(root, paths)))
    if not files.images:
        raise DataError(f"{root}: no image below this name in the bucket; expected <split>/<class>/…/image")
    rows = CollectedRows(root.rstrip("/"), are_members=False, left_out=files.left_out)
    rows.paths = [key for key, _ in files.images]
    rows.stats = [status for _, status in files.images]
    rows.keys = rows.paths
    rows.columns = {role: [""] * len(rows.paths) for role in ROLES}
    others = files.others + len(files.containers)
    rows.notes = [f"objects that are no images by their names: {others:,}"] if others else []
    return rows


def _read_rows(
    path: str, label_column: str | None = None, image_column: str | None = None
) -> tuple[ContainerRows, FileStat]:
    """Return the rows of one container, and its stat when they were read.

    Raises:
        DataError: it cannot be read.
        UsageError: the package that reads it is not installed.
    """
    try:
        with contextlib.closing(open_container(path)) as container:
            if isinstance(container, TarFile):
                return list_tar(container, label_column), container.status
            if isinstance(container, LmdbFile):
                return list_lmdb(container), container.status
            assert isinstance(container, TableFile)  # noqa: S101 (there are no others)
            return list_table(container, label_column, image_column), container.status
    except ContainerError as error:
        raise DataError(f"{path}: {error}. Make it or copy it again, or leave it out") from None
    except FileNotFoundError:
        raise DataError(f"{path}: it is not there; name a file that is, or its folder") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _take_folders(rows: CollectedRows) -> None:
    """Take labels, clips and, where there is none, splits from the folders of the keys."""
    folders = read_folders(rows.keys, has_splits=any(rows.columns["split"]))
    rows.columns["label"], rows.columns["clip"] = list(folders.labels), list(folders.clips)
    if any(folders.splits):
        rows.columns["split"] = list(map(usual_split, folders.splits))
    rows.problems += [
        f"{shown_path(path)}: no label stands beside it, and no folder of its name is a class"
        for path, label in zip(rows.paths, folders.labels, strict=True)
        if not label
    ]


def _find_faults(rows: CollectedRows) -> list[str]:
    """Return what is wrong with the names of labels, splits, clips and subjects, each with its first row."""
    faults: list[str] = []
    for role in ROLES:
        column = rows.columns[role]
        first = partial(_first_place, rows.paths, column)
        bad = {name: reason for name in set(column) if (reason := _refuse_name(role, name))}
        faults += [f"{first(name)}: {reason}" for name, reason in sorted(bad.items())]
        faults += [f"{fault}; spell it in one way" for fault in find_spelling_faults(role, column, first)]
    if not faults:
        labels: dict[str, set[str]] = {}
        for split, label in set(zip(rows.columns["split"], rows.columns["label"], strict=True)):
            labels.setdefault(split, set()).add(label)
        place: Callable[[str], str] = partial(_first_place, rows.paths, rows.columns["label"])
        faults += [f"{fault}; spell it in one way" for fault in find_case_clashes("label", labels, place)]
    return faults


def _refuse_name(role: str, name: str) -> str:
    """Return why a text can be no label, split, clip or subject; "" where it can."""
    if role == "split" and not re.fullmatch(NAME_PATTERN, name):
        missing = "no split, where other images have one"
        return missing if not name else f"split {name!r}; expected letters, digits, '.', '_' and '-' alone"
    if role == "label" and name and not same_name_key(name):
        return f"label {name!r} is blank"
    return "" if is_text(name) and "\0" not in name else f"{role} {shown_path(name)!r} is not text in UTF-8"


def _first_place(paths: Sequence[str], column: Sequence[str], name: str) -> str:
    """Return the row in which a column first has a name."""
    return shown_path(paths[column.index(name)])
