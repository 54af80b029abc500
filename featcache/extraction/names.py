"""A data set's name stands for one folder: whether what is extracted now may have it."""

import contextlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from featcache.errors import CacheError
from featcache.listing import Listing, Source, video_and_frame
from featcache.safe_read import hash_file
from featcache.store import Extracted, FeatureStore
from featcache.video import frame_digest

_SAMPLE = 16  # images that are compared when a data set's folder has moved


def refuse_another_root(folder: Path, stores: Sequence[FeatureStore], listing: Listing, laid: Source) -> str:
    """A data-set name stands for one folder; the same images elsewhere are the same data set, moved.

    Returns where the folder stood before; "" where it stands as it did.

    Raises:
        CacheError: the name stands for another folder.
    """
    moved_from = ""
    keys = [(store, key) for store in stores for key in store.listings]
    for store, key in keys:
        if key[:2] != (listing.data_set, listing.variant):
            continue
        try:
            before = store.listing(key)
        except CacheError:  # lost or damaged: it says nothing of a folder, and extract writes it again
            continue
        if before.listing.root == listing.root:
            continue
        there = key[2] in laid.splits()  # every split of the name must have come along, not this one alone
        if there and _moved(before, laid.listing(key[2])):
            moved_from = before.listing.root
            continue
        raise CacheError(
            f"{folder}: the name {listing.data_set!r} stands for {before.listing.root} in this cache, and "
            f"{listing.root} holds other images. Give these another name with --name, or type "
            f"--name {listing.data_set} to let the name stand for them from now on."
        )
    return moved_from


def _moved(before: Extracted, listing: Listing) -> bool:
    """Whether the folder holds the images that the name stood for: most of a sample have the digests they had."""
    place = {path: row for row, path in enumerate(before.listing.paths)}
    common = [path for path in listing.paths if path in place]
    sample = common[:: max(1, len(common) // _SAMPLE)][:_SAMPLE]
    same = 0

    @cache
    def file_digest(path: str) -> bytes:
        return hash_file(Path(listing.root, path), follow_links=True)

    def digest_of(path: str) -> bytes:
        if not listing.videos:
            return file_digest(path)
        video, frame = video_and_frame(path)
        return frame_digest(file_digest(video), frame)

    for path in sample:
        with contextlib.suppress(OSError):
            same += digest_of(path) == before.digests[place[path]].tobytes()
    return 2 * same > len(sample)
