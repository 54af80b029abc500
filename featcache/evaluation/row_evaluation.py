"""From predictions to their evaluation, with intervals, calibration and risk."""

from dataclasses import replace
from typing import Any

from featcache.evaluation.evaluation import Evaluation, evaluate_predictions
from featcache.evaluation.predictions import SplitPredictions
from featcache.metrics import Calibration, bootstrap_intervals, calibration, risk_coverage


def evaluate_rows(
    predictions: SplitPredictions,
    *,
    head: str,
    data_set: str,
    split: str,
    failed: int = 0,
    selected_by: str = "",
    **fields: Any,
) -> Evaluation:
    """Return what follows from predictions.

    Args:
        predictions: by image or by clip.
        head: the head's name.
        data_set: the data set's name.
        split: the split's name.
        failed: rows that are left out because their image could not be embedded.
        selected_by: what chose the head among others; "" where nothing did.
        **fields: others of `Evaluation`.
    """
    right = predictions.right
    evaluation = evaluate_predictions(
        predictions.truth,
        predictions.predicted,
        predictions.classes,
        head=head,
        data_set=data_set,
        split=split,
        by=predictions.by,
        failed=failed,
        selected_by=selected_by,
    )
    return replace(
        evaluation,
        rule=predictions.rule,
        intervals=bootstrap_intervals(predictions.count_groups(right[:, None])) if len(right) else None,
        calibration=calibrate_predictions(predictions),
        risk=risk_coverage(predictions.confidence, right) if predictions.has_probabilities else None,
        **fields,
    )


def calibrate_predictions(predictions: SplitPredictions) -> Calibration | None:
    """Return how often predictions are right beside how sure they are; None without probabilities."""
    if not predictions.has_probabilities:
        return None
    unit, groups = predictions.groups
    return calibration(predictions.confidence, predictions.right, unit=unit, groups=groups)
