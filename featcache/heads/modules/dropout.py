"""Dropout whose masks follow from a seed alone, and cost a quarter of what torch's cost on a CPU.

Behind a ReLU it is one operation with it: of h = mask max(z, 0), h > 0 says all that the gradient has to know of both.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16  # that 16 random bits tell apart: the share that is left out is a multiple of 1 / _LEVELS


class Dropout(nn.Dropout):
    """torch's Dropout; on a CPU its masks come from 16 bits a value of NumPy's SFC64, which `seed` sets."""

    source: np.random.SFC64 | None = None

    def seed(self, entropy: int, number: int) -> None:
        """Set what the next masks are drawn from.

        Args:
            entropy: of the step and the head.
            number: of the layer in the head.
        """
        self.source = np.random.SFC64([entropy, number])

    def forward(self, x: Tensor) -> Tensor:
        """Return x in inference; in training with a share of its values zero, and the others scaled up for them."""
        if not self.draws_masks(x):
            return super().forward(x)
        return x * self.draw_mask(x.shape)

    def draws_masks(self, x: Tensor) -> bool:
        """Whether masks for x are drawn here, and not by torch."""
        return self.source is not None and self.training and x.device.type == "cpu"

    @property
    def scale(self) -> float:
        """What makes up for the values that are left out."""
        return _LEVELS / max(1, _LEVELS - round(self.p * _LEVELS))

    def draw_mask(self, shape: torch.Size) -> Tensor:
        """Return a mask, 0 for what is left out and else `scale`, float32."""
        assert self.source is not None  # noqa: S101 (`draws_masks` looked)
        count = shape.numel()
        bits = torch.from_numpy(self.source.random_raw(-(-count // 4)).view(np.int16))[:count].view(shape)
        return (bits >= round(self.p * _LEVELS) - _LEVELS // 2).float().mul_(self.scale)


def seed_dropout(module: nn.Module, entropy: int) -> None:
    """Set what the dropout layers of a module draw their next masks from; each has a stream of its own.

    Args:
        module: the module of a head.
        entropy: any number from 0 up: of the head and the step.
    """
    for number, layer in enumerate(layer for layer in module.modules() if isinstance(layer, Dropout)):
        layer.seed(entropy, number)


class Perceptron(nn.Sequential):
    """torch's Sequential; in training, a ReLU and the `Dropout` behind it are one operation."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layers make of x, one after the other."""
        layers = list(self.children())
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.ReLU) and layers and isinstance(layers[0], Dropout) and layers[0].draws_masks(x):
                dropout = cast("Dropout", layers.pop(0))
                x = _ReluDropout.apply(x, dropout.draw_mask(x.shape), dropout.scale)
            else:
                x = layer(x)
        return x


class _ReluDropout(torch.autograd.Function):
    """mask max(z, 0), in the memory of z."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mask: Tensor, scale: float) -> Tensor:
        h = z.clamp_min_(0).mul_(mask)
        ctx.mark_dirty(z)
        ctx.save_for_backward(h)
        ctx.scale = scale
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (h,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grad, h, 0).mul_(ctx.scale), None, None
