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


TRAIN = clusters()


BASE = HeadConfig(epochs=20, batch_size=256)
