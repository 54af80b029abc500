"""Rows of a shard that is an object of a bucket: few requests, many of them in flight."""

from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import CacheError
from featcache.files.objects import ObjectReader

_GAP_BYTES = 1 << 18  # between two rows, up to which one request for both beats two


def read_remote_rows(
    reader: ObjectReader, offset: int, dim: int, dtype: np.dtype[Any], rows: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Return rows of an array in an object, (n, dim), in their order: those that lie near one another with one request.

    Args:
        reader: The open object.
        offset: Where the array begins, bytes.
        dim: Numbers in a row.
        dtype: Of the array.
        rows: Which of its rows, (n,), at least one.

    Raises:
        CacheError: the object ends early.
        MachineError: the object store does not answer.
    """
    size = dim * dtype.itemsize
    distinct, place = np.unique(rows, return_inverse=True)
    stretches = np.split(distinct, np.flatnonzero(np.diff(distinct) > max(1, _GAP_BYTES // size)) + 1)
    starts = [offset + int(stretch[0]) * size for stretch in stretches]
    sizes = [int(stretch[-1] - stretch[0] + 1) * size for stretch in stretches]
    values = np.empty((len(distinct), dim), dtype=dtype)
    done = 0
    for stretch, wanted, data in zip(stretches, sizes, reader.read_ranges(starts, sizes), strict=True):
        if len(data) < wanted:
            raise CacheError(f"{reader.key}: this shard ended {wanted - len(data)} bytes early")
        values[done : done + len(stretch)] = np.frombuffer(data, dtype=dtype).reshape(-1, dim)[stretch - stretch[0]]
        done += len(stretch)
    return values[place]
