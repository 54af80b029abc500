"""Where an image in a container stands: the container's path, `#`, and the image's key, as in `photos.tar#a/1.jpg`."""

import os
import re
from typing import NamedTuple

from featcache.containers.hub_files import is_streamed
from featcache.files.objects import is_remote

TAR_SUFFIXES = (".tar",)
PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow",)
LMDB_SUFFIXES = (".mdb", ".lmdb")
CONTAINER_SUFFIXES = (*TAR_SUFFIXES, *PARQUET_SUFFIXES, *ARROW_SUFFIXES, *LMDB_SUFFIXES)
_LMDB_LOCK = "lock.mdb"  # which lies beside data.mdb
_MEMBER_PATH = re.compile(rf"(?s)(.+?(?:{'|'.join(map(re.escape, CONTAINER_SUFFIXES))}))#(.+)", re.IGNORECASE)


class MemberPath(NamedTuple):
    """One image in a container."""

    container: str  # the path of the file that holds it
    key: str  # its name there


def member_path(container: str, key: str) -> str:
    """Return the path of an image in a container: the inverse of `split_member_path`.

    Args:
        container: The path of the container.
        key: The image's key.
    """
    return f"{container}#{key}"


def is_container_path(path: str) -> bool:
    """Return whether a file is a container of images by its name.

    Args:
        path: Of the file, which need not be there.
    """
    return path.lower().endswith(CONTAINER_SUFFIXES) and os.path.basename(path) != _LMDB_LOCK


def is_member_path(path: str) -> bool:
    """Return whether `member_path` could have made a path.

    Args:
        path: The path of a row, as a listing has it.
    """
    return _MEMBER_PATH.fullmatch(path) is not None


def split_member_path(path: str) -> MemberPath:
    """Return the container and the key of an image in a container.

    The container's path ends before the first `#` that stands right behind a container's suffix.

    Args:
        path: As `member_path` writes it.

    Raises:
        ValueError: it names no image in a container.
    """
    match = _MEMBER_PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"{path}: no image in a container")
    return MemberPath(match[1], match[2])


def find_member(path: str) -> MemberPath | None:
    """Return the image in a container that a typed path names; None where it names a file, or nothing that is here.

    Of what is in a bucket or on the Hub, a `#` behind a container's suffix says that it is one: nobody is asked.

    Args:
        path: As it was typed, or the whole path of a row.
    """
    if not is_member_path(path) or os.path.lexists(path):
        return None
    if is_remote(path) or is_streamed(path):
        return split_member_path(path)
    member = split_member_path(path)
    return member if os.path.exists(member.container) else None


def image_place(path: str) -> str | MemberPath:
    """Return what is read for an image that was named: an image in a container, what is elsewhere, or an absolute path.

    Args:
        path: As it was typed.
    """
    whole = path if is_remote(path) or is_streamed(path) else os.path.abspath(path)
    return find_member(whole) or whole
