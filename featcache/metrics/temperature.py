"""Temperature scaling: one number that makes probabilities say how often they are right; no prediction changes.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (ICML 2017), section 4.2: with logits z,
q = softmax(z / T), and T minimises the mean negative log-likelihood of held-out rows. Since softmax(z / T) depends on z
only up to a constant in each row, z may be the logarithm of any model's probabilities: q is p^(1 / T), normalised.

With b = 1 / T the likelihood's logarithm is concave in b. Its derivative, the mean over the rows of z_y - E_q[z], falls
in b, so its one root is found by bisection with interpolation (Brent).
"""

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from featcache.machine import run_in_threads
from featcache.metrics.probabilities import softmax

Probabilities = npt.NDArray[np.floating]
Real = TypeVar("Real", bound=np.floating)

LOWEST, HIGHEST = 0.01, 100.0  # temperatures
_LEAST_LOG = -1e6  # of a probability of 0, which stays one
_BLOCK = 2**16  # probabilities that are worked on at a time: they stay in a near cache


def fit_temperature(probabilities: Probabilities, truth: npt.NDArray[np.int64]) -> float | None:
    """Return the temperature under which rows are most likely; never one under which they are less likely than under 1.

    Args:
        probabilities: (rows, classes) of a model, on rows that it was not trained on.
        truth: (rows,) the true class of each.

    Returns:
        A number from `LOWEST` to `HIGHEST`. None where no number is the best one: there are no rows, the likelihood
        rises without end as T falls (every row's true class is the most probable one), or it is 0 or undefined
        whatever T is (a true class has a probability of 0, or the model diverged).
    """
    if not math.isfinite(mean_loss(probabilities, truth)):
        return None

    def slope(log_b: float) -> float:
        return _slope(probabilities, truth, math.exp(log_b))

    from scipy.optimize import brentq  # takes 0.1 s, and is needed where a head is fitted alone

    ends = -math.log(HIGHEST), -math.log(LOWEST)
    if slope(ends[1]) >= 0:
        return None
    temperature = HIGHEST if slope(ends[0]) <= 0 else math.exp(-brentq(slope, *ends, xtol=1e-9))
    before, after = (mean_loss(apply_temperature(probabilities, t), truth) for t in (1.0, temperature))
    return temperature if after <= before else 1.0


def apply_temperature(probabilities: npt.NDArray[Real], temperature: float) -> npt.NDArray[Real]:
    """Return p^(1 / T), normalised, (rows, classes) in the precision given: the softmax of the logits over T.

    The most probable class of each row stays the most probable one; a probability of 0 stays 0, nan stays nan.

    Args:
        probabilities: (rows, classes).
        temperature: T, above 0; with 1 the probabilities come back as they are.
    """
    if temperature == 1:
        return probabilities
    scaled = np.empty_like(probabilities)

    def scale(part: slice) -> None:
        block = probabilities[part]
        shares = softmax(_logarithms(block) / temperature)
        best = block.argmax(axis=1)
        moved = np.flatnonzero(shares.argmax(axis=1) != best)  # two so close that they are rounded to the same
        shares[moved, best[moved]] = np.nextafter(shares[moved].max(axis=1), 1)
        scaled[part] = shares

    run_in_threads(scale, list(_blocks(probabilities)))
    return scaled


def mean_loss(probabilities: Probabilities, truth: npt.NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of rows in nats; nan without rows, inf where a true class has 0.

    Args:
        probabilities: (rows, classes).
        truth: (rows,) the true class of each.
    """
    if not len(truth):
        return math.nan
    with np.errstate(divide="ignore"):
        return float(-np.log(probabilities[np.arange(len(truth)), truth].astype(np.float64)).mean())


def _slope(probabilities: Probabilities, truth: npt.NDArray[np.int64], b: float) -> float:
    """Return the derivative of the log-likelihood in b, divided by the rows: the mean of z_y - E_q[z]."""
    total = 0.0
    for part in _blocks(probabilities):
        z = _logarithms(probabilities[part])
        of_truth = z[np.arange(len(z)), truth[part]]
        total += float((of_truth - np.einsum("rc,rc->r", softmax(z * b), z)).sum())
    return total / len(truth)


def _logarithms(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(np.log(probabilities.astype(np.float64)), _LEAST_LOG)


def _blocks(probabilities: Probabilities) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(probabilities.shape[1], 1))
    for start in range(0, len(probabilities), rows):
        yield slice(start, start + rows)
