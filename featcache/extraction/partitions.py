"""The rows that a split lacks, cut into parts for workers: by ranges of digests where those are known."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featcache.extraction.rows import RowStates
from featcache.listing import video_and_frame

LEAST_ROWS = 256  # of a partition: below that, handing it over costs more than it evens out


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Some rows of a split, that one worker embeds."""

    rows: npt.NDArray[np.int64]  # of the split's listing
    losses: int = 0  # workers that were lost while they had these rows


def cut_partitions(
    rows: RowStates, todo: npt.NDArray[np.int64], *, workers: int, most: int, least: int = LEAST_ROWS
) -> list[Partition]:
    """Return the rows that must be read, in partitions that grow smaller, so that all workers end together.

    Rows of the same image stand in one partition where the image's digest is known, and the frames of a video in any
    case: it is decoded once. Of files that nobody has read yet, the listing's order is kept.

    Args:
        rows: What is known of each row.
        todo: Those that must be read, (n,).
        workers: How many share them.
        most: At most so many rows in a partition, unless they are of one image or video.
        least: At least so many, but for the last one, and where there are not enough for all workers.
    """
    least = min(least, max(1, -(-len(todo) // workers)))
    order, is_first = _by_video(rows, todo) if rows.listing.videos else _by_digest(rows, todo)
    begins = np.append(np.flatnonzero(is_first), len(todo))
    partitions, start = [], 0
    while start < len(todo):
        size = min(max(-(-(len(todo) - start) // (2 * workers)), least), most)
        end = int(begins[np.searchsorted(begins, min(start + size, len(todo)))])
        partitions.append(Partition(todo[order[start:end]]))
        start = end
    return partitions


def _by_digest(rows: RowStates, todo: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return unknown files in their order, then known ones by digest; and whether another image begins, (n,) both."""
    words = np.ascontiguousarray(rows.known_files.digests[todo]).view(">u8")
    order = np.lexsort([*words.T[::-1]])  # stable, and the zeros of the unknown come first
    sorted_words = words[order]
    is_first = np.ones(len(todo), dtype=bool)
    is_first[1:] = (sorted_words[1:] != sorted_words[:-1]).any(axis=1) | ~sorted_words[1:].any(axis=1)
    return order, is_first


def _by_video(rows: RowStates, todo: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the order in which the frames of a video stand together; and whether another video begins, (n,) both."""
    frames = [video_and_frame(rows.listing.paths[row]) for row in todo]
    numbers: dict[str, int] = {}
    videos = np.array([numbers.setdefault(video, len(numbers)) for video, _ in frames], dtype=np.int64)
    order = np.lexsort([np.array([frame for _, frame in frames], dtype=np.int64), videos])
    is_first = np.ones(len(todo), dtype=bool)
    is_first[1:] = np.diff(videos[order]) != 0
    return order, is_first
