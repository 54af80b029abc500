"""Calibration in words: the expected calibration error, and what the temperature makes of it."""

import math
from collections.abc import Iterator

from featcache.evaluation import Evaluation
from featcache.metrics import Calibration, RiskCoverage
from featcache.report.render_intervals import interval_text
from featcache.text import counted, percent


def calibration_sentences(evaluation: Evaluation) -> Iterator[str]:
    """Yield how far confidence lies from the truth, and how the temperature changed that; nothing without rows.

    Args:
        evaluation: of a head that gives probabilities, else nothing is yielded.
    """
    if evaluation.calibration is None or not evaluation.rows:
        return
    yield f"expected calibration error {_error_text(evaluation.calibration)}"
    if evaluation.temperature is not None:
        yield temperature_sentence(evaluation)
    if evaluation.risk is not None:
        yield risk_sentence(evaluation.risk)


def risk_sentence(risk: RiskCoverage) -> str:
    """Return how many predictions are wrong among the surest half, and among all.

    Args:
        risk: the curve, of at least one row.
    """
    half, every = (percent(risk.risk_at(coverage)) for coverage in (0.5, 1))
    return f"of the surest half of the predictions {half} are wrong, of all {every}"


def temperature_sentence(evaluation: Evaluation) -> str:
    """Return which temperature was fitted on val, and the error without it.

    Args:
        evaluation: of a head that has been held against val.
    """
    effect = evaluation.temperature
    if effect is None:
        return ""
    fitted = effect.fitted
    if fitted.value is None and math.isfinite(fitted.loss):
        return f"no temperature: with all {counted(fitted.rows, 'image')} of val predicted right, no number is best"
    if fitted.value is None:
        return "no temperature: the true class of an image of val has a probability of 0"
    rows = f"{'these' if evaluation.split == 'val' else 'the'} {counted(fitted.rows, 'image')} of val"
    return f"with temperature {fitted.value:.3g}, fitted on {rows}; without it {_error_text(effect.before)}"


def _error_text(calibration: Calibration) -> str:
    """Return an expected calibration error with its interval: "3.1 % (1.9 to 4.4)"."""
    return f"{percent(calibration.ece)} ({interval_text(calibration.ece, calibration.ece_interval)})"
