"""Paths as a person types them: a tilde at the start stands for a home folder, wherever a path is taken from."""

import os

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
