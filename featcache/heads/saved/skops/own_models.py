"""Which models this user fitted on this machine: a list of their sha256 in the user's own folder, not in any cache.

`$XDG_STATE_HOME/featcache/fitted-models` (`~/.local/state/...` where that is not set), one line each, only ever added
to. It is asked only for a model that cannot be checked: one that stands in it was written here and is trusted as its
user is; a cache from somebody else cannot put anything into it.
"""

import os
import re
from pathlib import Path

from featcache.files import open_cache_file

_MOST = 1 << 26  # bytes: a million models


def record_path() -> Path:
    """Return where the list lies. A relative XDG_STATE_HOME counts as none, as the XDG Base Directory rules say."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return Path(state if state.startswith("/") else os.path.expanduser("~/.local/state")) / "featcache/fitted-models"


def remember(sha256: str) -> None:
    """Add a model, unless it is known.

    Raises:
        OSError: the list cannot be written, or somebody else could write to it.
    """
    if is_known(sha256):
        return
    path = record_path()
    if not path.is_absolute():
        raise OSError(f"there is no home folder for {path}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        os.write(handle, f"{sha256}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    if not is_known(sha256):
        raise OSError(f"{path} is not this user's own file, or others may write to it")


def is_known(sha256: str) -> bool:
    """Whether this user fitted the model of this sha256 here; False where the list cannot be read or is not his own."""
    try:
        handle = open_cache_file(record_path())
    except (OSError, ValueError):  # none yet
        return False
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022 or status.st_size > _MOST:
            return False
        return re.search(rf"^{re.escape(sha256)}$".encode(), file.read(_MOST), re.MULTILINE) is not None
