"""Where videos lie in a folder that has no annotations: `init` makes a table of their frames."""

import os

from featcache.listing.leftovers import VIDEO_SUFFIXES, is_left_out


def find_videos(folder: str) -> list[str]:
    """Return the videos in a folder, at any depth, as sorted paths relative to it; hidden and left-over ones are none.

    Args:
        folder: The folder.
    """
    videos: list[str] = []
    for above, folders, names in os.walk(folder):
        top = above == folder
        folders[:] = [name for name in folders if not is_left_out(os.path.join(above, name), top=top)]
        paths = [os.path.join(above, name) for name in names if name.lower().endswith(VIDEO_SUFFIXES)]
        videos += [os.path.relpath(path, folder) for path in paths if not is_left_out(path, top=top)]
    return sorted(videos)
