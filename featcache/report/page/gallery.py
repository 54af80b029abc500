"""The thumbnails of the images that a cell of the matrix lists, made when the report is made."""

import contextlib
import importlib.util
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import BinaryIO, Self

from featcache.containers import MemberReader, find_member, is_elsewhere
from featcache.evaluation import SplitPredictions
from featcache.files import open_file, refuse_larger
from featcache.files.objects import is_remote, read_remote
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
from featcache.report.page.image_list import LIST_BYTES, Cell, choose_rows
from featcache.text import counted

IN_ALL = 900  # different images of a page that have a thumbnail
PIXELS = 200_000_000  # that are decoded for them, in 5 s of CPU: 385 PNGs of 960x540; of JPEGs that size, all 900
EDGE = 112  # pixels
PAGE_BYTES = 5_200_000  # of the list of images and of the thumbnails as base64: a page stays under 6 MB
LARGEST = 2**28  # bytes of a file that is read for its thumbnail
_FETCHED_BYTES = 2**28  # of images that are elsewhere, held at a time
_FETCHES = 16  # of them at a time


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the cells of the matrix list."""

    rows: dict[Cell, tuple[int, ...]]  # (truth, prediction) -> rows of the predictions, most confident first
    thumbnails: dict[int, bytes]  # row -> WebP
    wanted: int  # images that the limits let through
    unread: int  # of those, how many gave no thumbnail
    note: str = ""  # what a reader must know: that the images are gone


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The thumbnails of some images."""

    by_path: dict[str, bytes]  # WebP; of an image that could not be read, or did not fit in, none
    wanted: int  # images that the limits let through
    unread: int  # of those, how many gave no thumbnail
    note: str = ""  # what a reader must know: that the images are gone


