"""The folders of a cache's stores, those too that cannot be opened; and the shards that a store's log does not know."""

from collections.abc import Iterator
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import is_present, list_folders
from featcache.store import LOG_NAME, SHARD_NAME, TRUNK_FILE, ReplayedLog, is_concatenation, is_named, read_trunk


def store_folders(cache: Path, store: str | None) -> list[Path]:
    """Return the folders of a cache's stores, those too that cannot be opened; or the one that `store` names.

    Args:
        cache: the cache's folder.
        store: a store's name, or the start of its fingerprint; None for all stores.

    Raises:
        CacheError: there is no store of this name, or several begin with it.
    """
    every_folder = list_folders(cache / "stores")
    matching = [path for path in every_folder if store is None or is_named(path.name, _fingerprint(path, store), store)]
    if store is not None and len(matching) != 1:
        count = f"{len(matching)} stores begin with" if matching else "no store"
        names = ", ".join(path.name for path in matching or every_folder)
        raise CacheError(f"{cache}: {count} {store!r}; there are: {names}")
    return [path for path in matching if _was_begun(path)]


def concatenation_folders(cache: Path, store: str | None) -> list[Path]:
    """Return the folders of heads that were trained on several stores together, those too that cannot be opened.

    Args:
        cache: the cache's folder.
        store: the name of one of them; None for all.
    """
    folders = list_folders(cache / "stores")
    return [path for path in folders if is_concatenation(path) and store in (None, path.name)]


def unknown_shards(root: Path, log: ReplayedLog) -> Iterator[Path]:
    """Yield the published shards that the log of a store neither adds nor drops, in the order of their names."""
    known_names = {shard.name for shard in log.commits.shards} | log.commits.dropped.keys()
    for path in sorted((root / "shards").glob("*.h5")):
        if path.name not in known_names and SHARD_NAME.fullmatch(path.name):
            yield path


def has_lost_lines(root: Path, log: ReplayedLog) -> bool:
    """Return whether a store's files prove that its log was longer: it was emptied, or cut at the end of a line.

    A run that is killed leaves at most shards whose number is that of the next one, and heads need a listing.
    """
    heads = not log.commits.listings and any((root / "heads").glob("*/*/*"))
    numbers = (int(path.name.partition("-")[0]) for path in unknown_shards(root, log))
    return heads or any(number > log.commits.shards_ever_added for number in numbers)


def _fingerprint(root: Path, store: str) -> str:
    """Return a store's fingerprint; of one that cannot be opened the part that its folder's name ends in."""
    try:
        return read_trunk(root).spec.fingerprint()
    except CacheError:
        tail = root.name.rpartition("-")[2]
        return store if len(store) > len(tail) and store.startswith(tail) else tail


def _was_begun(root: Path) -> bool:
    """Return whether a store holds anything: one whose creation was interrupted does not, and nothing was lost."""
    return is_present(root / TRUNK_FILE) or any((root / "shards").glob("*.h5")) or _size(root / LOG_NAME) > 0


def _size(path: Path) -> int:
    """Return a file's size in bytes; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
