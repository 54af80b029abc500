"""Whether a data set that is looked for in one folder is the one that was extracted from another.

A name says nothing of that, nor do a few images: every row is held against its file.
"""

import hashlib
import os

from featcache.containers import MemberReader, split_member_path
from featcache.files import KnownFile, StatLog, now_ns, open_file, read_file_stat, to_file_stat
from featcache.listing import video_and_frame
from featcache.media import frame_digest
from featcache.store.listings import ExtractedListing

_MOST_BYTES = 1 << 30  # of an image in a container


def is_same_folder(path: str, other: str) -> bool:
    """Whether two paths lead to one folder: links, other spellings and other mounts of it count as the same.

    Args:
        path: One folder; it need not be there.
        other: The other; it need not be there either.
    """
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def has_files(extracted: ExtractedListing) -> bool:
    """Whether the folder that a listing was extracted from still holds one of its files.

    Args:
        extracted: The listing as it was extracted; of videos, its files are the videos.
    """
    listing = extracted.listing
    if not os.path.isdir(listing.root):
        return False
    files = {_file_of(extracted, path) for path in listing.paths if not path.startswith("/")}
    return not files or any(os.path.lexists(os.path.join(listing.root, file)) for file in files)


def has_same_files(extracted: ExtractedListing, root: str, stat_log: StatLog) -> bool:
    """Whether every row of a listing has its file below `root`, with the content that it had (where it had one).

    A file whose content the cache remembers, here or from before a move, is not read again.

    Args:
        extracted: The listing as it was extracted.
        root: The folder that is asked about.
        stat_log: The memory of the cache; what is read is remembered in it.

    Raises:
        MachineError: the memory of the cache cannot be read.
    """
    listing = extracted.listing
    files = list(dict.fromkeys(_file_of(extracted, path) for path in listing.paths))
    if not all(os.path.lexists(os.path.join(root, file)) for file in files):
        return False
    if listing.members:
        return _has_same_members(extracted, root, stat_log)
    digests: dict[str, bytes] = {}
    for row, path in enumerate(listing.paths):
        expected = extracted.digests[row].tobytes()
        if not any(expected):  # it could not be read then
            continue
        file, frame = video_and_frame(path) if listing.videos else (path, None)
        if file not in digests:
            digests[file] = _hash_moved(os.path.join(listing.root, file), os.path.join(root, file), stat_log)
        digest = digests[file]
        if not digest or (digest if frame is None else frame_digest(digest, frame)) != expected:
            return False
    return True


def _file_of(extracted: ExtractedListing, path: str) -> str:
    """Return the file of a row: of a frame, its video; of an image in a container, that."""
    if extracted.listing.members:
        return split_member_path(path).container
    return video_and_frame(path)[0] if extracted.listing.videos else path


def _has_same_members(extracted: ExtractedListing, root: str, stat_log: StatLog) -> bool:
    """Whether every image of a listing stands in its container below `root` as it was."""
    listing = extracted.listing
    with MemberReader() as reader:
        for row, path in enumerate(listing.paths):
            expected = extracted.digests[row].tobytes()
            places = os.path.join(listing.root, path), os.path.join(root, path)
            if any(expected) and _hash_moved_member(*places, stat_log, reader) != expected:
                return False
    return True


def _hash_moved_member(old: str, new: str, stat_log: StatLog, reader: MemberReader) -> bytes:
    """Return the sha256 of an image whose container may have stood elsewhere; b"" where it cannot be read."""
    member = split_member_path(new)
    status = read_file_stat(member.container)
    if status is None:
        return b""
    remembered = stat_log.find(new, status) or stat_log.find(old, status)
    if remembered is not None and remembered.digest:
        return remembered.digest
    begun = now_ns()
    try:
        digest = hashlib.sha256(reader.read(member, _MOST_BYTES)).digest()
    except OSError:
        return b""
    if read_file_stat(member.container) != status:
        return b""
    stat_log.remember(new, status, digest, read_at=begun)
    return digest


def _hash_moved(old: str, new: str, stat_log: StatLog) -> bytes:
    """Return the sha256 of a file that may have stood elsewhere; b"" where it cannot be read."""
    try:
        handle = open_file(new, follow_links=True)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        status = to_file_stat(os.fstat(handle))
        remembered: KnownFile | None = stat_log.find(new, status) or stat_log.find(old, status)
        if remembered is not None and remembered.digest:
            return remembered.digest
        begun = now_ns()
        try:
            digest = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return b""
        stat_log.remember(new, status, digest, read_at=begun)
    return digest
