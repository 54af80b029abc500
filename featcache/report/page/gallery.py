"""Which images a cell of the matrix shows, and their thumbnails, made when the report is made."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import BinaryIO

import numpy as np

from featcache.evaluation import Answers
from featcache.files import open_file, refuse_larger
from featcache.listing import video_and_frame
from featcache.machine import cores
from featcache.media import (
    BadImageError,
    BadVideoError,
    decode_frames,
    estimate_thumbnail_cost,
    make_frame_thumbnail,
    make_thumbnail,
)

A_CELL = 6  # images that a cell shows
IN_ALL = 900  # different images of a page
PIXELS = 200_000_000  # that are decoded for them, in 5 s of CPU: 385 PNGs of 960x540; of JPEGs that size, all 900
EDGE = 112  # pixels
BYTES = 3_900_000  # of all thumbnails: with base64 and everything else a page stays under 6 MB
LARGEST = 2**28  # bytes of a file that is read for its thumbnail

Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the cells show."""

    rows: dict[Cell, tuple[int, ...]]  # (truth, prediction) -> rows of the answers, most confident first
    thumbnails: dict[int, bytes]  # row -> WebP
    wanted: int  # images that the limits let through
    unread: int  # of those, how many gave no thumbnail
    note: str = ""  # what a reader must know: that the images are gone


def build_gallery(
    answers: Answers,
    root: str,
    *,
    videos: bool = False,
    a_cell: int = A_CELL,
    in_all: int = IN_ALL,
    pixels: int = PIXELS,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Gallery:
    """Choose each cell's most confident answers, and make thumbnails of as many as the limits allow.

    Thumbnails go round: every cell's first image before any cell's second, large cells before small ones.
    `root`: the folder of the images; with `videos` the paths are those of frames.
    """
    rows = chosen(answers, a_cell)
    paths = _go_round(rows, answers)[:in_all]
    if not paths:
        return Gallery(rows, {}, 0, 0)
    if not os.path.isdir(root):
        return Gallery(rows, {}, len(paths), len(paths), f"no thumbnails: the images are no longer in {root}")
    if videos and importlib.util.find_spec("av") is None:
        note = "no thumbnails: videos are decoded by PyAV, which is not installed here (pip install 'featcache[av]')"
        return Gallery(rows, {}, len(paths), len(paths), note)
    paths = paths if videos else _affordable(Path(root), paths, pixels)
    make = _of_videos if videos else _of_images
    found: dict[str, bytes | None] = {}
    for path, data in make(Path(root), paths):
        found[path] = data
        progress(len(found), len(paths))
    unread = sum(data is None for data in found.values())
    small, size = dict[str, bytes](), 0
    for path in paths:
        data = found[path]
        if data is not None and size + len(data) <= BYTES:
            small[path], size = data, size + len(data)
    made = {row: small[answers.paths[row]] for cell in rows.values() for row in cell if answers.paths[row] in small}
    return Gallery(rows, made, len(paths), unread, _note(len(paths), unread, root))


def _affordable(root: Path, paths: list[str], left: int) -> list[str]:
    """Those that can be made of so many pixels; one that no longer fits is left out, smaller ones behind it are not."""
    found = []
    for path in paths:
        effort = 0  # of what cannot be read: that is found out, and counted, where the thumbnail is made
        with contextlib.suppress(OSError, BadImageError), _regular(root / path) as file:
            effort = estimate_thumbnail_cost(file)
        if effort <= left:
            left -= effort
            found.append(path)
    return found


def _of_images(root: Path, paths: list[str]) -> Iterator[tuple[str, bytes | None]]:
    def make(path: str) -> bytes | None:
        try:
            with _regular(root / path) as file:
                return make_thumbnail(file.read(), EDGE)
        except (OSError, BadImageError):
            return None

    with ThreadPoolExecutor(cores()) as pool:  # Pillow decodes outside of the interpreter's lock
        yield from zip(paths, pool.map(make, paths), strict=True)


def _of_videos(root: Path, paths: list[str]) -> Iterator[tuple[str, bytes | None]]:
    """As they are decoded: each video once, from its start to the last frame that is wanted, which takes its time."""
    frames: dict[str, dict[int, str]] = {}
    for path in paths:
        video, frame = video_and_frame(path)
        frames.setdefault(video, {})[frame] = path
    made: SimpleQueue[tuple[str, bytes | None]] = SimpleQueue()
    stopped = Event()

    def make(video: str) -> None:
        left = dict(frames[video])
        try:
            with contextlib.suppress(OSError, BadVideoError), _regular(root / video, limit=None) as file:
                for frame, pixels in decode_frames(file, sorted(left)):
                    made.put((left.pop(frame), make_frame_thumbnail(pixels, EDGE)))
                    if stopped.is_set():
                        return
        finally:
            for path in left.values():
                made.put((path, None))

    with ThreadPoolExecutor(cores()) as pool:
        try:
            ends = [pool.submit(make, video) for video in frames]
            for _ in paths:
                yield made.get()
            for end in ends:
                end.result()  # raises a fault of ours
        finally:  # Ctrl-C waits for the frames that are next, not for the videos
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def chosen(answers: Answers, a_cell: int) -> dict[Cell, tuple[int, ...]]:
    """Each cell's rows with the highest confidence, that first; of equals the first in the listing."""
    count = len(answers.classes)
    keys = answers.truth * count + answers.predicted
    order = np.lexsort((np.arange(len(keys)), -np.nan_to_num(answers.confidence), keys))
    cells, starts = np.unique(keys[order], return_index=True)
    ends = [*starts[1:], len(order)][: len(starts)]
    return {
        (int(cell // count), int(cell % count)): tuple(order[start : min(end, start + a_cell)].tolist())
        for cell, start, end in zip(cells, starts, ends, strict=True)
    }


def _go_round(rows: dict[Cell, tuple[int, ...]], answers: Answers) -> list[str]:
    """The different images of all cells: every cell's first, large cells before small ones, then the second …"""
    count = len(answers.classes)
    size = np.bincount(answers.truth * count + answers.predicted, minlength=count * count)
    largest = sorted(rows, key=lambda cell: (-size[cell[0] * count + cell[1]], cell))
    longest = max(map(len, rows.values()), default=0)
    turns = (rows[cell][turn] for turn in range(longest) for cell in largest if turn < len(rows[cell]))
    return list(dict.fromkeys(answers.paths[row] for row in turns))


def _regular(path: Path, limit: int | None = LARGEST) -> BinaryIO:
    """The file, opened; nothing that would hold the report up, such as a FIFO."""
    handle = open_file(path, follow_links=True)
    try:
        if limit is not None:
            refuse_larger(handle, limit)
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def _note(wanted: int, unread: int, root: str) -> str:
    if not unread:
        return ""
    if unread == wanted:
        return f"no thumbnails: no image could be read in {root}"
    return f"{unread:,} of {wanted:,} images could not be read in {root} and have no thumbnail"


def limits(found: Gallery, cells: Sequence[Cell]) -> str:
    """The limits in words."""
    return (
        f"at most {A_CELL} images a cell, the most confident answers first; "
        f"thumbnails of at most {IN_ALL:,} images, of fewer where they are large: "
        f"{len(found.thumbnails):,} in {len(cells):,} cells"
    )
