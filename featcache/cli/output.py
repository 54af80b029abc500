"""How commands print: text and JSON on stdout, notes and errors on stderr, tables and progress on a console."""

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType


def echo(text: str) -> None:
    """Print a line, or several, on stdout."""
    from featcache.text import printable

    print("\n".join(printable(line) for line in text.split("\n")))


def echo_stderr(text: str) -> None:
    """Print a line, or several, on stderr: an error, a warning, a note."""
    try:
        from featcache.cli.typed_data import add_data_set
        from featcache.text import printable
    except (ImportError, MemoryError, OSError):  # where no file can be opened, or no memory had, only ASCII is shown

        def printable(name: str) -> str:
            return ascii(name)[1:-1]

        def add_data_set(message: str) -> str:
            return message

    with contextlib.suppress(OSError):  # nobody reads it; the exit code is there still
        for line in add_data_set(text).split("\n"):
            print(printable(line), file=sys.stderr)


def echo_json(document: Any) -> None:
    """Print the one document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def open_console(*, stderr: bool = False) -> "Console":
    """Return the console that tables and progress are drawn on."""
    from featcache.report import PipeSafeConsole

    return PipeSafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)


def echo_parts(parts: "Sequence[RenderableType]") -> None:
    """Print tables and texts on stdout; a command that a text advises gets the data set that was typed."""
    from rich.text import Text

    from featcache.cli.typed_data import add_data_set

    for part in parts:
        shown = Text(add_data_set(part.plain)) if isinstance(part, Text) and "`featcache " in part.plain else part
        open_console().print(shown, crop=False)


def relative_path(path: Path) -> str:
    """Return a path as a person would type it in this folder."""
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)


def relative_paths(message: str) -> str:
    """Return a message in which the paths below this folder are as a person would type them here."""
    return message.replace(f"{Path.cwd()}/", "")
