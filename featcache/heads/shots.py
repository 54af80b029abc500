"""Draws of a few labels: k of each class, spread over subjects or clips; the same draws for every head.

In one draw the rows of a class stand in an order: first one row of each subject (or clip, or file), in random order;
then a second row of each; and so on. Its first k rows are the k labels of the draw: from as many subjects as there are,
and the labels of a smaller k are among those of a larger one. The order follows from the rows' groups and classes, the
seed and the number of the draw alone. Rows with several labels, or with numbers, are all of one class here: k images.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featcache.errors import DataError, UsageError
from featcache.features import Features
from featcache.heads.row_folds import number_groups
from featcache.text import counted

ALL = "all"
USUAL_SHOTS = "1,2,4,8,16,all"
MOST_TRIES = 40
_MOST_SHOTS = 10**9


def parse_shots(shots: str | Sequence[int | str]) -> tuple[int | None, ...]:
    """Return the numbers of labels of each class, rising, each once; None, the last, stands for all labels.

    Args:
        shots: "1,2,4,all", or a list of numbers in which "all" may stand.

    Raises:
        UsageError: one is neither a whole number from 1 up nor "all".
    """
    words = shots.split(",") if isinstance(shots, str) else shots
    numbers = {None if str(word).strip() == ALL else _parse_number(word) for word in words}
    if not numbers:
        raise UsageError(f"--shots: found nothing, expected numbers from 1 up and {ALL!r}, such as {USUAL_SHOTS}")
    return (*sorted(number for number in numbers if number is not None), *([None] if None in numbers else []))


def _parse_number(word: int | str) -> int:
    """Return one number of labels.

    Raises:
        UsageError: as `parse_shots`.
    """
    text = str(word).strip()
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:20]) <= _MOST_SHOTS:
        error = UsageError(f"--shots: found {text[:40]!r}, expected whole numbers from 1 up, or {ALL!r}: {USUAL_SHOTS}")
        raise error.correct("--shots", USUAL_SHOTS)
    return int(text)


def refuse_tries(tries: int) -> None:
    """Raise a UsageError unless there may be so many draws.

    Raises:
        UsageError: fewer than one, or more than 40.
    """
    if not 1 <= tries <= MOST_TRIES:
        error = UsageError(f"--tries: found {tries}, expected 1 to {MOST_TRIES} draws of the labels")
        raise error.correct("--tries", "10")


def rank_labels(rows: Features, by: str, seed: int, number: int) -> npt.NDArray[np.int64]:
    """Return the place of each row in its class's order, (rows,) from 0: those below k are the k labels of a draw.

    Args:
        rows: what is drawn from.
        by: "subject", "clip" or "image": what the labels of a class are spread over.
        seed: another seed, other draws.
        number: of the draw, from 0.
    """
    random = np.random.default_rng([seed, number])
    group, first = number_groups(rows, by)
    shuffled, turn = random.permutation(len(rows.y)), random.permutation(len(first))
    cell = rows.y[shuffled] * len(first) + group[shuffled]  # the rows of one class and one group, in random order
    order = shuffled[np.lexsort((turn[group[shuffled]], _count_before(cell), rows.y[shuffled]))]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = _count_before(rows.y[order])
    return rank


def refuse_scarce(rows: Features, shots: Sequence[int | None]) -> None:
    """Raise a DataError where a class has fewer labels than are to be drawn of it; one without any does not count.

    Args:
        rows: what is drawn from.
        shots: as `parse_shots` returns them.

    Raises:
        DataError: the smallest class has fewer, or, of several labels or numbers, train.
    """
    most = max((number for number in shots if number is not None), default=0)
    if rows.targets is not None:
        _refuse_scarce_rows(rows, shots, most)
        return
    counts = np.bincount(rows.y, minlength=len(rows.classes))
    smallest = min(np.flatnonzero(counts).tolist(), key=lambda label: int(counts[label]))
    fewest = int(counts[smallest])
    if most > fewest:
        error = DataError(
            f"--shots {most}: class {rows.classes[smallest]!r} has only {counted(fewest, 'label')} in train; name at "
            f"most {fewest}, or {ALL!r}"
        )
        raise error.correct("--shots", _possible_shots(shots, fewest))


def _refuse_scarce_rows(rows: Features, shots: Sequence[int | None], most: int) -> None:
    """Raise a DataError where fewer images are there than are to be drawn."""
    if most > len(rows.y):
        unit = "image" if rows.digests is not None else "clip"
        error = DataError(
            f"--shots {most}: train has only {counted(len(rows.y), unit)}; name at most {len(rows.y)}, or {ALL!r}"
        )
        raise error.correct("--shots", _possible_shots(shots, len(rows.y)))


def _possible_shots(shots: Sequence[int | None], fewest: int) -> str:
    """Return those numbers of labels that there are, as one types them."""
    return ",".join([*(str(number) for number in shots if number is not None and number <= fewest), ALL])


def _count_before(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many earlier entries are equal to each, (n,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(values)])
    count = np.empty(len(values), dtype=np.int64)
    count[order] = np.arange(len(values)) - np.repeat(starts, sizes)
    return count
