"""The path that a misspelt one most likely means: what lies beside it under a similar name."""

import os
from pathlib import Path

from featcache.arguments import nearest_name


def nearest_path(path: str, *, suffixes: tuple[str, ...] = ()) -> str | None:
    """Return the path of what lies in the same folder under the nearest name, as it would be typed; None if none does.

    Args:
        path: A path at which there is nothing.
        suffixes: How the names of files that may be meant end; none: a folder is meant.
    """
    folder, name = os.path.split(path.rstrip(os.sep))
    try:
        entries = list(os.scandir(folder or "."))
    except OSError:
        return None
    names = [
        entry.name
        for entry in entries
        if (entry.name.lower().endswith(suffixes) if suffixes else entry.is_dir()) and not entry.name.startswith(".")
    ]
    close = nearest_name(name, names)
    return None if close is None else str(Path(folder, close))
