"""How many predictions are wrong where only the surest are made: risk against coverage.

El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 11 (2010); the area: Geifman, Uziel
and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers (ICLR 2019), section 3.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """The curve, from the surest predictions alone to all of them; a point wherever the confidence falls."""

    coverage: Doubles  # (points,) the share of the rows that are predicted
    risk: Doubles  # (points,) the share of those that are wrong
    confidence: Doubles  # (points,) the least that a row has which is predicted
    area: float  # the mean over the rows of the risk where they are the last that is predicted; nan without rows

    def risk_at(self, coverage: float) -> float:
        """Return the risk where at least this share of the rows is predicted; nan without rows.

        Args:
            coverage: above 0, at most 1.
        """
        if not len(self.risk):
            return float("nan")
        return float(self.risk[np.searchsorted(self.coverage, coverage - 1e-12)])


def risk_coverage(confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> RiskCoverage:
    """Return the curve of predictions; rows of one confidence are predicted together.

    Args:
        confidence: (rows,) the probability of the class that was predicted; rows of nan are left out.
        right: (rows,) whether that was the true class.
    """
    is_defined = ~np.isnan(confidence)
    sure, wrong = confidence[is_defined].astype(np.float64), ~right[is_defined]
    levels, level, count = np.unique(-sure, return_inverse=True, return_counts=True)  # the surest first
    rows = np.cumsum(count)
    risk = np.cumsum(np.bincount(level, wrong, minlength=len(levels))) / rows
    total = int(count.sum())
    area = float((risk * count).sum() / total) if total else float("nan")
    return RiskCoverage(rows / max(total, 1), risk, -levels, area)
