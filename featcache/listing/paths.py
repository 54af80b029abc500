"""Paths as text: any bytes may stand in one."""

import os


def shown_path(path: str) -> str:
    """A path on one line of text: a newline or another control character in it stands as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in readable(path))


def readable(path: str) -> str:
    """A path as text that JSON and terminals can carry: bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
