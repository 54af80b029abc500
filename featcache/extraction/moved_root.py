"""A data set's name stands for one folder: whether what is extracted now may have it."""

from collections.abc import Sequence
from pathlib import Path

from featcache.errors import CacheError
from featcache.files import StatLog
from featcache.store import FeatureStore, has_files, has_same_files, is_same_folder


def refuse_another_root(
    stores: Sequence[FeatureStore], *, cache: Path, data_set: str, root: str, stat_log: StatLog
) -> str:
    """Return where a data set's folder stood before it moved to `root`; "" where it stands as it did.

    It moved where nothing of it is left in the old folder and every row of every listing has its file, with its
    content, in the new one.

    Args:
        stores: All stores of the cache.
        cache: The cache's folder, for the message.
        data_set: The name.
        root: The folder that is extracted now under this name.
        stat_log: What the cache remembers of files.

    Raises:
        CacheError: the name stands for another folder.
    """
    moved_from = ""
    looked_at = set()
    for store, key in [(each, key) for each in stores for key in each.listings if key[0] == data_set]:
        if store.listings[key].sha256 in looked_at:
            continue
        looked_at.add(store.listings[key].sha256)
        try:
            if is_same_folder(store.origin(key)[0], root):
                continue
            before = store.listing(key)
        except CacheError:  # lost or damaged: it says nothing of a folder, and extract writes it again
            continue
        old_root = before.listing.root
        if has_files(before):
            why = f"which is still there; {root} is another folder"
        elif has_same_files(before, root, stat_log):
            moved_from = old_root
            continue
        else:
            why = f"and {root} does not hold all of its images as they were"
        raise CacheError(
            f"{cache}: the name {data_set!r} stands for {old_root} in this cache, {why}. Give these images another "
            f"name with --name, or type --name {data_set} to let the name stand for {root} from now on."
        )
    return moved_from
