"""torch.optim's update rules for a stack of heads, each with its own settings.

W is (heads, classes, width): column dim is the bias, the columns after it stay zero. D is its gradient after clipping;
lr, momentum and decay are one number a head, and no decay touches the bias.

    SGD     V <- momentum V + D + decay W                       W <- W - lr V
    Adam    D <- D + decay W
            M <- M + (1 - b1) (D - M),  S <- b2 S + (1 - b2) D^2
            W <- W - lr / (1 - b1^t) M / (sqrt(S / (1 - b2^t)) + eps)
    AdamW   W <- (1 - lr decay) W, then Adam without decay (Loshchilov & Hutter 2019)

What changes from step to step without being learnt, lr and the powers of b1 and b2, is laid out for a whole epoch
before it begins, always in the same memory. A step knows only which one of its epoch it is: an epoch can be recorded.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from featcache.heads import HeadConfig

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8  # torch's defaults


def per_head(values: Sequence[float], device: str) -> Tensor:
    """Return one value a head as (heads, 1, 1) float32, to be broadcast over a head's weights."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _decays(values: Sequence[float], like: Tensor, bias: int) -> Tensor | None:
    """Return the decays as (heads, 1, width), 0 for the bias; None where no head has a decay."""
    if not any(values):
        return None
    decays = per_head(values, str(like.device)).repeat(1, 1, like.shape[2])
    decays[:, :, bias] = 0
    return decays


def bias_corrections(epoch: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return 1 - b1^t and sqrt(1 - b2^t) of an epoch's steps, (steps,) each."""
    ts = range(epoch * steps + 1, (epoch + 1) * steps + 1)
    of_m, of_s = [1 - BETA_1**t for t in ts], [math.sqrt(1 - BETA_2**t) for t in ts]
    return torch.tensor(of_m, dtype=torch.float32), torch.tensor(of_s, dtype=torch.float32)


class Sgd:
    """SGD with momentum for neighbouring heads of a stack; `steps` are those of an epoch."""

    def __init__(self, configs: Sequence[HeadConfig], w: Tensor, bias: int, steps: int) -> None:
        self.w, self.v = w, torch.zeros_like(w)
        self.momentum = per_head([config.momentum for config in configs], str(w.device))
        self.decay = _decays([config.weight_decay for config in configs], w, bias)
        self.minus_lr = torch.empty(steps, len(configs), 1, 1, device=w.device)

    def begin_epoch(self, epoch: int, minus_lr: Tensor) -> None:  # noqa: ARG002
        """Lay out what the steps of epoch 0, 1, … take; minus_lr (steps, heads, 1, 1) on the host."""
        self.minus_lr.copy_(minus_lr)

    def step(self, step: int, d: Tensor) -> None:
        """Take step 0, 1, … of an epoch; d is the gradient, (heads, classes, width)."""
        self.v.mul_(self.momentum).add_(d)
        if self.decay is not None:
            self.v.addcmul_(self.w, self.decay)
        self.w.addcmul_(self.v, self.minus_lr[step])


class Adam:
    """Adam and AdamW for neighbouring heads of a stack; `steps` are those of an epoch."""

    def __init__(self, configs: Sequence[HeadConfig], w: Tensor, bias: int, steps: int) -> None:
        self.w, self.m, self.s = w, torch.zeros_like(w), torch.zeros_like(w)

        def decays(name: str) -> Tensor | None:
            return _decays([c.weight_decay if c.optimizer == name else 0.0 for c in configs], w, bias)

        self.coupled, self.decoupled = decays("adam"), decays("adamw")
        self.minus_lr = torch.empty(steps, len(configs), 1, 1, device=w.device)
        self.minus_lr_of_m, self.share_of_s = torch.empty_like(self.minus_lr), torch.empty(steps, device=w.device)

    def begin_epoch(self, epoch: int, minus_lr: Tensor) -> None:
        """Lay out what the steps of epoch 0, 1, … take; minus_lr (steps, heads, 1, 1) on the host."""
        share_of_m, share_of_s = bias_corrections(epoch, len(minus_lr))
        self.minus_lr.copy_(minus_lr)
        self.minus_lr_of_m.copy_(minus_lr / share_of_m[:, None, None, None])
        self.share_of_s.copy_(share_of_s)

    def step(self, step: int, d: Tensor) -> None:
        """Take step 0, 1, … of an epoch; d is the gradient, (heads, classes, width), which may be overwritten."""
        if self.decoupled is not None:
            self.w.addcmul_(self.w, self.decoupled * self.minus_lr[step])
        if self.coupled is not None:
            d.addcmul_(self.w, self.coupled)
        self.m.lerp_(d, 1 - BETA_1)
        self.s.mul_(BETA_2).addcmul_(d, d, value=1 - BETA_2)
        direction = self.m / self.s.sqrt().div_(self.share_of_s[step]).add_(EPS)
        self.w.addcmul_(direction, self.minus_lr_of_m[step])


OPTIMIZER_CLASSES: dict[str, type[Sgd] | type[Adam]] = {"sgd": Sgd, "adam": Adam, "adamw": Adam}
# In which heads stand in a stack: `kernels.update_weights` wants the columns of Adam and AdamW before those of SGD.
ADAM_OPTIMIZERS = ("adam", "adamw")
STACK_ORDER = (*ADAM_OPTIMIZERS, "sgd")
