"""Paths as text: any bytes may stand in one."""

import os
import sys

from featcache.text import printable

_CODEC, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def encode_name(name: str) -> bytes:
    """Return a file name's bytes on disk: os.fsencode without its checks, for sorting a million names."""
    return name.encode(_CODEC, _ERRORS)


def shown_path(path: str) -> str:
    """Return a path as one line of text: a newline or another control character in it is shown as its escape.

    Args:
        path: As `os.fsdecode` gives it.
    """
    return printable(readable(path))


def readable(path: str) -> str:
    """Return a path as text that JSON and terminals can carry: bytes that are not UTF-8 are shown as escapes.

    Args:
        path: As `os.fsdecode` gives it; a text from a table will do as well.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_text(name: str) -> bool:
    """Return whether a name from the disk or a table is valid UTF-8."""
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)
