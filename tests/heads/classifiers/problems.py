"""Small problems that every classifier is tried on."""

import numpy as np

from featcache.features.in_memory import Features

DIM = 6
CLASSES = ("ant", "bee", "cat")
SOURCE = {"data_set": "toy", "variant": "all", "root": "/data/toy", "trunk": "ab", "listing": "cd", "weights": "w"}


def clusters(seed: int, rows: int = 60, *, classes: int = 3, absent: int | None = None, dim: int = DIM) -> Features:
    """Gaussian clusters around `classes` centres; class `absent` has no row."""
    rng = np.random.default_rng(seed)
    y = rng.choice([label for label in range(classes) if label != absent], rows)
    centres = 1.5 * np.random.default_rng(99).standard_normal((classes, dim))
    x = (centres[y] + rng.standard_normal((rows, dim)) + 3).astype(np.float32)
    names = tuple(f"class {label}" for label in range(classes))
    none = ("",) * rows
    return Features(x, y.astype(np.int64), names, none, none, none, "train", source=SOURCE)
