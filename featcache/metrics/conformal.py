"""Sets of classes that hold the true one as often as was asked for: split-conformal prediction.

Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005); with the score 1 - p_y: Sadinle, Lei and
Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 114 (2019). A class is in a row's set
where its probability is at least t, and t is the k-th largest probability of a true class on n calibration rows,
k = ceil((n + 1) level). On rows that are exchangeable with those, and without ties, the set holds the true class with a
probability from `level` to level + 1 / (n + 1), whatever the model is.
"""

import math

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.floating]


def conformal_threshold(probabilities: Probabilities, truth: npt.NDArray[np.int64], level: float) -> float:
    """Return t, the least probability that a class in a set has; 0, and every set holds all, where rows are too few.

    Args:
        probabilities: (rows, classes) on calibration rows, which the model was not trained on; nan counts as 0.
        truth: (rows,) the true class of each.
        level: the share of sets that are to hold the true class, above 0 and below 1.
    """
    of_truth = np.nan_to_num(probabilities[np.arange(len(truth)), truth].astype(np.float64))
    rank = rows_needed(len(truth), level)
    return float(np.sort(of_truth)[::-1][rank - 1]) if rank <= len(truth) else 0.0


def rows_needed(rows: int, level: float) -> int:
    """Return ceil((rows + 1) level), which exceeds `rows` where they are too few for the level.

    Args:
        rows: calibration rows.
        level: as of `conformal_threshold`.
    """
    return math.ceil(round((rows + 1) * level, 9))  # 10 * 0.9 is 9, not a little more


def conformal_sets(probabilities: Probabilities, threshold: float) -> npt.NDArray[np.bool_]:
    """Return which classes each row's set holds, (rows, classes); none may be in it, where no class is probable enough.

    Args:
        probabilities: (rows, classes); the set of a row of nan is empty.
        threshold: as `conformal_threshold` gives it.
    """
    members: npt.NDArray[np.bool_] = probabilities.astype(np.float64) >= threshold
    return members


def residual_limits(
    truth: npt.NDArray[np.float64], predicted: npt.NDArray[np.float64], level: float
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Return how far the intervals around predicted numbers reach to either side, (columns,).

    The k-th smallest absolute residual on the calibration rows (Lei et al., Distribution-Free Predictive Inference for
    Regression, JASA 113, 2018); infinite where rows are too few.

    Args:
        truth: (rows, columns) on calibration rows, which the model was not trained on.
        predicted: (rows, columns) on the same.
        level: as of `conformal_threshold`.
    """
    rank = rows_needed(len(truth), level)
    if rank > len(truth):
        return np.full(truth.shape[1], np.inf)
    limits: npt.NDArray[np.float64] = np.sort(np.abs(truth - predicted), axis=0)[rank - 1]
    return limits


def conformal_spread(rows: int, level: float) -> float:
    """Return the standard deviation of the coverage over calibrations on so many rows; nan where they are too few.

    Given the calibration rows, coverage is a draw of Beta(k, n + 1 - k): Vovk, Conditional Validity of Inductive
    Conformal Predictors, ACML (2012), Proposition 2a.

    Args:
        rows: n, the calibration rows.
        level: as of `conformal_threshold`.
    """
    rank = rows_needed(rows, level)
    if rank > rows:
        return math.nan
    return math.sqrt(rank * (rows + 1 - rank) / ((rows + 1) ** 2 * (rows + 2)))
