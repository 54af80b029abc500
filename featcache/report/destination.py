"""How every file of a report comes to lie where it was asked for: refused early, written whole or not at all."""

import os
import shlex
import uuid
from pathlib import Path

from featcache.errors import MachineError, UsageError
from featcache.files import describe_target
from featcache.text import printable


def check_destination(path: Path, *suffixes: str) -> None:
    """Refuse a path that no file can be written to; a command asks this before it works, not after.

    Args:
        path: where a file is wanted.
        *suffixes: what its name may end in: ".csv".

    Raises:
        UsageError: the path ends in none of `suffixes`, its folder does not exist, or it is a folder.
    """
    shown = printable(str(path))
    if path.suffix.lower() not in suffixes:
        error = UsageError(f"{shown}: expected a name that ends in {' or '.join(suffixes)}")
        raise error.correct(str(path), shlex.quote(str(path.with_suffix(suffixes[0]))))
    if not path.parent.is_dir():
        folder = printable(str(path.parent))
        error = UsageError(f"{shown}: there is no folder {folder}. Make it (mkdir -p), or name another file.")
        raise error.correct(str(path), shlex.quote(path.name))
    if path.is_dir():
        error = UsageError(f"{shown}: is a folder, expected a file. Name a file in it, or another one.")
        raise error.correct(str(path), shlex.quote(str(path / f"report{suffixes[0]}")))
    if problem := describe_target(path):
        raise UsageError(f"{shown}: {problem}. Name another file.")


def save_bytes(path: Path, content: bytes) -> None:
    """Write the whole file or nothing: a scratch file beside it, flushed to the disk, renamed.

    Args:
        path: the file; an existing one is replaced.
        content: its bytes.

    Raises:
        MachineError: it cannot be written; what was there before is untouched.
    """
    # The scratch name does not contain the file's: that may already be as long as the file system allows.
    scratch = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise MachineError(
            f"{printable(str(path))}: cannot be written ({error.strerror or error}). "
            f"Name a file in a folder that you can write to."
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
