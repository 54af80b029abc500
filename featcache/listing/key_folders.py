"""Labels by the folders of keys: what an image folder says of its files, of keys such as `train/ants/0013.jpg`."""

from collections.abc import Sequence
from dataclasses import dataclass

from featcache.listing.flat_folder import has_split_name


@dataclass(frozen=True, slots=True)
class KeyFolders:
    """What the folders of keys say, (rows,) each; "" where they say nothing."""

    labels: Sequence[str]
    splits: Sequence[str]
    clips: Sequence[str]


def read_folders(keys: Sequence[str], *, has_splits: bool) -> KeyFolders:
    """Return what the folders of keys say: `[<any>/…]<split>/<class>/…/name`, or `[<any>/…]<class>/…/name`.

    A folder that all keys share, and below which each has a folder still, says nothing. A folder below the class is
    the image's clip, as in an image folder.

    Args:
        keys: Of all images of a data set.
        has_splits: Whether their splits are known already.
    """
    parts = [key.split("/")[:-1] for key in keys]
    while parts and all(len(folders) > 1 for folders in parts) and len({folders[0] for folders in parts}) == 1:
        if has_split_name([parts[0][0]]):
            break
        parts = [folders[1:] for folders in parts]
    by_folder = not has_splits and bool(parts) and all(folders and has_split_name([folders[0]]) for folders in parts)
    splits = [folders[0] if by_folder else "" for folders in parts]
    classes = [folders[by_folder:] for folders in parts]
    return KeyFolders(
        [folders[0] if folders else "" for folders in classes],
        splits,
        [key.rpartition("/")[0] if len(folders) > 1 else "" for key, folders in zip(keys, classes, strict=True)],
    )
