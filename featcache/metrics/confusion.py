"""From a confusion matrix to everything that is said about a classifier. NumPy only.

A confusion matrix is (classes, classes) int64; rows are the truth, columns the prediction.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


def confusion_matrix(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int) -> Counts:
    """Return how often each class was predicted for each, (classes, classes) int64.

    Args:
        truth: (rows,) integers, an index into the classes each.
        predicted: (rows,) the same of the predictions.
        classes: how many there are.

    Raises:
        ValueError: the two differ in length, or an index lies outside the classes.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has shape {truth.shape}, predicted has shape {predicted.shape}")
    for indices in (truth, predicted):
        if len(indices) and not 0 <= indices.min() <= indices.max() < classes:
            raise ValueError(f"an index lies outside 0 … {classes - 1}")
    pairs = truth.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def per_class_recall(confusion: Counts) -> Shares:
    """Return the recall of each class, (classes,) float64; nan where a class never occurs.

    TP / (TP + FN): the diagonal over the row sums.

    Args:
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
    """
    return ratio(confusion.diagonal(), confusion.sum(axis=1))


def per_class_precision(confusion: Counts) -> Shares:
    """Return the precision of each class, (classes,) float64; nan where a class is never predicted.

    TP / (TP + FP): the diagonal over the column sums.

    Args:
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
    """
    return ratio(confusion.diagonal(), confusion.sum(axis=0))


def per_class_f1(confusion: Counts) -> Shares:
    """Return the F1 of each class, 2 TP / (2 TP + FP + FN), (classes,) float64.

    It is nan where a class neither occurs nor is predicted.

    Args:
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
    """
    return ratio(2 * confusion.diagonal(), confusion.sum(axis=0) + confusion.sum(axis=1))


def accuracy(confusion: Counts) -> float:
    """Return the share of rows on the diagonal, in 0 … 1; nan without rows.

    Args:
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
    """
    return float(ratio(np.trace(confusion), confusion.sum()))


def macro_recall(confusion: Counts) -> float:
    """Return the mean of recall over the classes that have support, in 0 … 1; nan where none has.

    This is scikit-learn's `balanced_accuracy_score`. Its `recall_score(average="macro")` differs: there a
    class that never occurs but was predicted counts as 0.

    Args:
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
    """
    recall = per_class_recall(confusion)
    seen = recall[~np.isnan(recall)]
    return float(seen.mean()) if len(seen) else float("nan")


@dataclass(frozen=True, slots=True)
class Confusion:
    """One off-diagonal cell: `count` rows of class `truth` were taken for class `predicted`."""

    truth: int
    predicted: int
    count: int
    share: float  # of the rows of `truth`


def largest_confusions(confusion: Counts, limit: int = 5) -> list[Confusion]:
    """Return the off-diagonal cells with most rows, largest first; ties in reading order, empty cells left out.

    Args:
        confusion: (classes, classes) counts, rows the truth, columns the prediction.
        limit: how many cells at most.
    """
    off = confusion.copy()
    np.fill_diagonal(off, 0)
    support = confusion.sum(axis=1)
    cells = np.argsort(-off, axis=None, kind="stable")[:limit]
    largest = [(int(cell // len(off)), int(cell % len(off))) for cell in cells]
    return [
        Confusion(truth, predicted, int(off[truth, predicted]), float(off[truth, predicted] / support[truth]))
        for truth, predicted in largest
        if off[truth, predicted]
    ]


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Shares:
    """Return part / whole, float64; nan where `whole` is 0.

    Args:
        part: counts or sums, of any shape.
        whole: what they are a share of, of the same shape.
    """
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    shares: Shares = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return shares
