"""What the heads of a stack are asked to learn, where it is not the plain cross-entropy. One setting a head.

With p the softmax of a row's logits, w its class weights (balanced: rows / (classes x rows of the class)), e the label
smoothing and C classes, the gradient by the logits is that of torch's cross_entropy(weight=w, label_smoothing=e):

    G = ((1 - e) w_y (p - onehot(y)) + e / C (sum(w) p - w)) / mean of w_y over the batch

Logit adjustment (Menon et al. 2021, eq. 10) trains on z + tau log(share of the class in the training rows) and
answers with z alone: the minimiser is then the Bayes rule for macro recall, not for accuracy.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import HeadConfig

Doubles = npt.NDArray[np.float64]

LN_2, LOG2_E = math.log(2), 1 / float(np.log(2))  # nats of a bit, bits of a nat


def class_weights(config: HeadConfig, counts: npt.NDArray[np.int64]) -> Doubles:
    """Return each class's weight in the loss, (classes,) float64; balanced: scikit-learn's.

    Args:
        config: the head's settings.
        counts: (classes,) the training rows of each class; one without rows has weight 0 where balanced.
    """
    if config.class_weights == "none":
        return np.ones(len(counts))
    occurs = counts > 0
    weights: Doubles = np.divide(counts.sum(), occurs.sum() * counts, out=np.zeros(len(counts)), where=occurs)
    return weights


def logit_offsets(config: HeadConfig, counts: npt.NDArray[np.int64]) -> Doubles:
    """Return what logit adjustment adds to the logits in training, (classes,) float64 nats.

    Args:
        config: the head's settings.
        counts: (classes,) the training rows of each class; one without rows counts as if it had one.
    """
    nats: Doubles = config.logit_adjustment * np.log(np.maximum(counts, 1) / counts.sum())
    return nats


class StackLosses:
    """The losses of all heads of a stack; what no head asks for costs nothing.

    Attributes:
        offset: (heads, classes, 1) float32, added to the logits in training, in bits; None where no head has any.
        plain: whether every head has the cross-entropy alone.
        class_weights: (classes, heads) w.
        one_minus_smoothing: (heads, 1, 1) 1 - e.
        smoothed_weights: (heads, classes, 1) e / C w; None where no head is smoothed.
        smoothed_weights_sum: (heads, 1, 1) its sum over the classes.
    """

    def __init__(self, configs: Sequence[HeadConfig], counts: npt.NDArray[np.int64], device: str) -> None:
        def tensor(values: object) -> Tensor:
            return torch.tensor(np.asarray(values), dtype=torch.float32, device=device)

        smoothing = np.array([config.label_smoothing for config in configs])
        weights = np.stack([class_weights(config, counts) for config in configs])  # (heads, classes)
        offsets = np.stack([logit_offsets(config, counts) for config in configs]) / LN_2
        self.offset = tensor(offsets)[:, :, None] if offsets.any() else None
        self.plain = not smoothing.any() and all(config.class_weights == "none" for config in configs)
        self.class_weights = tensor(weights.T)  # (classes, heads)
        self.one_minus_smoothing = tensor(1 - smoothing)[:, None, None]
        smoothed_weights = smoothing[:, None] / len(counts) * weights
        self.smoothed_weights = tensor(smoothed_weights)[:, :, None] if smoothing.any() else None
        self.smoothed_weights_sum = tensor(smoothed_weights.sum(axis=1))[:, None, None]
        self.minus_one = tensor(-1.0)

    def softmax_grad_(self, p: Tensor, y: Tensor, truth: Tensor) -> Tensor:
        """Turn probabilities into the gradient by the logits, in place, and return it.

        Args:
            p: (heads, classes, rows) the softmax of each head's logits.
            y: (rows,) the classes of the rows.
            truth: (heads, 1, rows) the same, for each head.
        """
        if self.plain:
            return p.scatter_add_(1, truth, self.minus_one.expand_as(truth))
        of_row = self.class_weights[y].t().unsqueeze(1)  # (heads, 1, rows)
        scale = 1 / of_row.mean(2, keepdim=True)
        kept = self.one_minus_smoothing * of_row * scale
        p.mul_(kept + self.smoothed_weights_sum * scale)
        if self.smoothed_weights is not None:
            p.sub_(self.smoothed_weights * scale)
        return p.scatter_add_(1, truth, kept.neg_())
