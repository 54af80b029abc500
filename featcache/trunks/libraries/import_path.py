"""What an import path names: `mynets.small:SmallNet`. Importing runs code: it is done only for a path that is typed."""

import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featcache.arguments import nearest_name
from featcache.errors import UsageError
from featcache.files import read_file, read_file_stat

_MOST_BYTES = 1 << 24  # of a file of Python
_MOST_FILES = 2_000  # of a package, whose stats are looked at


def import_object(name: str, option: str = "--arch") -> Any:
    """Return what an import path names.

    Args:
        name: package.module:object, where the current folder comes before all that is installed.
        option: that it was typed with, for what an error says.

    Raises:
        UsageError: there is no such module or object, or importing it fails.
    """
    path, _, attribute = name.partition(":")
    if path.endswith(".py") or not all(part.isidentifier() for part in path.split(".")):
        dotted = path.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(
            f"{option} {name}: {path} is no module's name; a module of your own is named as Python imports it: "
            f"{dotted}:{attribute}"
        )
    with _current_folder_first():
        try:
            value: Any = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{path}.".startswith(f"{error.name}."):
                raise UsageError(
                    f"{option} {name}: there is no module {error.name} in {os.getcwd()} or among the installed packages"
                ) from None
            raise UsageError(f"{option} {name}: {path} cannot be imported: {describe_error(error)}") from None
        except (Exception, SystemExit) as error:  # it runs a user's own code
            raise UsageError(f"{option} {name}: {path} cannot be imported: {describe_error(error)}") from None
    for part in attribute.split("."):
        names = [known for known in dir(value) if not known.startswith("_")]
        if not hasattr(value, part):
            near = nearest_name(part, names)
            hint = f"; did you mean {near}?" if near else ""
            raise UsageError(f"{option} {name}: {path} has no {part!r}{hint}")
        value = getattr(value, part)
    return value


def as_import_path(name: str) -> str:
    """Return the import path that a name with a dot in place of the colon is; "" where there is no such module.

    Args:
        name: As typed: `tiny.Tiny`, which is `tiny:Tiny`.
    """
    path, dot, attribute = name.rpartition(".")
    if not dot or not attribute.isidentifier() or not all(part.isidentifier() for part in path.split(".")):
        return ""
    return f"{path}:{attribute}" if _source_files(f"{path}:{attribute}") else ""


def describe_error(error: BaseException) -> str:
    """Return what a user's own code raised, and in which line of which file, as part of a sentence.

    Args:
        error: as it was raised.
    """
    text = next(iter(str(error).strip().splitlines()), "")[:300].rstrip(".")
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and "site-packages" not in frame.filename and frame.filename != __file__
        and not frame.filename.startswith(_STANDARD_LIBRARY) and not frame.filename.startswith(_OURS)
    ]  # fmt: skip
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"


_STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
_OURS = str(Path(__file__).parents[2]) + os.sep


def describe_source(name: str) -> str:
    """Return the sizes and times of the Python files that an import path may read, as one word; nothing is imported.

    Args:
        name: package.module:object. Of a package it is every file of the outermost one.
    """
    stats = [(str(file), read_file_stat(str(file))) for file in _source_files(name)]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def hash_source(name: str) -> str:
    """Return the sha256 of the Python files that an import path may read, 12 hex digits; nothing is imported.

    Args:
        name: As for `describe_source`.
    """
    whole = hashlib.sha256()
    for file in _source_files(name):
        with contextlib.suppress(OSError):
            whole.update(hashlib.sha256(read_file(file, _MOST_BYTES, follow_links=True)).digest())
    return whole.hexdigest()[:12]


def _source_files(name: str) -> list[Path]:
    outermost = name.partition(":")[0].partition(".")[0]
    with _current_folder_first():
        try:
            spec = importlib.util.find_spec(outermost)  # of the outermost package alone: others import what is around
        except (ImportError, ValueError):
            return []
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not files and spec.origin is not None:
        files = [Path(spec.origin)]
    return files[:_MOST_FILES]


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    """Look for modules in the current folder first; afterwards last: a file there does not hide a library."""
    importlib.invalidate_caches()
    here = os.getcwd()
    before = list(sys.path)
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path[:] = before if here in before or "" in before else [*before, here]
