"""Scores of heads on several labels a row, or on numbers: from outputs to probabilities, and to what they are worth."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from featcache.features import Features
from featcache.heads.config import HeadConfig
from featcache.heads.kept_targets import KeptTargets
from featcache.heads.linear import BLOCK_ROWS, TargetScores
from featcache.heads.target_settings import loss_of
from featcache.metrics import HALF, choose_thresholds, label_metrics, value_metrics
from featcache.recipe import LABELS

Doubles = npt.NDArray[np.float64]


def compute_outputs(
    logits: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], x: npt.NDArray[np.float32], outputs: int
) -> Doubles:
    """Return the outputs of rows, (rows, outputs) float64, computed some rows at a time.

    Args:
        logits: (rows, dim) float32 -> (rows, outputs).
        x: (rows, dim).
        outputs: how many there are.
    """
    z = np.empty((len(x), outputs))
    for start in range(0, len(x), BLOCK_ROWS):
        z[start : start + BLOCK_ROWS] = logits(x[start : start + BLOCK_ROWS])
    return z


def answers_of(kind: str, outputs: Doubles) -> Doubles:
    """Return what a head answers: the probabilities of labels, 1 / (1 + e^-z), or the numbers as they are.

    Args:
        kind: LABELS or VALUE.
        outputs: (rows, outputs) of the head.
    """
    return np.exp(-np.logaddexp(0, -outputs)) if kind == LABELS else outputs


def choose_kept(config: HeadConfig, kept: KeptTargets, outputs: Doubles, truth: Doubles) -> KeptTargets:
    """Return what a head keeps of its targets, with the thresholds of its labels chosen on these rows.

    Args:
        config: the head's settings.
        kept: what it keeps so far.
        outputs: (rows, outputs) of the head on val.
        truth: the same of the targets.
    """
    if config.targets != LABELS:
        return kept
    return replace(kept, thresholds=tuple(choose_thresholds(truth, answers_of(config.targets, outputs)).tolist()))


def score_outputs(config: HeadConfig, kept: KeptTargets, outputs: Doubles, truth: Doubles) -> TargetScores:
    """Return the scores of outputs; accuracy and macro recall, which are of classes, are nan.

    Args:
        config: the head's settings.
        kept: what it keeps of its targets.
        outputs: (rows, outputs) of the head.
        truth: the same of the targets.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        loss = mean_loss_of(config, kept, outputs, truth)
        is_sound = bool(np.isfinite(outputs).all())
        answers = answers_of(config.targets, outputs) if is_sound else np.zeros_like(outputs)
        if config.targets == LABELS:
            metrics = label_metrics(truth, answers, thresholds_of(kept, truth.shape[1]))
        else:
            metrics = value_metrics(truth, answers)
    return TargetScores(math.nan, math.nan, loss if is_sound else math.nan,
                  metrics if is_sound else dict.fromkeys(metrics, math.nan))  # fmt: skip


def score_answers(kind: str, kept: KeptTargets, outputs: Doubles, truth: Doubles) -> TargetScores:
    """Return the scores of a model that is no head of fit-head, with the loss that such targets have.

    Args:
        kind: LABELS or VALUE.
        kept: what it keeps of its targets.
        outputs: (rows, outputs) of the model.
        truth: the same of the targets.
    """
    config = HeadConfig(lr=1.0, loss=loss_of(kind))  # type: ignore[arg-type]
    return score_outputs(config, kept, outputs, truth)


def thresholds_of(kept: KeptTargets, labels: int) -> Doubles:
    """Return the threshold of each label, (labels,); half where none was chosen.

    Args:
        kept: what a head keeps of its targets.
        labels: how many there are.
    """
    return np.array(kept.thresholds or (HALF,) * labels)


def mean_loss_of(config: HeadConfig, kept: KeptTargets, outputs: Doubles, truth: Doubles) -> float:
    """Return the mean loss of a label or a number of a row, without weights; nan without rows.

    Of labels it is the binary cross-entropy in nats, log(1 + e^z) - t z. Of numbers, with e the error in deviations of
    the number, it is e^2, or torch's huber_loss: e^2 / 2 up to delta, delta (|e| - delta / 2) beyond.

    Args:
        config: the head's settings.
        kept: what it keeps of its targets.
        outputs: (rows, outputs) of the head.
        truth: the same of the targets.
    """
    if not truth.size:
        return math.nan
    if config.targets == LABELS:
        return float((np.logaddexp(0, outputs) - truth * outputs).mean())
    error = np.abs((outputs - truth) / np.array(kept.deviation or (1.0,)))
    if config.loss == "squared_error":
        return float((error**2).mean())
    delta = config.huber_delta
    return float(np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean())


def score_targets(
    config: HeadConfig, kept: KeptTargets, logits: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    features: Features,
) -> TargetScores:  # fmt: skip
    """Return the scores of a head on a split with several labels or numbers a row.

    Args:
        config: the head's settings.
        kept: what it keeps of its targets.
        logits: the head, (rows, dim) float32 -> (rows, outputs).
        features: the split.
    """
    truth = truth_of(features)
    return score_outputs(config, kept, compute_outputs(logits, features.x, truth.shape[1]), truth)


def truth_of(features: Features) -> Doubles:
    """Return the targets of a split, (rows, outputs).

    Args:
        features: the split.

    Raises:
        ValueError: its rows have one class each.
    """
    if features.targets is None:
        raise ValueError(f"split {features.split!r} has one class a row, and no several labels or numbers")
    return features.targets.values
