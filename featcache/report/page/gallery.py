"""Which images a cell of the matrix shows, and their thumbnails, made when the report is made."""

import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.images import BadImageError, thumbnail
from featcache.report.answers import Answers

A_CELL = 6  # images that a cell shows
IN_ALL = 1_200  # thumbnails of a page
EDGE = 112  # pixels
BYTES = 3_900_000  # of all thumbnails: with base64 and everything else a page stays under 6 MB
LARGEST = 2**28  # bytes of a file that is read for its thumbnail

Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the cells show."""

    rows: dict[Cell, tuple[int, ...]]  # (truth, prediction) -> rows of the answers, most confident first
    thumbnails: dict[int, bytes]  # row -> WebP
    wanted: int  # thumbnails that the limits let through
    unread: int  # of those, images that gave none
    note: str = ""  # what a reader must know: that the images are gone


def gallery(
    answers: Answers,
    root: str,
    *,
    a_cell: int = A_CELL,
    in_all: int = IN_ALL,
    read: Callable[[str], bytes] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Gallery:
    """Choose each cell's most confident answers, and make thumbnails of as many as the limits allow.

    Thumbnails go round: every cell's first image before any cell's second, large cells before small ones.
    `read`: path -> the image file's bytes, an OSError where there is none; without it, files below `root`.
    """
    rows = chosen(answers, a_cell)
    wanted = _go_round(rows, answers, in_all)
    if not wanted:
        return Gallery(rows, {}, 0, 0)
    if read is None and not os.path.isdir(root):
        return Gallery(rows, {}, len(wanted), len(wanted), f"no thumbnails: the images are no longer in {root}")
    take = read or (lambda path: _bytes_of(Path(root) / path))

    def make(row: int) -> bytes | None:
        try:
            return thumbnail(take(answers.paths[row]), EDGE)
        except (OSError, BadImageError):
            return None

    made: dict[int, bytes] = {}
    size, unread = 0, 0
    pool = ThreadPoolExecutor(os.cpu_count() or 1)  # Pillow decodes outside of the interpreter's lock
    try:
        for done, (row, small) in enumerate(zip(wanted, pool.map(make, wanted), strict=True), start=1):
            progress(done, len(wanted))
            if small is None:
                unread += 1
            elif size + len(small) > BYTES:
                wanted = wanted[: done - 1]
                break
            else:
                made[row], size = small, size + len(small)
    finally:
        pool.shutdown(cancel_futures=True)
    return Gallery(rows, made, len(wanted), unread, _note(len(wanted), unread, root))


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


def _go_round(rows: dict[Cell, tuple[int, ...]], answers: Answers, in_all: int) -> list[int]:
    count = len(answers.classes)
    size = np.bincount(answers.truth * count + answers.predicted, minlength=count * count)
    largest = sorted(rows, key=lambda cell: (-size[cell[0] * count + cell[1]], cell))
    longest = max(map(len, rows.values()), default=0)
    turns = [rows[cell][turn] for turn in range(longest) for cell in largest if turn < len(rows[cell])]
    return turns[:in_all]


def _bytes_of(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO must not hold the report up
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            raise OSError("no image file")
        return file.read()


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
        f"{len(found.thumbnails):,} thumbnails in {len(cells):,} cells"
    )
