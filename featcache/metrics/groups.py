"""Rows in groups: what a bootstrap draws again, as two sparse counts a class and head."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class GroupCounts:
    """What a bootstrap draws: right predictions and rows of each class in each kind of group, once a head."""

    unit: str
    heads: int
    hits: csr_array  # (kinds, heads * classes) float64
    support: csr_array  # (kinds, heads * classes) float64; (kinds, classes) where all heads have the same rows
    count: npt.NDArray[np.int64]  # (kinds,), how many groups are of this kind

    @property
    def number(self) -> int:
        """How many groups there are."""
        return int(self.count.sum())

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.hits.shape[1]) // self.heads

    @property
    def rows(self) -> csr_array:
        """Rows of each class, (kinds, classes): of all heads together; of one where they share theirs."""
        parts = [self.support[:, at : at + self.classes] for at in range(0, self.support.shape[1], self.classes)]
        total = csr_array(sum(parts[1:], parts[0]))
        total.eliminate_zeros()
        return total


def choose_unit(subjects: Sequence[str], clips: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return what is drawn again, and its name for each row: subjects if all rows name one, else clips, else images.

    Args:
        subjects: (rows,) the person of each row; "" where nobody is named.
        clips: (rows,) the clip of each row; "" where it belongs to none.

    Returns:
        "subject", "clip" or "image", and the names, (rows,); none for images, each of which is a group of its own.
    """
    for unit, names in (("subject", subjects), ("clip", clips)):
        if len(names) and all(names):
            return unit, names
    return "image", ()


def number_names(names: Sequence[str]) -> tuple[Numbers, tuple[str, ...]]:
    """Return the number of each row's name, (rows,), and the names by number, in the order in which they appear.

    Names of the same rows are asked for again and again: those of the last few tuples are remembered.

    Args:
        names: (rows,).

    Returns:
        Two; the array may not be written to.
    """
    return _number_names(names if isinstance(names, tuple) else tuple(names))


@lru_cache(maxsize=4)
def _number_names(names: tuple[str, ...]) -> tuple[Numbers, tuple[str, ...]]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    codes = np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))
    codes.flags.writeable = False
    return codes, tuple(numbers)


def count_groups(
    unit: str,
    names: Sequence[str],
    truth: npt.NDArray[np.integer],
    right: npt.NDArray[np.bool_],
    classes: int,
    counts: npt.NDArray[np.bool_] | None = None,
) -> GroupCounts:
    """Return the counts of each group.

    Args:
        unit: what a group is.
        names: (rows,) the group of each row; none where each row is its own.
        truth: (rows,) an index into the classes.
        right: (rows, heads) whether each head's prediction is right.
        classes: how many.
        counts: (rows, heads) whether a row is one of that head's, where not every row is.
    """
    heads = right.shape[1]
    bits = right if counts is None else np.concatenate([right & counts, counts], axis=1)
    keys = truth.astype(np.int64) << bits.shape[1]
    for column in range(bits.shape[1]):
        keys |= bits[:, column].astype(np.int64) << column
    kinds, kind, count = np.unique(keys, return_inverse=True, return_counts=True)
    label, is_set = kinds >> bits.shape[1], (kinds[:, None] >> np.arange(bits.shape[1])) & 1
    hits = _in_class_columns(is_set[:, :heads], label, classes)
    rows = np.ones((len(kinds), 1), dtype=np.int64) if counts is None else is_set[:, heads:]
    support = _in_class_columns(rows, label, classes)
    if len(names):
        rows_of_kind, count = _count_alike(names, kind, len(kinds))
        hits, support = csr_array(rows_of_kind @ hits), csr_array(rows_of_kind @ support)
    return GroupCounts(unit, heads, hits, support, count)


def _in_class_columns(values: npt.NDArray[np.integer], label: npt.NDArray[np.integer], classes: int) -> csr_array:
    """Return values (kinds, heads) in the columns of each kind's class, (kinds, heads * classes)."""
    row, head = np.nonzero(values)
    shape = (len(label), values.shape[1] * classes)
    return csr_array((values[row, head].astype(np.float64), (row, head * classes + label[row])), shape=shape)


def _count_alike(names: Sequence[str], kind: Numbers, kinds: int) -> tuple[csr_array, Numbers]:
    """Return the rows of each kind in each kind of group, (kinds of group, kinds of row), and the groups of each kind.

    Sorted as the rows of the dense table would be, so that the draws of a seed do not depend on the names.
    """
    code, codes = number_names(names)
    cell, rows = np.unique(code * kinds + kind, return_counts=True)
    # Big-endian pairs compare as their bytes do: the first kind that only one of two groups has makes it the larger.
    pairs = np.stack([kinds - 1 - cell % kinds, rows], axis=1).astype(">u8")
    ends = np.cumsum(np.bincount(cell // kinds, minlength=len(codes)))
    seen: dict[bytes, int] = {}
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        key = pairs[start:end].tobytes()
        seen[key] = seen.get(key, 0) + 1
    order = sorted(seen)
    flat = np.frombuffer(b"".join(order), ">u8").astype(np.int64).reshape(-1, 2)
    starts = np.cumsum([0, *(len(key) // 16 for key in order)])
    rows_of_kind = csr_array((flat[:, 1].astype(np.float64), kinds - 1 - flat[:, 0], starts), shape=(len(order), kinds))
    return rows_of_kind, np.array([seen[key] for key in order], dtype=np.int64)
