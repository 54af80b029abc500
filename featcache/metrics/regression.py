"""How well numbers are predicted: R2, the mean absolute error, its quadratic sibling, and Spearman's correlation.

Definitions are scikit-learn's and SciPy's; of several numbers a row, each figure is the mean of those of the columns.
Where the truth is the same in every row, R2 and the correlation are undefined: nan.
"""

from collections.abc import Mapping

import numpy as np

from featcache.metrics.multilabel import mean_of_defined
from featcache.metrics.ordering import Doubles, Ordering, order_rows

R2, MAE, RMSE, SPEARMAN = "r2", "mae", "rmse", "spearman"
VALUE_FIGURES = (R2, MAE, RMSE, SPEARMAN)
LOWER_IS_BETTER = (MAE, RMSE)


def value_figures(truth: Doubles, predicted: Doubles) -> Doubles:
    """Return R2, MAE, RMSE and Spearman's correlation of each column, (4, columns).

    Args:
        truth: (rows, columns).
        predicted: (rows, columns).
    """
    weights = np.ones((1, len(truth)))
    columns = [
        weighted_figures(weights, *column, *map(order_rows, column))
        for column in zip(truth.T, predicted.T, strict=True)
    ]
    return np.stack([column[:, 0] for column in columns], axis=1)


def weighted_figures(
    weights: Doubles, truth: Doubles, predicted: Doubles, truth_order: Ordering, predicted_order: Ordering
) -> Doubles:
    """Return the figures of one column where row i stands `weights` times, (4, n).

    Args:
        weights: (n, rows).
        truth: (rows,).
        predicted: (rows,).
        truth_order: the rows by `truth`.
        predicted_order: the rows by `predicted`.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        total = weights.sum(axis=1)
        mean = weights @ truth / total
        error = predicted - truth
        residual = weights @ error**2
        spread = (weights * (truth - mean[:, None]) ** 2).sum(axis=1)
        is_constant = spread <= 1e-12 * np.maximum(total * mean**2, np.finfo(float).tiny)
        ranks = truth_order.ranks(weights), predicted_order.ranks(weights)
        return np.stack(
            [
                np.where(is_constant, np.nan, 1 - residual / spread),
                weights @ np.abs(error) / total,
                np.sqrt(residual / total),
                np.where(is_constant, np.nan, _correlation(weights, *ranks)),
            ]
        )


def value_metrics(truth: Doubles, predicted: Doubles) -> Mapping[str, float]:
    """Return the figures by name, each the mean over the columns in which it is defined.

    Args:
        truth: (rows, columns).
        predicted: (rows, columns).
    """
    figures = value_figures(truth, predicted)
    return {name: mean_of_defined(of_columns) for name, of_columns in zip(VALUE_FIGURES, figures, strict=True)}


def _correlation(weights: Doubles, first: Doubles, second: Doubles) -> Doubles:
    """Return Pearson's correlation of columns (n, rows) under weights (n, rows), (n,); nan where one is constant."""
    total = weights.sum(axis=1, keepdims=True)
    first = first - (weights * first).sum(axis=1, keepdims=True) / total
    second = second - (weights * second).sum(axis=1, keepdims=True) / total
    squares = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
    result: Doubles = (weights * first * second).sum(axis=1) / np.sqrt(squares)
    return result
