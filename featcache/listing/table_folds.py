"""Folds that a table names: the rows of one are test, the others belong to the split that their own cell says."""

import re
from collections.abc import Iterator, Sequence

from featcache.errors import DataError
from featcache.recipe import MOST_FOLD, TableData

_FOLD = re.compile(r"([0-9]{1,9})(\.0)?")  # a column of numbers with empty cells is one of fractions to other tools
TEST = "test"  # the split of the fold's rows
_NAMED = 10  # folds in a message


def find_fold_faults(folds: Sequence[str], splits: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield (row, what is wrong with it) for cells that are no fold, and for rows that are test in every fold.

    Args:
        folds: (rows,) the cells of the column of folds.
        splits: (rows,) those of the column of splits; () where there is none.
    """
    faulty = {cell for cell in set(folds) if cell.strip() and _number(cell) is None}
    for row, cell in enumerate(folds):
        if cell in faulty:
            yield row, f"fold {cell!r}, expected a whole number from 0 to {MOST_FOLD}, or an empty cell: in no fold"
    for row, split in enumerate(splits):
        if split == TEST:
            yield row, "split 'test', where the rows of a fold are test; name train, or leave out the column of folds"


def split_by_fold(data: TableData, folds: Sequence[str], splits: Sequence[str], path: str) -> Sequence[str]:
    """Return the split of each row, (rows,): test where it is of the recipe's fold, else what its own cell says.

    Args:
        data: The recipe's section, which names a fold.
        folds: As for `find_fold_faults`, without faults.
        splits: (rows,) the split of each row where no fold counts.
        path: Of the table, for the error.

    Raises:
        DataError: no row is of this fold.
    """
    number_of = {cell: _number(cell) for cell in set(folds)}
    if data.fold not in number_of.values():
        there = sorted(number for number in set(number_of.values()) if number is not None)
        more = f" and {len(there) - _NAMED:,} more" if len(there) > _NAMED else ""
        shown = ", ".join(map(str, there[:_NAMED])) or "none"
        error = DataError(f"{path}: no row of fold {data.fold} in column {data.fold_column!r}; found {shown}{more}")
        raise error.correct("--fold", str(there[0])) if there else error
    return [TEST if number_of[cell] == data.fold else split for cell, split in zip(folds, splits, strict=True)]


def _number(cell: str) -> int | None:
    """Return the fold that a cell names; None where it names none."""
    match = _FOLD.fullmatch(cell.strip())
    return int(match[1]) if match is not None and int(match[1]) <= MOST_FOLD else None
