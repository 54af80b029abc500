"""A name in the log of runs may be a linear head or another classifier: one way to read either, and to ask it."""

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np

from featcache.features import Features
from featcache.heads import BLOCK_ROWS
from featcache.heads.classifiers import Answers
from featcache.heads.saved import classifier, linear
from featcache.heads.saved.classifier import SavedClassifier, refuse_foreign_trunk
from featcache.heads.saved.linear import SavedHead
from featcache.store import FeatureStore

Opened: TypeAlias = SavedHead | SavedClassifier

MODEL_DOCUMENTS = (linear.DOCUMENT, classifier.DOCUMENT)  # published last: a folder with neither is nothing


def load_model(folder: Path, store: FeatureStore, *, device: str = "cpu") -> Opened:
    """Read a head's or a classifier's folder. Nothing in it is executed.

    Raises:
        CacheError: neither, a damaged one, or one of a newer format.
    """
    return (
        classifier.load_classifier(folder, store, device=device) if is_classifier(folder) else linear.load_head(folder)
    )


def describe(folder: Path) -> Opened:
    """The same, without a classifier's model."""
    return classifier.describe(folder) if is_classifier(folder) else linear.load_head(folder)


def is_classifier(folder: Path) -> bool:
    """Whether a folder holds a classifier; else it is a linear head, or nothing."""
    return os.path.lexists(folder / classifier.DOCUMENT)


def predict_rows(chosen: Opened, features: Features) -> Answers:
    """What it says of a split.

    Raises:
        CacheError: features of another trunk; or a classifier that was kept without its model.
    """
    if isinstance(chosen, SavedClassifier):
        return chosen.answer(features)
    refuse_foreign_trunk(chosen.name, chosen.sources, features)
    probabilities = np.empty((len(features.y), len(chosen.classes)), dtype=np.float32)
    predicted = np.empty(len(features.y), dtype=np.int64)
    for start in range(0, len(features.y), BLOCK_ROWS):
        z = chosen.head.logits(features.x[start : start + BLOCK_ROWS])
        predicted[start : start + BLOCK_ROWS] = z.argmax(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged head answers nan
            z = np.exp(z - z.max(axis=1, keepdims=True))
            probabilities[start : start + BLOCK_ROWS] = z / z.sum(axis=1, keepdims=True)
    return Answers(predicted, probabilities)


def has_diverged(chosen: Opened) -> bool:
    """Whether its weights are not finite; only a linear head's can be."""
    return isinstance(chosen, SavedHead) and chosen.head.diverged
