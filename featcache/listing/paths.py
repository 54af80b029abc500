"""Paths as text: any bytes may stand in one."""

import os
import sys

_CODEC, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def name_bytes(name: str) -> bytes:
    """What the disk calls a file: os.fsencode, without its many questions, for those who sort a million names."""
    return name.encode(_CODEC, _ERRORS)


def shown_path(path: str) -> str:
    """A path on one line of text: a newline or another control character in it stands as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in readable(path))


def readable(path: str) -> str:
    """A path as text that JSON and terminals can carry: bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_text(name: str) -> bool:
    """Whether a name from the disk or a table is text: UTF-8, no stray bytes."""
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)
