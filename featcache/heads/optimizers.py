"""torch.optim's update rules for a stack of heads, each with its own settings.

W is (heads, classes, dim + 1), the last column the bias; D its gradient after clipping; lr, momentum and decay are
one number a head, and no decay touches the bias.

    SGD     V <- momentum V + D + decay W                       W <- W - lr V
    Adam    D <- D + decay W
            M <- M + (1 - b1) (D - M),  S <- b2 S + (1 - b2) D^2
            W <- W - lr / (1 - b1^t) M / (sqrt(S / (1 - b2^t)) + eps)
    AdamW   W <- (1 - lr decay) W, then Adam without decay (Loshchilov & Hutter 2019)
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from featcache.heads.config import HeadConfig

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8  # torch's defaults


def per_head(values: Sequence[float], device: str) -> Tensor:
    """(heads, 1, 1), to be broadcast over a head's weights."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _decays(values: Sequence[float], like: Tensor, bias: int) -> Tensor | None:
    """(heads, 1, width), 0 for the bias; None where no head has a decay."""
    if not any(values):
        return None
    decays = per_head(values, str(like.device)).repeat(1, 1, like.shape[2])
    decays[:, :, bias] = 0
    return decays


class Sgd:
    """SGD with momentum for the heads of one stretch of the stack."""

    def __init__(self, configs: Sequence[HeadConfig], w: Tensor, bias: int) -> None:
        self.w, self.v = w, torch.zeros_like(w)
        self.momentum = per_head([config.momentum for config in configs], str(w.device))
        self.decay = _decays([config.weight_decay for config in configs], w, bias)

    def step(self, d: Tensor, minus_lr: Tensor) -> None:
        """One update; d is the gradient, minus_lr (heads, 1, 1)."""
        self.v.mul_(self.momentum).add_(d)
        if self.decay is not None:
            self.v.addcmul_(self.w, self.decay)
        self.w.addcmul_(self.v, minus_lr)


class Adam:
    """Adam and AdamW for the heads of one stretch of the stack."""

    def __init__(self, configs: Sequence[HeadConfig], w: Tensor, bias: int) -> None:
        self.w, self.m, self.s, self.t = w, torch.zeros_like(w), torch.zeros_like(w), 0

        def decays(name: str) -> Tensor | None:
            return _decays([c.weight_decay if c.optimizer == name else 0.0 for c in configs], w, bias)

        self.coupled, self.decoupled = decays("adam"), decays("adamw")

    def step(self, d: Tensor, minus_lr: Tensor) -> None:
        """One update; d is the gradient, which may be overwritten, minus_lr (heads, 1, 1)."""
        self.t += 1
        if self.decoupled is not None:
            self.w.addcmul_(self.w, self.decoupled * minus_lr)
        if self.coupled is not None:
            d.addcmul_(self.w, self.coupled)
        self.m.lerp_(d, 1 - BETA_1)
        self.s.mul_(BETA_2).addcmul_(d, d, value=1 - BETA_2)
        way = self.m / self.s.sqrt().div_(math.sqrt(1 - BETA_2**self.t)).add_(EPS)
        self.w.addcmul_(way, minus_lr / (1 - BETA_1**self.t))


KINDS: dict[str, type[Sgd] | type[Adam]] = {"sgd": Sgd, "adam": Adam, "adamw": Adam}
