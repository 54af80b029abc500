"""The scores of a function from embeddings to logits on one split, some blocks of rows at a time, by all cores."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from featcache.features import Features
from featcache.heads.linear import BLOCK_ROWS, Floats, LinearHead, Scores
from featcache.machine import run_in_threads
from featcache.metrics import accuracy, confusion_matrix, macro_recall

LOSS_ROWS = 1_024  # of a block, in float64: a few classes' stay in the nearest cache
MOST_BLOCKS = 8  # of a linear head, scored together
MOST_LOGITS = 2**23  # of them, but for a single block: bounds the memory that they take


def score_split(
    logits: Callable[[npt.NDArray[np.float32]], Floats], features: Features, *, together: int = BLOCK_ROWS
) -> Scores:
    """Score a function from embeddings to logits, e.g. `score_split(head.logits, features)`; nan without rows.

    The answer is the first of the highest logits, and nan is higher than any number: NumPy's argmax.

    Args:
        logits: (rows, dim) float32 -> (rows, classes).
        features: the split.
        together: as of `score_blocks`.

    Returns:
        Accuracy and macro recall in 0 … 1, and the mean loss in nats.
    """
    return score_blocks(logits, [(features.x, features.y)], len(features.classes), together=together)


def rows_together(head: object) -> int:
    """Return how many rows a head is to be asked for at a time: a linear one has a thread for each block of them.

    Any other has one block, and so has a linear one that scales its rows, since it copies them.

    Args:
        head: what is scored.
    """
    if not isinstance(head, LinearHead) or head.config.normalize == "l2":
        return BLOCK_ROWS
    return BLOCK_ROWS * max(1, min(MOST_BLOCKS, MOST_LOGITS // (BLOCK_ROWS * max(1, head.classes))))


def score_blocks(
    logits: Callable[[npt.NDArray[np.float32]], Floats],
    blocks: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]],
    classes: int,
    *,
    together: int = BLOCK_ROWS,
) -> Scores:
    """Score a function from embeddings to logits on rows that come in blocks.

    Args:
        logits: (rows, dim) float32 -> (rows, classes).
        blocks: x (any number, dim) and the labels y (any number,).
        classes: how many there are.
        together: rows that `logits` is given at a time, at most; a multiple of BLOCK_ROWS, each of which is scored in a
            thread of its own. More than one block is for a function whose numbers do not depend on it.

    Returns:
        The scores over all blocks, as of `score_split`; nan where no block has a row.

    Raises:
        ValueError: a label is no index into the classes.
    """
    confusion = np.zeros((classes, classes), dtype=np.int64)
    loss, rows = 0.0, 0
    for x, labels in blocks:
        rows += len(labels)
        for first in range(0, len(labels), together):
            y = labels[first : first + together]
            z = logits(x[first : first + together])
            parts = [
                (z[start : start + BLOCK_ROWS], y[start : start + BLOCK_ROWS]) for start in range(0, len(y), BLOCK_ROWS)
            ]
            for hits, losses in run_in_threads(lambda part: _score_block(*part, classes), parts):
                confusion += hits
                for part in losses:  # in the order of the rows: the same sum by any number of threads
                    loss += part
    return Scores(accuracy(confusion), macro_recall(confusion), loss / rows if rows else math.nan)


def _score_block(z: Floats, y: npt.NDArray[np.int64], classes: int) -> tuple[npt.NDArray[np.int64], list[float]]:
    """Return a block's confusion matrix, and the summed cross-entropy of every LOSS_ROWS rows of it."""
    parts = (slice(first, first + LOSS_ROWS) for first in range(0, len(y), LOSS_ROWS))
    confusion = confusion_matrix(y, z.argmax(axis=1), classes)  # which refuses labels that are no classes
    return confusion, [_summed_cross_entropy(z[part].astype(np.float64), y[part]) for part in parts]


def _summed_cross_entropy(z: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> float:
    """Return the summed cross-entropy, log sum exp z - z_y, of logits (rows, classes), which are overwritten."""
    with np.errstate(over="ignore", invalid="ignore"):  # nan and inf stay what they are
        z -= z.max(axis=1, keepdims=True)
        of_truth = z[np.arange(len(y)), y]
        np.exp(z, out=z)
        return float(np.log(z.sum(axis=1, keepdims=True)).sum() - of_truth.sum())
