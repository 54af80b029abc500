"""How well several labels a row are predicted: average precision, F1, and the threshold of each label.

N rows, L labels; truth is 1 where a row has a label, else 0. Definitions are scikit-learn's
(`average_precision_score`, `f1_score`), but for a label that no row has: its average precision is undefined, nan here,
and no part of the mean; where scikit-learn warns and says 0, that would be a figure about nothing.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from featcache.metrics.ordering import Doubles, Ordering, order_rows

HALF = 0.5  # the threshold of a label that nothing chose one for
MEAN_AVERAGE_PRECISION, MACRO_F1, MICRO_F1 = "mean_average_precision", "macro_f1", "micro_f1"
LABEL_METRICS = (MEAN_AVERAGE_PRECISION, MACRO_F1, MICRO_F1)


def average_precision(truth: Doubles, scores: Doubles) -> Doubles:
    """Return the average precision of each label, (labels,); nan where no row has it.

    The sum over the different scores, highest first, of precision times the recall that is gained there.

    Args:
        truth: (rows, labels), 0 or 1.
        scores: (rows, labels), higher for rows that have the label more surely.
    """
    weights = np.ones((1, len(truth)))
    orders = [order_rows(column, descending=True) for column in scores.T]
    columns = [weighted_precision(weights, of_label, order) for of_label, order in zip(truth.T, orders, strict=True)]
    return np.array([column[0] for column in columns])


def weighted_precision(weights: Doubles, truth: Doubles, order: Ordering) -> Doubles:
    """Return the average precision of one label where row i stands `weights` times, (n,); nan where no row has it.

    Args:
        weights: (n, rows).
        truth: (rows,), 0 or 1.
        order: of the rows, by their scores, highest first.
    """
    hits, rows = order.cumulate(weights * truth), order.cumulate(weights)
    gained = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(rows > 0, hits / rows, 0)
        result: Doubles = (precision * gained).sum(axis=1) / gained.sum(axis=1)
    return result


def f1_scores(counts: Doubles) -> Doubles:
    """Return 2 tp / (2 tp + fp + fn), 0 where a label neither occurs nor is predicted.

    Args:
        counts: (3, …): tp, fp and fn.
    """
    tp, fp, fn = counts
    total = 2 * tp + fp + fn
    scores: Doubles = np.divide(2 * tp, total, out=np.zeros_like(total), where=total > 0)
    return scores


def label_outcomes(truth: Doubles, predicted: npt.NDArray[np.bool_]) -> Doubles:
    """Return where predictions (rows, labels) are right and wrong: tp, fp and fn of each row, (3, rows, labels).

    Args:
        truth: (rows, labels), 0 or 1.
        predicted: (rows, labels) whether each label is predicted.
    """
    has = truth > 0
    return np.stack([has & predicted, ~has & predicted, has & ~predicted]).astype(np.float64)


def choose_thresholds(truth: Doubles, probabilities: Doubles) -> Doubles:
    """Return the threshold of each label with the highest F1 on these rows, (labels,); half where no row has it.

    A label is predicted where its probability is at least the threshold. Between two different probabilities any
    number would do the same on these rows; the middle is taken.

    Args:
        truth: (rows, labels), 0 or 1.
        probabilities: (rows, labels).
    """
    return np.array([_choose_threshold(*columns) for columns in zip(truth.T, probabilities.T, strict=True)])


def _choose_threshold(truth: Doubles, probabilities: Doubles) -> float:
    if not truth.any() or not np.isfinite(probabilities).all():
        return HALF
    order = order_rows(probabilities, descending=True)
    hits, rows = (order.cumulate(values[None])[0] for values in (truth, np.ones_like(truth)))
    f1 = 2 * hits / (rows + truth.sum())
    levels = probabilities[order.order][order.last]
    best = int(f1.argmax())
    below = levels[best + 1] if best + 1 < len(levels) else 0.0
    return float((levels[best] + below) / 2)


def label_metrics(truth: Doubles, probabilities: Doubles, thresholds: Doubles) -> Mapping[str, float]:
    """Return the mean average precision, the macro F1 and the micro F1 of probabilities (rows, labels).

    Macro F1 is the mean over the labels that occur or are predicted; micro F1 counts all labels together.

    Args:
        truth: (rows, labels), 0 or 1.
        probabilities: (rows, labels).
        thresholds: (labels,) from which probability on a label is predicted.
    """
    counts = label_outcomes(truth, probabilities >= thresholds).sum(axis=1)
    is_seen = counts.sum(axis=0) > 0
    precision = average_precision(truth, probabilities)
    return {
        MEAN_AVERAGE_PRECISION: mean_of_defined(precision),
        MACRO_F1: float(f1_scores(counts)[is_seen].mean()) if is_seen.any() else float("nan"),
        MICRO_F1: float(f1_scores(counts.sum(axis=1))) if is_seen.any() else float("nan"),
    }


def mean_of_defined(values: Doubles) -> float:
    """Return the mean of the values that are no nan; nan where all are."""
    is_defined = ~np.isnan(values)
    return float(values[is_defined].mean()) if is_defined.any() else float("nan")
