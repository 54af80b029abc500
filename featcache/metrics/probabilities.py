"""From logits to probabilities."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Real = TypeVar("Real", bound=np.floating)


def softmax(logits: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Return exp(z) / sum exp(z) of each row, (rows, classes) in the precision of the logits.

    Nothing overflows: a row's largest logit is subtracted first. A row that holds nan or inf, as a head that diverged
    gives, becomes nan.

    Args:
        logits: (rows, classes) z, in nats, float32 or float64.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        shares: npt.NDArray[Real] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares
