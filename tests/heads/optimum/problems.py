"""Rows and settings for the tests of the optimum."""

import numpy as np

from featcache.features.in_memory import Features
from featcache.heads.config import HeadConfig
from tests.builders import features


def clusters(rows=2_000, dim=16, classes=6, seed=0) -> Features:
    """Overlapping clusters whose dimensions differ in scale, as those of embeddings do."""
    rng = np.random.default_rng(seed)
    y = np.minimum(rng.geometric(0.4, rows) - 1, classes - 1)
    centres = np.random.default_rng(9).standard_normal((classes, dim))
    x = (0.7 * centres[y] + rng.standard_normal((rows, dim))) * np.linspace(1, 0.3, dim) + 0.5
    return features(x, y, "abcdef"[:classes])


def noisy(rows=120, dim=300, seed=0, share=0.4, classes=4) -> Features:
    """Clusters with more dimensions than rows, of which a share has a label by chance: what fits it is no good."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    centres = np.random.default_rng(9).standard_normal((classes, dim))
    x = 0.25 * centres[y] + rng.standard_normal((rows, dim))
    labels = np.where(rng.random(rows) < share, rng.integers(0, classes, rows), y)
    return features(x, labels, "abcdef"[:classes])


TRAIN = clusters()

NOISY, CLEAN_VAL = noisy(), noisy(rows=600, seed=1, share=0.0)


BASE = HeadConfig(epochs=20, batch_size=256)
