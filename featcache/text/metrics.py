"""How metrics are called, and how their values are written."""

import math
from collections.abc import Mapping

from featcache.text.figures import UNDEFINED, percent

METRIC_WORDS: Mapping[str, str] = {
    "mean_average_precision": "mean average precision", "average_precision": "average precision",
    "macro_f1": "macro F1", "micro_f1": "micro F1", "f1": "F1", "r2": "R2", "mae": "MAE", "rmse": "RMSE",
    "spearman": "Spearman's rho", "loss": "loss", "macro_recall": "macro recall", "accuracy": "accuracy",
}  # fmt: skip
_SHARES = ("mean_average_precision", "average_precision", "macro_f1", "micro_f1", "f1", "macro_recall", "accuracy")


def metric_text(name: str, value: float) -> str:
    """Return a metric as it is shown: shares in per cent, errors and correlations as numbers.

    Args:
        name: of the metric.
        value: nan where it is undefined.
    """
    if math.isnan(value):
        return UNDEFINED
    return percent(value) if name in _SHARES else f"{value:.4g}"
