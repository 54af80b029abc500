"""Temperature scaling of several labels a row: one number for all of them; what is predicted does not change.

With z the output of a label, q = s(z / T), s(z) = 1 / (1 + e^-z), and T minimises the mean binary cross-entropy over
the rows and labels of held-out rows (Guo et al. 2017, with the sigmoid for the softmax). With b = 1 / T the logarithm
of the likelihood is concave in b; its derivative, the mean of z (t - s(b z)), has at most one root.
"""

import math

import numpy as np
import numpy.typing as npt

from featcache.metrics.temperature import HIGHEST, LOWEST

Doubles = npt.NDArray[np.float64]
_TINY = 1e-300  # a threshold above 0, below which a probability can lie


def fit_label_temperature(outputs: Doubles, truth: Doubles) -> float | None:
    """Return the temperature under which labels are most likely; never one under which they are less likely than at 1.

    Args:
        outputs: (rows, labels) of a head, on rows that it was not trained on.
        truth: (rows, labels), 1 where a row has a label, else 0.

    Returns:
        A number from `LOWEST` to `HIGHEST`. None where no number is the best one: there are no rows, every label is on
        the right side of 0 (the likelihood rises without end as T falls), or an output is no finite number.
    """
    if not outputs.size or not np.isfinite(outputs).all():
        return None

    def slope(log_b: float) -> float:
        return float((outputs * (truth - _sigmoid(math.exp(log_b) * outputs))).mean())

    from scipy.optimize import brentq  # takes 0.1 s, and is needed where a head is fitted alone

    ends = -math.log(HIGHEST), -math.log(LOWEST)
    if slope(ends[1]) >= 0:
        return None
    temperature = HIGHEST if slope(ends[0]) <= 0 else math.exp(-brentq(slope, *ends, xtol=1e-9))
    return temperature if label_loss(outputs / temperature, truth) <= label_loss(outputs, truth) else 1.0


def label_loss(outputs: Doubles, truth: Doubles) -> float:
    """Return the mean binary cross-entropy of a label of a row in nats; nan without rows.

    Args:
        outputs: (rows, labels), divided by a temperature or not.
        truth: (rows, labels), 1 where a row has a label, else 0.
    """
    return float((np.logaddexp(0, outputs) - truth * outputs).mean()) if outputs.size else math.nan


def calibrate_labels(outputs: Doubles, thresholds: Doubles, temperature: float) -> tuple[Doubles, Doubles]:
    """Return the probabilities s(z / T), (rows, labels), and thresholds (labels,) that predict what s(z) predicts.

    What lies at its threshold or above it still does, whatever is rounded; nan stays nan.

    Args:
        outputs: (rows, labels) z.
        thresholds: (labels,) from which s(z) on a label is predicted.
        temperature: T, above 0.
    """
    at = calibrate_thresholds(thresholds, temperature)
    is_predicted, scaled = _sigmoid(outputs) >= thresholds, _sigmoid(outputs / temperature)
    has_moved = ~np.isnan(scaled) & (is_predicted != (scaled >= at))
    return np.where(has_moved, np.where(is_predicted, at, np.nextafter(at, 0)), scaled), at


def calibrate_thresholds(thresholds: Doubles, temperature: float) -> Doubles:
    """Return the thresholds (labels,) of probabilities s(z / T) that were chosen for s(z).

    Args:
        thresholds: (labels,).
        temperature: T, above 0; with 1 they come back as they are.
    """
    if temperature == 1:
        return thresholds
    with np.errstate(divide="ignore"):
        odds = np.log(thresholds) - np.log1p(-thresholds)
    return np.maximum(_sigmoid(odds / temperature), _TINY)


def _sigmoid(z: Doubles) -> Doubles:
    shares: Doubles = np.exp(-np.logaddexp(0, -z))
    return shares
