"""Data sets of the Hugging Face Hub, `hf://OWNER/NAME`: their Parquet files, fetched once into its own cache.

Every public data set of images has Parquet files: its own, or those that the Hub converts it to. huggingface_hub
fetches them, with the token and the endpoint of its environment. A revision that was fetched stays the one that is
meant until another is named, `hf://OWNER/NAME@REVISION`.
"""

import os
import re
from typing import NamedTuple

from featcache.errors import DataError, MachineError, UsageError
from featcache.files import read_file

SCHEME = "hf://"
_NAME = re.compile(r"hf://(?P<repository>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w.-]+)*)")
_CONVERTED = "refs/convert/parquet"  # the branch of files that the Hub has made itself
_FILES = "*.parquet"


class HubName(NamedTuple):
    """A data set of the Hub."""

    repository: str  # OWNER/NAME, or NAME
    revision: str | None  # a branch, a tag or a commit
    folder: str  # of the repository, such as that of one configuration; "" for all


def is_hub_name(path: str) -> bool:
    """Return whether a data set is named by its place on the Hub.

    Args:
        path: As it was typed.
    """
    return path.startswith(SCHEME)


def parse_hub_name(path: str) -> HubName:
    """Return what `hf://OWNER/NAME@REVISION/FOLDER` names.

    Args:
        path: As it was typed.

    Raises:
        UsageError: it is no such name.
    """
    match = _NAME.fullmatch(path.rstrip("/"))
    names = [] if match is None else [*match["repository"].split("/"), match["revision"], *match["folder"].split("/")]
    if match is None or ".." in names:
        raise UsageError(f"{path}: expected hf://OWNER/NAME, with @REVISION or /FOLDER behind it where one is meant")
    return HubName(match["repository"], match["revision"], match["folder"].strip("/"))


def hub_folder(path: str) -> str | None:
    """Return the folder in which a data set of the Hub lies on this machine; None where it was not fetched.

    Args:
        path: Its name, `hf://OWNER/NAME`.

    Raises:
        UsageError: it is no such name.
    """
    name = parse_hub_name(path)
    home = _cache_folder(name)
    for revision in (name.revision,) if name.revision else ("main", _CONVERTED):
        commit = _commit_of(home, revision)
        folder = os.path.join(home, "snapshots", commit or revision, *name.folder.split("/"))
        if any(file.endswith(".parquet") for _, _, files in os.walk(folder) for file in files):
            return os.path.normpath(folder)
    return None


def fetch_hub(path: str) -> str:
    """Return the folder of a data set of the Hub, once all its Parquet files are there.

    Args:
        path: Its name, `hf://OWNER/NAME`.

    Raises:
        UsageError: it is no such name, or huggingface_hub is not installed.
        DataError: the Hub has no such data set, or none with Parquet files.
        MachineError: the Hub cannot be reached, and the data set is not here.
    """
    name = parse_hub_name(path)
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise UsageError(
            f"{path}: data sets of the Hub are fetched by huggingface_hub, which is not installed: "
            f"pip install 'featcache[hub]'"
        ) from None
    pattern = f"{name.folder}/{_FILES}" if name.folder else _FILES
    home = _cache_folder(name)
    try:
        for revision in (name.revision,) if name.revision else ("main", _CONVERTED):
            fixed = _commit_of(home, revision) or revision
            hub.snapshot_download(name.repository, repo_type="dataset", revision=fixed, allow_patterns=[pattern])
            if (folder := hub_folder(path)) is not None:
                return folder
    except errors.RepositoryNotFoundError:
        raise DataError(f"{path}: the Hub has no such data set, or it wants a token (HF_TOKEN)") from None
    except errors.RevisionNotFoundError:
        pass
    except errors.HFValidationError:  # its own rules: no "--", no dot at the end, at most 96 characters
        raise UsageError(f"{path}: the Hub gives no data set such a name; expected hf://OWNER/NAME") from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        if (folder := hub_folder(path)) is not None:
            return folder
        raise MachineError(f"{path}: the Hub cannot be reached, and the data set is not on this machine: "
                           f"{type(error).__name__}") from None  # fmt: skip
    raise DataError(f"{path}: there is no Parquet file in it; fetch it with `hf download` and name its files")


def _cache_folder(name: HubName) -> str:
    """Return where huggingface_hub keeps a data set."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    return os.path.join(os.path.abspath(os.path.expanduser(cache)), f"datasets--{name.repository.replace('/', '--')}")


def _commit_of(home: str, revision: str) -> str:
    """Return the commit that a branch or tag was when it was fetched; "" where it was not."""
    path = os.path.join(home, "refs", *revision.split("/"))
    try:
        text = read_file(path, 100, follow_links=True).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if re.fullmatch(r"[0-9a-f]{40}", text) else ""
