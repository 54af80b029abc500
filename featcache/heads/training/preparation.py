"""The loops of a training on a CPU, compiled or loaded before there is anything to train."""

from collections.abc import Callable

import numpy as np

from featcache.heads import HeadConfig
from featcache.heads.training.numba_stack import NumbaStack
from featcache.heads.training.stack import TrainingPlan
from featcache.heads.training.standardization import FeatureStatistics


def compile_loops(on_compile: Callable[[], None] = lambda: None) -> None:
    """Compile what every training on a CPU runs, whatever its rows and heads are; load it where that was done before.

    Args:
        on_compile: Called where loops have to be compiled.
    """
    statistics = FeatureStatistics(np.ones(2, np.int64), np.zeros(1), np.ones(1))
    NumbaStack(
        TrainingPlan(configs=[HeadConfig(epochs=1)], statistics=statistics, rows=2, device="cpu", on_compile=on_compile)
    )
