"""Rows that are standardized to mean 0 and deviation 1, and heads that learnt from such rows made fit for any rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.features import Features, Streamed
from featcache.heads import HeadConfig
from featcache.recipe import VALUE

Doubles = npt.NDArray[np.float64]

FLOAT64_EPS = float(np.finfo(np.float64).eps)
MIN_STD = 1e-35  # of a dimension that is divided by it: the weights on rows as they are must be float32s
BLOCK_ROWS = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class FeatureStatistics:
    """What is known of the training rows before the first step."""

    class_counts: npt.NDArray[np.int64]  # (classes,) rows
    mean: Doubles  # (dim,)
    std: Doubles  # (dim,), 1 where a dimension is constant
    target_mean: Doubles | None = None  # (outputs,) of numbers that are predicted; None where there are none
    target_std: Doubles | None = None  # (outputs,), 1 where a number is constant


def compute_statistics(train: Features | Streamed, configs: Sequence[HeadConfig]) -> FeatureStatistics:
    """Return the rows of each class, and mean and deviation of each dimension, 0 and 1 where no head standardizes.

    In float64, in two passes, the second of which corrects the first (Chan, Golub & LeVeque 1983, eq. 1.7). What counts
    as constant is scikit-learn's StandardScaler's: a variance that is within the rounding of such sums.

    Args:
        train: the training rows; of rows with views, mean and deviation are those of all views.
        configs: the heads that are trained on them.
    """
    counts, rows = _count_rows(train), len(train.y)
    of_targets = _target_statistics(train)
    if not isinstance(train, Streamed) and train.views is not None:
        rows *= len(train.views)
    mean, residual, square = (np.zeros(embedding_dim(train)) for _ in range(3))
    if not any(config.standardize for config in configs):
        return FeatureStatistics(counts, mean, np.ones_like(mean), *of_targets)
    with np.errstate(over="ignore", invalid="ignore"):  # of rows that are not finite: the head diverges
        for x in _blocks(train):
            mean += x.sum(axis=0, dtype=np.float64)
        mean /= rows
        for x in _blocks(train):
            centred = x - mean
            residual += centred.sum(axis=0)
            square += np.square(centred).sum(axis=0)
        mean += residual / rows
        variance = np.maximum(square - residual**2 / rows, 0) / rows
        std = np.sqrt(variance)
        constant = variance <= rows * FLOAT64_EPS * variance + (rows * mean * FLOAT64_EPS) ** 2
        std[constant | (std < MIN_STD)] = 1
    return FeatureStatistics(counts, mean, std, *of_targets)


def _count_rows(train: Features | Streamed) -> npt.NDArray[np.int64]:
    """Return how many training rows each class, or label, has, (classes,)."""
    if isinstance(train, Features) and train.targets is not None:
        return train.targets.support()
    return np.bincount(train.y, minlength=len(train.classes))


def _target_statistics(train: Features | Streamed) -> tuple[Doubles | None, Doubles | None]:
    """Return the mean and the deviation of the numbers that are predicted; None where there are none."""
    if isinstance(train, Streamed) or train.targets is None or train.targets.kind != VALUE:
        return None, None
    std = train.targets.values.std(axis=0)
    std[~(std > MIN_STD)] = 1
    return train.targets.values.mean(axis=0), std


def embedding_dim(features: Features | Streamed) -> int:
    """Return the width of an embedding."""
    return features.dim if isinstance(features, Streamed) else features.x.shape[1]


def _blocks(train: Features | Streamed) -> Iterator[npt.NDArray[np.float32]]:
    """Yield all rows once, a bounded number at a time."""
    if isinstance(train, Streamed):
        windows: Iterator[npt.NDArray[np.float32]] = (x for x, _ in train.blocks())
    else:
        windows = iter([train.x] if train.views is None else train.views)
    for x in windows:
        for start in range(0, len(x), BLOCK_ROWS):
            yield x[start : start + BLOCK_ROWS]


class Standardizer:
    """What makes rows standardized, and heads that learnt from such rows fit for rows as they are.

    Attributes:
        mean_parts: (2, dim) float32, the mean rounded, and what the rounding left out.
        inverse_std: (dim,) float32.
    """

    def __init__(self, statistics: FeatureStatistics, device: str) -> None:
        high = statistics.mean.astype(np.float32)
        low = (statistics.mean - high).astype(np.float32)
        self.mean_parts, self.inverse_std = np.stack([high, low]), (1 / statistics.std).astype(np.float32)
        self._on_device = [torch.from_numpy(values).to(device) for values in (high, low, self.inverse_std)]

    def standardize_(self, rows: Tensor) -> None:
        """Turn rows (any number, dim) into (rows - mean) / deviation, in place.

        A float32 less one near it is exact, so what the mean's own rounding left out is still seen.
        """
        high, low, inverse_std = self._on_device
        rows.sub_(high).sub_(low).mul_(inverse_std)

    def unstandardize(self, w: Tensor) -> Tensor:
        """Return heads on standardized rows as heads on rows as they are, (heads, classes, width); rounded once."""
        dim = len(self.inverse_std)
        folded = w.cpu().numpy().astype(np.float64, order="C")
        with np.errstate(over="ignore", invalid="ignore"):  # of a diverged head
            folded[:, :, :dim] *= self.inverse_std
            folded[:, :, dim] -= (folded[:, :, :dim] * self.mean_parts.sum(axis=0, dtype=np.float64)).sum(axis=2)
            return torch.from_numpy(folded.astype(np.float32)).to(w.device)
