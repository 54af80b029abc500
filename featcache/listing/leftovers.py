"""Leftovers: what operating systems, file servers and tools leave among a person's files. They are never data.

Names are matched on every component of a path below the root that was given; the root itself may have any name. Hidden
entries (a leading dot) are left out whatever they are called: `._*`, `.DS_Store`, `.AppleDouble`, `.Trashes`,
`.Spotlight-V100`, `.@__thumb`, `.zfs`, `.snapshot`, `.git`, `.ipynb_checkpoints`, `.nfs*`, `.stversions` and so on. The
others are listed here. Case does not matter: most of the systems that make them do not distinguish it either.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable

from featcache.listing.paths import shown_path

# Files that are images by their names; see docs/images.md.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
# Files that are videos by their names, and those of them that are decoded; see docs/videos.md.
DECODED_SUFFIXES = (".mp4", ".mov", ".m4v")
VIDEO_SUFFIXES = (*DECODED_SUFFIXES, ".avi", ".mkv")

_MADE_BY_SYSTEMS = frozenset(
    name.casefold()
    for name in (
        "__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder", "TheFindByContentFolder",
        "Desktop DB", "Desktop DF", "Icon\r", "Resource.frk", "Finder.dat",  # macOS, and Mac OS before it
        "Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$RECYCLE.BIN", "$Extend",
        "System Volume Information", "Picasa.ini",  # Windows
        "@eaDir", "@tmp", "@sharebin", "#recycle", "#snapshot",  # Synology
        "@Recycle", "@Recently-Snapshot", "@Transcode", "@__thumb",  # QNAP
        "~snapshot",  # NetApp
        "LOST.DIR",  # Android
        "_gsdata_",  # GoodSync
        "__pycache__",
    )
)  # fmt: skip
_PATTERNS = {  # as a note names them: what they are
    "@Syno*": re.compile(r".*@Syno(EAStream|Resource)", re.IGNORECASE | re.DOTALL),
    "SYNO*": re.compile(r"SYNO(PHOTO|VIDEO|AUDIO|INDEX)_.*", re.DOTALL),
    "FOUND.*": re.compile(r"found\.\d{3}", re.IGNORECASE),  # chkdsk
    "S-1-*": re.compile(r"S-1-\d+(-\d+)+"),  # a user's part of Windows' recycle bin
    "RECYCLER": re.compile(r"RECYCLER"),  # Windows XP, which writes it so; in other letters it may be a class
}
_HIDDEN = {
    "._*": re.compile(r"\._.*", re.DOTALL),  # AppleDouble
    ".nfs*": re.compile(r"\.nfs[0-9a-f]{8,}", re.IGNORECASE),
    ".Trash-*": re.compile(r"\.Trash-\d+"),
    ".fuse_hidden*": re.compile(r"\.fuse_hidden[0-9a-f]+", re.IGNORECASE),
    ".dropbox*": re.compile(r"\.dropbox.*", re.DOTALL),
}
_CHOSEN_BY_PEOPLE = frozenset({"lost+found", "recycler", "cvs"})  # names that a class may have, too
_NAMED = 8  # names in a note


def is_leftover(name: str) -> bool:
    """Return whether only a system gives a file or folder this name; every hidden name is one."""
    if name.startswith(".") or name.casefold() in _MADE_BY_SYSTEMS:
        return True
    return any(pattern.fullmatch(name) for pattern in _PATTERNS.values())


def may_be_leftover(name: str) -> bool:
    """Return whether a folder of this name may be a system's or a person's: its place and what it holds decide."""
    return name.casefold() in _CHOSEN_BY_PEOPLE and not is_leftover(name)


def is_left_out(path: str, *, top: bool) -> bool:
    """Return whether the file or folder at this path is a leftover.

    Args:
        path: Where it is; a folder is looked into only where its name does not decide.
        top: Whether it is right below the root that was given. There a folder such as `lost+found` is the file
            system's; further down it is a person's if an image lies in it (a class may have this name), and a
            system's if none does.
    """
    name = os.path.basename(path)
    return is_leftover(name) or (may_be_leftover(name) and (top or not _holds_image(path)) and not os.path.isfile(path))


def _holds_image(folder: str) -> bool:
    """Return whether a file with an image's suffix lies in a folder, at any depth; False if it cannot be read."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_leftover(name)]
        if any(name.lower().endswith(IMAGE_SUFFIXES) and not is_leftover(name) for name in names):
            return True
    return False


def note_leftovers(paths: Iterable[str]) -> list[str]:
    """Return what was left out of a data set, as sentences: names and counts, beside the splits and in them.

    Args:
        paths: What was left out, relative to the data set's root, with "/".
    """
    beside = [path for path in paths if "/" not in path]
    within = [path for path in paths if "/" in path]
    return [
        f"{place}, {count_leftovers(leftovers)}"
        for place, leftovers in (("beside the splits", beside), ("among the images", within))
        if leftovers
    ]


def count_leftovers(paths: Iterable[str]) -> str:
    """Return what was left out, as the end of a sentence: "3 … were left out: @eaDir (2), .DS_Store (1)".

    Args:
        paths: What was left out, at least one path, relative to any folder; only the last part of each counts.
    """
    names = Counter(_family(os.path.basename(path)) for path in paths)
    shown = ", ".join(f"{shown_path(name)} ({count:,})" for name, count in names.most_common(_NAMED))
    more = f", and {len(names) - _NAMED:,} more names" if len(names) > _NAMED else ""
    total = sum(names.values())
    entries = "hidden entry or system leftover was" if total == 1 else "hidden entries or system leftovers were"
    return f"{total:,} {entries} left out: {shown}{more}"


def _family(name: str) -> str:
    """Return the pattern that a note names in place of all names that match it; the name itself if none does."""
    patterns = _HIDDEN if name.startswith(".") else _PATTERNS
    return next((family for family, pattern in patterns.items() if pattern.fullmatch(name)), name)