def build_gallery(
    predictions: SplitPredictions,
    root: str,
    *,
    videos: bool = False,
    list_bytes: int = LIST_BYTES,
    in_all: int = IN_ALL,
    pixels: int = PIXELS,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Gallery:
    """List each cell's predictions, the most confident first, and make thumbnails of as many as the limits allow.

    Thumbnails go round: every cell's first image before any cell's second, large cells before small ones.

    Args:
        predictions: of which the images are shown.
        root: the folder of the images.
        videos: whether the paths are those of frames of videos.
        list_bytes: of the list, about, at most; where it would be longer, the largest cells are cut.
        in_all: different images that have a thumbnail, at most.
        pixels: that are decoded for the thumbnails of image files, at most.
        progress: gets how many thumbnails are made, and of how many.
    """
    rows, size = choose_rows(predictions, list_bytes)
    thumbnail_bytes = (PAGE_BYTES - size) * 3 // 4  # base64 makes four bytes of three
    paths = _go_round(rows, predictions, in_all)
    if not paths:
        return Gallery(rows, {}, 0, 0)
    loaded = load_thumbnails(
        paths, root, videos=videos, thumbnail_bytes=thumbnail_bytes, pixels=pixels, progress=progress
    )
    path_of = {row: predictions.paths[row] for cell in rows.values() for row in cell}
    thumbnails = {row: loaded.by_path[path] for row, path in path_of.items() if path in loaded.by_path}
    return Gallery(rows, thumbnails, loaded.wanted, loaded.unread, loaded.note)


def load_thumbnails(
    paths: Sequence[str],
    root: str,
    *,
    videos: bool = False,
    thumbnail_bytes: int = PAGE_BYTES * 3 // 4,
    pixels: int = PIXELS,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Thumbnails:
    """Return the thumbnails of images, of as many as the limits allow, the first ones before the others.

    Args:
        paths: of the images, each once, relative to the root.
        root: the folder of the images.
        videos: whether the paths are those of frames of videos.
        thumbnail_bytes: of all thumbnails together, at most.
        pixels: that are decoded for the thumbnails of image files, at most.
        progress: gets how many thumbnails are made, and of how many.
    """
    if not (is_elsewhere(root) or os.path.isdir(root)):
        return Thumbnails({}, len(paths), len(paths), f"no thumbnails: the images are no longer in {root}")
    if videos and importlib.util.find_spec("av") is None:
        note = "no thumbnails: videos are decoded by PyAV, which is not installed here (pip install 'featcache[av]')"
        return Thumbnails({}, len(paths), len(paths), note)
    by_path: dict[str, bytes | None] = {}
    with _Images(root) as images:
        images.fetch_ahead(() if videos else paths)
        paths = list(paths) if videos else _affordable(list(paths), pixels, images)
        for path, image in _of_videos(Path(root), paths) if videos else _of_images(paths, images):
            by_path[path] = image
            progress(len(by_path), len(paths))
    unread = sum(image is None for image in by_path.values())
    fitting: dict[str, bytes] = {}
    for path in paths:
        image = by_path[path]
        if image is not None and len(image) <= thumbnail_bytes:
            fitting[path], thumbnail_bytes = image, thumbnail_bytes - len(image)
    return Thumbnails(fitting, len(paths), unread, _note(len(paths), unread, root))


def _affordable(paths: list[str], left: int, images: "_Images") -> list[str]:
    """Return the paths whose pixels fit into what is `left`; a large image is left out, smaller ones behind it stay."""
    affordable = []
    for path in paths:
        effort = 0  # of what cannot be read: that is found out, and counted, where the thumbnail is made
        with contextlib.suppress(OSError, BadImageError), images.open_image(path) as file:
            effort = estimate_thumbnail_cost(file)
        if effort <= left:
            left -= effort
            affordable.append(path)
    return affordable


def _of_images(paths: list[str], images: "_Images") -> Iterator[tuple[str, bytes | None]]:
    """Yield each image's thumbnail, in order; None where it cannot be read."""

    def make(path: str) -> bytes | None:
        try:
            with images.open_image(path) as file:
                return make_thumbnail(file.read(), EDGE)
        except (OSError, BadImageError):
            return None

    with ThreadPoolExecutor(cores()) as pool:  # Pillow decodes outside of the interpreter's lock
        yield from zip(paths, pool.map(make, paths), strict=True)


def _of_videos(root: Path, paths: list[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield each frame's thumbnail as it is decoded: a video is read once, to the last frame that is wanted."""
    frames: dict[str, dict[int, str]] = {}
    for path in paths:
        video, frame = video_and_frame(path)
        frames.setdefault(video, {})[frame] = path
    finished: SimpleQueue[tuple[str, bytes | None]] = SimpleQueue()
    stopped = Event()

    def make(video: str) -> None:
        left = dict(frames[video])
        try:
            with contextlib.suppress(OSError, BadVideoError), _regular(root / video, limit=None) as file:
                for frame, pixels in decode_frames(file, sorted(left)):
                    finished.put((left.pop(frame), make_frame_thumbnail(pixels, EDGE)))
                    if stopped.is_set():
                        return
        finally:
            for path in left.values():
                finished.put((path, None))

    with ThreadPoolExecutor(cores()) as pool:
        try:
            ends = [pool.submit(make, video) for video in frames]
            for _ in paths:
                yield finished.get()
            for end in ends:
                end.result()  # raises a fault of ours
        finally:  # Ctrl-C waits for the frames that are next, not for the videos
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _go_round(rows: dict[Cell, tuple[int, ...]], predictions: SplitPredictions, in_all: int) -> list[str]:
    """Return at most so many images: of every cell the first, of large cells before small ones, then the second …"""
    largest = sorted(rows, key=lambda cell: (-len(rows[cell]), cell))
    paths: dict[str, None] = {}
    for turn in range(max(map(len, rows.values()), default=0)):
        for cell in largest:
            if len(paths) == in_all or turn >= len(rows[cell]):
                break  # the cells behind it are no larger
            paths[predictions.paths[rows[cell][turn]]] = None
    return list(paths)


class _Images:
    """The images of a page: files, members of containers, objects in a bucket."""

    def __init__(self, root: str) -> None:
        self._root, self._members = root, MemberReader()
        self._fetched: dict[str, bytes] = {}  # of what is elsewhere: an image is looked at twice

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._members.close()

    def fetch_ahead(self, paths: Sequence[str]) -> None:
        """Fetch images that are elsewhere, each once, in the order in which containers have them; as many as fit."""
        if not is_elsewhere(self._root):
            return
        left, ordered = _FETCHED_BYTES, sorted(paths)
        with ThreadPoolExecutor(_FETCHES) as threads:
            for start in range(0, len(ordered), _FETCHES):
                some = ordered[start : start + _FETCHES]
                for path, data in zip(some, threads.map(self._fetch, some), strict=True):
                    if data is not None and len(data) <= left:
                        self._fetched[path], left = data, left - len(data)
                if left < LARGEST // _FETCHES:
                    return

    def open_image(self, path: str) -> BinaryIO:
        """Return an image's file, opened, or the bytes of an image that is none."""
        whole = os.path.join(self._root, path)
        if path in self._fetched:
            return io.BytesIO(self._fetched[path])
        if (member := find_member(whole)) is not None:
            return io.BytesIO(self._members.read(member, LARGEST))
        return io.BytesIO(read_remote(whole, LARGEST)[0]) if is_remote(whole) else _regular(Path(whole))

    def _fetch(self, path: str) -> bytes | None:
        try:
            with self.open_image(path) as file:
                return file.read()
        except OSError:
            return None


def _regular(path: Path, limit: int | None = LARGEST) -> BinaryIO:
    """Return the file, opened; nothing that would hold the report up, such as a FIFO."""
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


def describe_gallery(gallery: Gallery, predictions: SplitPredictions) -> str:
    """Return in words how many images are listed, and how many of them have a thumbnail.

    Args:
        gallery: of these predictions.
        predictions: all of the split.
    """
    total, listed = len(predictions.truth), sum(map(len, gallery.rows.values()))
    every = f"all {counted(total, predictions.by)}" if total > 1 else counted(total, predictions.by)
    if listed < total:
        most = max(map(len, gallery.rows.values()), default=0)
        every = f"{listed:,} of {counted(total, predictions.by)}, at most {most:,} of a cell to keep the page small"
    pictures = len({predictions.paths[row] for row in gallery.thumbnails})
    different = len({predictions.paths[row] for rows in gallery.rows.values() for row in rows})
    if pictures == different:
        return f"{every}, each with a thumbnail"
    return f"{every}; {pictures:,} of {counted(different, 'picture')} have a thumbnail"
