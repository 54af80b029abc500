"""Rows divided into folds: no subject, clip or image stands in two of them, classes are spread evenly."""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError
from featcache.features import Features
from featcache.text import counted

Folds = npt.NDArray[np.int64]  # (rows,), the number of each row's fold, from 0


def unit_of_rows(splits: Sequence[Features]) -> str:
    """Return the largest unit that the rows name: "subject", where all do; else "clip", where one does; else "image".

    Args:
        splits: whose rows are divided.
    """
    if all(all(split.subjects) for split in splits):
        return "subject"
    return "clip" if any(any(split.clips) for split in splits) else "image"


def divide_rows(rows: Features, by: str, folds: int, seed: int) -> Folds:
    """Return the fold of each row, the same for the same rows and seed.

    By image, files of the same bytes are one. Classes, or labels that occur together, are spread over the folds as
    scikit-learn's StratifiedGroupKFold spreads them, by image as StratifiedKFold does, which takes a moment for any
    number of rows.

    Args:
        rows: what is divided.
        by: "subject", "clip" or "image"; by clip, an image that belongs to none is a group of its own.
        folds: how many.
        seed: another seed, another division.

    Raises:
        DataError: there are fewer groups than folds, or no class has a row for each fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    group, first = number_groups(rows, by)
    if len(first) < folds:
        raise DataError(
            f"--cross-validate {folds} needs {folds} {by}s or more, since none may stand in two folds; there are "
            f"{len(first)}. Name fewer folds."
        )
    strata = _strata(rows, folds)
    most = int(np.bincount(strata).max())
    if most < folds:
        raise DataError(f"--cross-validate {folds}: the largest class has {counted(most, 'image')}; name fewer folds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds is spread as far as it goes
        if by == "image":
            splitter, y, of_splitter = StratifiedKFold(folds, shuffle=True, random_state=seed), strata[first], None
        else:
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            y, of_splitter = strata, group
        parts = list(splitter.split(np.zeros(len(y)), y, of_splitter))
    fold = np.empty(len(y), dtype=np.int64)
    for number, (_, held_out) in enumerate(parts):
        fold[held_out] = number
    return fold[group] if by == "image" else fold


def _strata(rows: Features, folds: int) -> npt.NDArray[np.int64]:
    """Return what is spread evenly over the folds, (rows,): classes; of several labels those that occur together."""
    if rows.targets is None:
        return rows.y
    codes = rows.targets.codes()  # of numbers hardly two are equal: then nothing is spread
    return codes if np.bincount(codes).max() >= folds else np.zeros_like(codes)


def number_groups(rows: Features, by: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the number of each row's group, numbered as they appear, and the first row of each group.

    Args:
        rows: what is grouped.
        by: "subject", "clip" or "image"; by clip, an image that belongs to none is a group of its own, and by image,
            files of the same bytes are one.
    """
    digests = [row.tobytes() for row in rows.digests] if rows.digests is not None else list(rows.paths)
    names: Sequence[object] = digests
    if by == "subject":
        names = rows.subjects
    elif by == "clip":
        names = [clip or digest for clip, digest in zip(rows.clips, digests, strict=True)]
    numbers: dict[object, int] = {}
    group = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return group, np.unique(group, return_index=True)[1]
