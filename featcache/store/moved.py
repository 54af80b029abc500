"""Whether a data set that is looked for in one folder is the one that was extracted from another.

A name says nothing of that, nor do a few images: every row is held against its file.
"""

import hashlib
import os

from featcache.files import Known, StatLog, identity, now, open_file
from featcache.listing import video_and_frame
from featcache.media import frame_digest
from featcache.store.listings import Extracted


def is_same_folder(one: str, other: str) -> bool:
    """Whether two paths lead to one folder: links, other spellings and other mounts of it count as the same."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def is_left(before: Extracted) -> bool:
    """Whether the folder that a listing was extracted from still holds one of its files."""
    listing = before.listing
    if not os.path.isdir(listing.root):
        return False
    files = {_file(before, path) for path in listing.paths if not path.startswith("/")}
    return not files or any(os.path.lexists(os.path.join(listing.root, file)) for file in files)


def has_rows(before: Extracted, root: str, known: StatLog) -> bool:
    """Whether every row of a listing has its file below `root`, with the content that it had (where it had one).

    A file whose content the cache remembers, here or from before a move, is not read again.
    """
    listing = before.listing
    files = list(dict.fromkeys(_file(before, path) for path in listing.paths))
    if not all(os.path.lexists(os.path.join(root, file)) for file in files):
        return False
    digests: dict[str, bytes] = {}
    for row, path in enumerate(listing.paths):
        expected = before.digests[row].tobytes()
        if not any(expected):  # it could not be read then
            continue
        file, frame = video_and_frame(path) if listing.videos else (path, None)
        if file not in digests:
            digests[file] = _digest(os.path.join(listing.root, file), os.path.join(root, file), known)
        found = digests[file]
        if not found or (found if frame is None else frame_digest(found, frame)) != expected:
            return False
    return True


def _file(before: Extracted, path: str) -> str:
    return video_and_frame(path)[0] if before.listing.videos else path


def _digest(old: str, new: str, known: StatLog) -> bytes:
    """The sha256 of a file that may have stood elsewhere; b"" where it cannot be read."""
    try:
        handle = open_file(new, follow_links=True)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        remembered: Known | None = known.find(new, identity(status)) or known.find(old, identity(status))
        if remembered is not None and remembered.digest:
            return remembered.digest
        begun = now()
        try:
            digest = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return b""
        known.remember(new, identity(status), digest, read_at=begun)
    return digest
