"""Files of a data set of the Hub that are read where they are: `hf://datasets/OWNER/NAME/data/train-*.parquet`.

That is how pandas, Polars and DuckDB write the place of a file on the Hub. Nothing is copied to this machine: footers,
columns and images are fetched by ranges, of the commit that the branch had when this process first looked.
"""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from featcache.errors import DataError, MachineError, UsageError
from featcache.files import FileStat

STREAMED = "hf://datasets/"
_PLACE = re.compile(
    r"hf://datasets/(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?P<below>(?:/[^/\\\x00-\x1f]+)*)"
)
_MAGIC = re.compile(r"[*?\[]")


class HubPlace(NamedTuple):
    """A data set of the Hub, and what is named in it."""

    repository: str  # OWNER/NAME
    revision: str | None  # a branch, a tag or a commit
    below: str  # a folder, a file or a pattern; "" for all

    @property
    def root(self) -> str:
        """The data set itself, as it is typed."""
        return f"{STREAMED}{self.repository}{f'@{self.revision}' if self.revision else ''}"


def is_streamed(path: str) -> bool:
    """Return whether a path names what is read on the Hub, and not fetched first.

    Args:
        path: As it was typed, or of a row.
    """
    return path.startswith(STREAMED)


def parse_streamed(path: str) -> HubPlace:
    """Return what `hf://datasets/OWNER/NAME@REVISION/FOLDER` names.

    Args:
        path: As it was typed, or of a container.

    Raises:
        UsageError: it is no such place.
    """
    match = _PLACE.fullmatch(path.rstrip("/"))
    if match is None or {".", ".."} & {*match["repository"].split("/"), match["revision"], *match["below"].split("/")}:
        raise UsageError(
            f"{path}: expected hf://datasets/OWNER/NAME, with @REVISION or /FOLDER behind it where one is meant"
        )
    return HubPlace(match["repository"], match["revision"], match["below"].strip("/"))


def list_streamed(path: str) -> Iterator[str]:
    """Yield the files of a data set of the Hub that a place stands for, below `HubPlace.root`, sorted.

    Args:
        path: A data set, a folder, a file or a pattern in it.

    Raises:
        UsageError: no such place, or huggingface_hub is not installed.
        DataError: the Hub has no such data set.
        MachineError: the Hub cannot be reached.
    """
    place = parse_streamed(path)
    for name in sorted(_open_repository(place.root).files):
        is_below = not place.below or name == place.below or name.startswith(f"{place.below}/")
        is_level = name.count("/") == place.below.count("/")  # a * ends at a slash
        if is_below or (is_level and _MAGIC.search(place.below) and fnmatch.fnmatchcase(name, place.below)):
            yield name


def open_streamed(path: str) -> tuple[FileStat, Callable[[int, int], bytes]]:
    """Return what stands for the stat of a file on the Hub, and what fetches a range of it.

    Args:
        path: `hf://datasets/OWNER/NAME/data/train.parquet`.

    Raises:
        FileNotFoundError: the data set has no such file.
        UsageError, DataError, MachineError: as `list_streamed`.
    """
    place = parse_streamed(path)
    repository = _open_repository(place.root)
    if place.below not in repository.files:
        raise FileNotFoundError(2, "the data set has no such file", path)
    return repository.files[place.below], lambda start, end: _fetch(path, place, repository.commit, start, end)


def pin_commit(path: str) -> str:
    """Return the place of a file on the Hub with the commit that this process saw, for its other processes.

    Args:
        path: As for `open_streamed`; one on this machine, or in a bucket, stays as it is.

    Raises:
        UsageError, DataError, MachineError: as `list_streamed`.
    """
    if not is_streamed(path):
        return path
    place = parse_streamed(path)
    return f"{STREAMED}{place.repository}@{_open_repository(place.root).commit}/{place.below}"


class _Repository(NamedTuple):
    """A data set of the Hub as this process first saw it."""

    commit: str
    files: dict[str, FileStat]


@cache
def _open_repository(root: str) -> _Repository:
    place = parse_streamed(root)
    with _translated(root) as hub:
        api = hub.HfApi()
        commit = api.dataset_info(place.repository, revision=place.revision).sha
        entries = api.list_repo_tree(place.repository, repo_type="dataset", revision=commit, recursive=True)
        files = {entry.path: _as_stat(entry) for entry in entries if isinstance(entry, hub.hf_api.RepoFile)}
    return _Repository(str(commit), files)


def _as_stat(entry: Any) -> FileStat:
    """Return what stands for the stat of a file: the name that its content has in git never stands for another one."""
    content = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
    return entry.size, 0, 0, int.from_bytes(hashlib.sha256(content.encode()).digest()[:7], "big")


def _fetch(path: str, place: HubPlace, commit: str, start: int, end: int) -> bytes:
    """Return a range of a file of one commit."""
    with _translated(path) as hub:
        url = hub.hf_hub_url(place.repository, place.below, repo_type="dataset", revision=commit)
        headers = {"range": f"bytes={start}-{end - 1}", **hub.utils.build_hf_headers()}
        response = hub.utils.http_backoff("GET", url, headers=headers, timeout=60)
        hub.utils.hf_raise_for_status(response)
    if response.status_code != 206 or len(response.content) != end - start:
        raise MachineError(
            f"{path}: asked for {end - start:,} bytes, the Hub answered with {len(response.content):,}; run the same "
            f"command again, or name hf://{place.repository}, which is fetched as a whole first"
        )
    return bytes(response.content)


@contextmanager
def _translated(path: str) -> Iterator[Any]:
    """Give huggingface_hub, and turn what the Hub refuses in the block into an error that says the way out.

    Raises:
        UsageError: it is not installed, or the Hub gives no data set such a name.
        DataError: the Hub has no such data set, or revision.
        MachineError: it does not answer.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise UsageError(
            f"{path}: data sets of the Hub are read by huggingface_hub, which is not installed: "
            f"pip install 'featcache[hub]'"
        ) from None
    try:
        yield hub
    except errors.RevisionNotFoundError:
        raise DataError(f"{path}: the data set has no such revision") from None
    except errors.RepositoryNotFoundError:
        raise DataError(f"{path}: the Hub has no such data set, or it wants a token (HF_TOKEN)") from None
    except errors.HFValidationError:
        raise UsageError(f"{path}: the Hub gives no data set such a name; expected hf://datasets/OWNER/NAME") from None
    except Exception as error:  # of whichever HTTP client huggingface_hub uses; its text may quote a signed URL
        raise MachineError(
            f"{path}: the Hub cannot be reached, or refuses: {type(error).__name__}; run the same command again"
        ) from None
