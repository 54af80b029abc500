"""How metrics are called, and how their values are written."""

import math
from collections.abc import Mapping

from featcache.text.figures import UNDEFINED, percent

METRIC_WORDS: Mapping[str, str] = {
    "mean_average_precision": "mean average precision", "average_precision": "average precision",
    "macro_f1": "macro F1", "micro_f1": "micro F1", "f1": "F1", "r2": "R2", "mae": "MAE", "rmse": "RMSE",
    "spearman": "Spearman's rho", "loss": "loss", "macro_recall": "macro recall", "accuracy": "accuracy",
}  # fmt: skip
METRIC_MEANINGS: Mapping[str, str] = {  # of those whose name does not say what is good
    "mean_average_precision": "100 %: every image with a label comes before all that lack it",
    "r2": "1 is exact, 0 no better than always answering the mean",
    "mae": "the mean absolute error, in the numbers' unit; the lowest is best",
    "rmse": "the root of the mean squared error, in the numbers' unit; the lowest is best",
    "spearman": "1: the images are in the right order",
}
_SHARES = ("mean_average_precision", "average_precision", "macro_f1", "micro_f1", "f1", "macro_recall", "accuracy")


def metric_in_words(name: str) -> str:
    """Return how a metric is called in a sentence.

    Args:
        name: as a recipe and `--select` have it.
    """
    return METRIC_WORDS.get(name, name.replace("_", " "))


def metric_of_words(words: str) -> str:
    """Return the name of a metric from what `metric_in_words`, or an earlier version, made of it.

    Args:
        words: as they stand in a record of a run.
    """
    return next((name for name, known in METRIC_WORDS.items() if known == words), words.replace(" ", "_"))


def metric_text(name: str, value: float) -> str:
    """Return a metric as it is shown: shares in per cent, errors and correlations as numbers.

    Args:
        name: of the metric.
        value: nan where it is undefined.
    """
    if math.isnan(value):
        return UNDEFINED
    return percent(value) if name in _SHARES else f"{value:.4g}"
