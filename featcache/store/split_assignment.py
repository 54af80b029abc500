"""Splits that a recipe asked for, written down: `cache/listings/<data set>/<variant>/splits.json`, sealed.

Which group (a subject, a clip, an image) went to which split. What stands there stays as it is when images are added;
new groups join it. Without the file the same recipe assigns a data set that has grown anew.
"""

from collections.abc import Mapping
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import FORMAT, MissingError, hold_lock, make_folder, publish, seal_document
from featcache.store.documents import SPLITS

_WAIT_SECONDS = 60.0


def read_split_assignment(cache: Path, data_set: str, variant: str) -> dict[str, str]:
    """Return which split each group (a subject, a clip, an image) is in; empty where nothing was assigned yet.

    Args:
        cache: The cache folder.
        data_set: The name of the data set.
        variant: Its variant, as `listing.name_variant` names it.

    Raises:
        CacheError: the file is damaged, or of a newer format.
    """
    try:
        return SPLITS.read(_path(cache, data_set, variant)).groups
    except MissingError:
        return {}


def write_split_assignment(cache: Path, data_set: str, variant: str, groups: Mapping[str, str]) -> None:
    """Write down which group is in which split, unless that stands there already.

    Args:
        cache: The cache folder.
        data_set: The name of the data set.
        variant: Its variant, as `listing.name_variant` names it.
        groups: Group (a subject, a clip, an image) -> split.

    Raises:
        CacheError: another process has assigned one of these groups otherwise since `groups` was made, or has held the
            file for a minute; or the file is damaged.
        MachineError: the disk refuses.
    """
    if read_split_assignment(cache, data_set, variant) == groups:
        return
    path = _path(cache, data_set, variant)
    make_folder(path.parent)
    with hold_lock(path.with_name(".splits.lock"), wait=_WAIT_SECONDS) as held:
        if not held:
            raise CacheError(f"{path}: another process has been writing it for {_WAIT_SECONDS:g} s; run this one again")
        written = read_split_assignment(cache, data_set, variant)
        if any(groups.get(group, split) != split for group, split in written.items()):
            raise CacheError(
                f"{path}: another extract has assigned these images to splits in the meantime; run this one again"
            )
        splits: dict[str, list[str]] = {}
        for group, split in {**written, **groups}.items():
            splits.setdefault(split, []).append(group)
        publish(path, seal_document({"format": FORMAT, "splits": splits}), replace=True)


def _path(cache: Path, data_set: str, variant: str) -> Path:
    return cache / "listings" / data_set / variant / "splits.json"
