"""The images that each cell of the matrix lists: which ones, and how the page holds them in few bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.evaluation import SplitPredictions
from featcache.text import percent, printable, shorten

LIST_BYTES = 2_600_000  # of the list, about: 92,000 frames under names of Drive&Act
LONGEST_NAME = 320  # of a name in full: hostile ones are longer
A_PAGE = 60  # images that a cell shows at a time
_ROW_BYTES = 16  # of a row in its cell: its number, and one or two probabilities
_NAME_BYTES = 9  # of a name, at least

Cell = tuple[int, int]  # (truth, prediction)


def choose_rows(predictions: SplitPredictions, list_bytes: int = LIST_BYTES) -> tuple[dict[Cell, tuple[int, ...]], int]:
    """Return each cell's rows, the highest confidence first, of equals the first in the listing; and the list's size.

    Where the list would be too long, the largest cells have only their most confident rows.

    Args:
        predictions: of which the images are listed.
        list_bytes: of the list, about, at most.

    Returns:
        The rows of each cell that has any, and how many bytes the list takes, about.
    """
    count = len(predictions.classes)
    keys = predictions.truth * count + predictions.predicted
    order = np.lexsort((np.arange(len(keys)), -np.nan_to_num(predictions.confidence), keys))
    cells, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    room = min(len(keys), list_bytes // (_ROW_BYTES + _NAME_BYTES))  # rows
    while True:
        limit = _limit(sizes, room)
        rows = {
            (int(cell // count), int(cell % count)): tuple(order[start : start + min(size, limit)].tolist())
            for cell, start, size in zip(cells, starts, sizes, strict=True)
        }
        needed = _list_size(predictions, rows)
        if needed <= list_bytes or limit <= 1:
            return rows, needed
        room = int(0.97 * room * list_bytes / needed)


def _limit(sizes: npt.NDArray[np.int64], room: int) -> int:
    """Return how many rows each cell may list, at least 1, so that all cells together list at most `room`."""
    low, high = 1, int(sizes.max(initial=1))
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle).sum() <= room:
            low = middle
        else:
            high = middle - 1
    return low


def list_document(
    predictions: SplitPredictions, rows: dict[Cell, tuple[int, ...]], thumbnails: dict[int, int]
) -> dict[str, Any]:
    """Return the list as plain values for JSON.

    `images` are the names, sorted, each as the number of UTF-16 units that it shares with the one before it, a space,
    and the rest. `cells` has for each "truth,prediction" three lists: numbers of images, and the probabilities of the
    prediction and of the truth as numbers of `percents`; the third is missing where prediction and truth are the same.
    `thumbnail` leads from an image's number to its thumbnail's. `firsts` and `lasts` are the numbers of a page's first
    and last image.

    Args:
        predictions: of which the images are listed.
        rows: what `choose_rows` returned.
        thumbnails: the number of the thumbnail of each row that has one.
    """
    unknown = 0.0 if predictions.has_probabilities else np.nan  # votes are no probabilities
    names = _names(predictions, rows)
    number_of = {name: number for number, (_, name) in enumerate(names)}
    percents: dict[str, int] = {}

    def column(cell_rows: Sequence[int], label: int) -> list[int]:
        shares = (predictions.probabilities[list(cell_rows), label] + unknown).tolist()
        return [percents.setdefault(percent(share), len(percents)) for share in shares]

    cells = {
        f"{truth},{predicted}": [
            [number_of[predictions.names[row]] for row in cell_rows],
            *(column(cell_rows, label) for label in dict.fromkeys((predicted, truth))),
        ]
        for (truth, predicted), cell_rows in rows.items()
    }
    longest = max(map(len, rows.values()), default=0)
    return {
        "images": front_coded([shown for shown, _ in names]),
        "thumbnail": {str(number_of[predictions.names[row]]): number for row, number in thumbnails.items()},
        "percents": list(percents),
        "cells": cells,
        "firsts": [f"{first + 1:,}" for first in range(0, longest, A_PAGE)],
        "lasts": [f"{first + A_PAGE:,}" for first in range(0, longest, A_PAGE)],
        "page": A_PAGE,
    }


def front_coded(names: Sequence[str]) -> list[str]:
    """Return sorted names in few bytes: "12 rest" begins with the first 12 UTF-16 units of the name before it.

    Args:
        names: without surrogates.
    """
    coded, before = [], ""
    for name in names:
        shared = _shared(before, name)
        units = shared if name.isascii() else len(name[:shared].encode("utf-16-le")) // 2
        coded.append(f"{units} {name[shared:]}")
        before = name
    return coded


def _names(predictions: SplitPredictions, rows: dict[Cell, tuple[int, ...]]) -> list[tuple[str, str]]:
    """Return the different names of these rows as they are shown, and as they are, sorted."""
    names = {predictions.names[row] for cell_rows in rows.values() for row in cell_rows}
    return sorted((_shown(name), name) for name in names)


def _shown(name: str) -> str:
    plain = name.isascii() and name.isprintable() and len(name) <= LONGEST_NAME
    return name if plain else shorten(printable(name), LONGEST_NAME)


def _list_size(predictions: SplitPredictions, rows: dict[Cell, tuple[int, ...]]) -> int:
    """Return about how many bytes the list takes in the page."""
    coded = front_coded([shown for shown, _ in _names(predictions, rows)])
    escaped = sum(len(name) if name.isascii() else 6 * len(name) for name in coded)  # of a character as its escape
    return escaped + 3 * len(coded) + _ROW_BYTES * sum(map(len, rows.values()))


def _shared(one: str, other: str) -> int:
    """Return how many characters two names begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low
