"""Paths as a person types them: a tilde at the start stands for a home folder, wherever a path is taken from."""

import os
import re
from collections.abc import Callable

from featcache.errors import UsageError


def expand_home(path: str | os.PathLike[str]) -> str:
    """Return the path with a leading `~` or `~user` replaced by that home folder; any other path as it is.

    A shell does this for most words, but not for `--cache=~/c`, an environment variable, a recipe or a compose file:
    there the tilde would become a folder of that name. A file that is really called `~name`, where nobody of that
    name has a home, is taken as it stands; `./~` is never expanded.

    Args:
        path: As it was typed, absolute or relative to the working folder.

    Raises:
        UsageError: there is no such home folder.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return text
    user = text.split("/", 1)[0]
    expanded = os.path.expanduser(text)
    home = os.path.expanduser(user)
    if os.path.isabs(home) and (user != "~" or os.environ.get("HOME") != ""):
        return expanded
    if user != "~" and os.path.lexists(text):
        return text
    problem = "HOME is not the absolute path of a folder" if user == "~" else f"there is no user {user[1:]!r} here"
    raise UsageError(
        f"{text}: {user!r} at the start stands for a home folder, but {problem}; "
        f"write the whole path, or ./{text} where the name begins with a tilde"
    )


def contract_home(text: str, *, escape: Callable[[str], str] = str) -> str:
    """Return a text in which every path below the home folder of the user begins with a tilde: "~/photos".

    It is for what is shared: another reader need not know what the home folder, and so the user, is called.

    Args:
        text: A path, or a text of any length that has paths in it.
        escape: Returns a path as it is written in the text, such as with the entities of HTML.
    """
    home = os.path.expanduser("~").rstrip("/")
    if not os.path.isabs(home) or escape(home) not in text:
        return text
    return re.sub(rf"(?<![A-Za-z0-9+/=_.-]){re.escape(escape(home))}(?=/|[^A-Za-z0-9+=_.-]|$)", "~", text)
