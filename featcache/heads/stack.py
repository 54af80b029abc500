"""Many linear heads as one: a step reads a batch once and makes two matrix products for all of them.

With X a batch and a column of ones beside it, (batch, dim + 1), and W (heads x classes, dim + 1), the bias its last
column:

    Z = W X' / ln 2                                 one product for all heads; logits in bits
    P = 2^(Z - max Z) / sum                         softmax over a head's classes; exp2 is 7 times as fast as exp
    G = P - onehot(y)                               or what `losses` says
    D = G X / batch                                 one product for all heads, biases included
    D <- min(1, clip_norm / (|D| + 1e-6)) D         per head: torch's clip_grad_norm_
    W <- an optimizer's step                        per head: `optimizers`

A head that standardises learns U on (x - m) / s, and is shown as W = U / s with its bias less W m: the product is on
the rows as they are, and D / s (less m times the bias' gradient) is the gradient by U.

Products of a few dozen columns are cut by rows, a slice for each core: cut by columns, as MKL has it, 34 classes make
17 for each, and the product takes a quarter longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads.config import HeadConfig
from featcache.heads.losses import Losses
from featcache.heads.optimizers import KINDS, per_head
from featcache.heads.tally import Tally

Floats = npt.NDArray[np.float32]

Value = TypeVar("Value")

LOG2_E = 1 / float(np.log(2))
LEAST_SLICE = 128  # rows
LANES = 16  # rows of X are padded with zeros to a multiple of a vector


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What is known of the training rows before the first step."""

    counts: npt.NDArray[np.int64]  # (classes,) rows
    mean: Floats  # (dim,)
    std: Floats  # (dim,), 1 where a dimension is constant


class Batch:
    """Room for the rows of a batch, with their column of ones."""

    def __init__(self, rows: int, dim: int, device: str) -> None:
        self.dim, self.width = dim, -(-(dim + 1) // LANES) * LANES
        self.x = torch.zeros(rows, self.width, device=device)
        self.x[:, dim] = 1
        self.slices = 1 if device != "cpu" else max(1, min(torch.get_num_threads(), rows // LEAST_SLICE))

    def gather(self, x: Tensor, rows: Tensor) -> Tensor:
        """x[rows] as (slices, rows of a slice, width), valid until the next one."""
        torch.index_select(x, 0, rows, out=self.x[: len(rows), : self.dim])
        return self._cut(len(rows))

    def copy(self, x: Tensor) -> Tensor:
        """The same of a block that lies in one piece."""
        self.x[: len(x), : self.dim] = x
        return self._cut(len(x))

    def _cut(self, rows: int) -> Tensor:
        slices = self.slices if rows % self.slices == 0 else 1
        return self.x[:rows].view(slices, rows // slices, self.width)


class Stack:
    """The heads of one training; `step` is the arithmetic at the top of this file.

    What a step reads and writes lies on the device and stays where it is: an epoch of steps can be recorded (`replay`).
    """

    def __init__(self, configs: Sequence[HeadConfig], moments: Moments, batch: Batch, steps: int, device: str) -> None:
        self.order = sorted(range(len(configs)), key=lambda head: configs[head].optimizer)  # one stretch a kind
        configs = [configs[head] for head in self.order]
        self.heads, self.classes = len(configs), len(moments.counts)
        self.rows = len(batch.x)
        self.dim, self.width, wide = batch.dim, batch.width, len(configs) * len(moments.counts)
        self.w = torch.zeros(self.heads, self.classes, self.width, device=device)
        self.z = torch.empty(wide * len(batch.x), device=device)
        self.parts = torch.empty(batch.slices, wide, self.width, device=device)
        self.d = torch.empty(wide, self.width, device=device)
        self.losses = Losses(configs, moments.counts, device)
        self.scaler = _Scaler(configs, moments, self.width, device) if any(c.standardize for c in configs) else None
        clips = [config.clip_norm for config in configs]
        self.clip_norm = None if clips.count(None) == len(clips) else per_head([c or np.inf for c in clips], device)
        rates = [[-config.lr_at(step, steps) for config in configs] for step in range(steps)]
        epochs = configs[0].epochs
        self.minus_lr = torch.tensor(rates, dtype=torch.float32).view(epochs, -1, self.heads, 1, 1)  # on the host
        self.optimizers = []
        for kind, stretch in groupby(range(self.heads), key=lambda head: KINDS[configs[head].optimizer]):
            part = slice((which := list(stretch))[0], which[-1] + 1)
            self.optimizers.append((part, kind(configs[part], self.w[part], self.dim, steps // epochs)))

    def begin(self, epoch: int, paces: Sequence[float]) -> None:
        """Before epoch 0, 1, …; paces are factors of the rates, by config: below 1 on a plateau, and 0 stops a head."""
        minus_lr = self.minus_lr[epoch] * per_head([paces[head] for head in self.order], "cpu")
        for part, optimizer in self.optimizers:
            optimizer.begin(minus_lr[:, part])

    def step(self, step: int, x: Tensor, y: Tensor, tally: Tally) -> None:
        """Step 0, 1, … of an epoch, for every head, on x (slices, rows, width) and y (rows of all slices,)."""
        slices, rows, _ = x.shape
        y = y.view(slices, rows)
        truth = y[:, None, None].expand(slices, self.heads, 1, rows)
        p = self._softmax(x, truth, tally)
        g = self.losses.gradient(p, y, truth).view(slices, -1, rows)
        parts = self.parts[:slices]
        torch.baddbmm(parts, g, x, beta=0, alpha=1 / (slices * rows), out=parts)
        d = (parts[0] if slices == 1 else torch.sum(parts, 0, out=self.d)).view_as(self.w)
        if self.scaler is not None:
            self.scaler.pull(d, self.dim)
        if self.clip_norm is not None:
            clip_each_head(d, self.clip_norm)
        for part, optimizer in self.optimizers:
            optimizer.step(step, d[part])

    def score(self, x: Tensor, y: Tensor, tally: Tally) -> None:
        """Let the tally take in the logits of x (slices, rows, width), as they are answered: without adjustment."""
        slices, rows, _ = x.shape
        self._softmax(x, y.view(slices, 1, 1, rows).expand(slices, self.heads, 1, rows), tally, adjust=False)

    def _softmax(self, x: Tensor, truth: Tensor, tally: Tally, *, adjust: bool = True) -> Tensor:
        """P (slices, heads, classes, rows), and into the tally what is known on the way."""
        slices, rows, _ = x.shape
        own, top, total, hit = tally.room(slices, rows)
        w = self.shown().view(1, -1, self.width).expand(slices, -1, -1)
        z = self.z[: w.shape[1] * slices * rows].view(slices, -1, rows)
        torch.baddbmm(z, w, x.transpose(1, 2), beta=0, alpha=LOG2_E, out=z)
        z = z.view(slices, self.heads, self.classes, rows)
        torch.gather(z, 2, truth, out=own)
        torch.amax(z, 2, keepdim=True, out=top)
        torch.ge(own, top, out=hit)
        if adjust and self.losses.offset is not None:
            z.add_(self.losses.offset)
            torch.gather(z, 2, truth, out=own)
            torch.amax(z, 2, keepdim=True, out=top)
        z.sub_(top).exp2_()
        torch.sum(z, 2, keepdim=True, out=total)
        return z.div_(total)

    def shown(self) -> Tensor:
        """The heads as they meet rows that are not standardised, (heads, classes, width)."""
        return self.w if self.scaler is None else self.scaler.push(self.w, self.dim)

    def by_head(self, values: Sequence[Value]) -> list[Value]:
        """What was computed in the stack's order, in that of the configs."""
        return [values[self.place(head)] for head in range(self.heads)]

    def place(self, head: int) -> int:
        """Where a config's head stands in the stack."""
        return self.order.index(head)

    def answers(self) -> tuple[Floats, Floats]:
        """Weights (heads, classes, dim) and biases (heads, classes), in the order of the configs."""
        w = self.shown()[[self.place(head) for head in range(self.heads)]].cpu().numpy()
        return w[:, :, : self.dim].copy(), w[:, :, self.dim].copy()


class _Scaler:
    """Between U, on standardised rows, and W, on rows as they are; heads that don't standardise have m = 0, s = 1."""

    def __init__(self, configs: Sequence[HeadConfig], moments: Moments, width: int, device: str) -> None:
        means, inverses = np.zeros((len(configs), 1, width)), np.ones((len(configs), 1, width))
        dim = len(moments.mean)
        for head, config in enumerate(configs):
            if config.standardize:
                means[head, 0, :dim], inverses[head, 0, :dim] = moments.mean, 1 / moments.std.astype(np.float64)
        self.mean = torch.tensor(means, dtype=torch.float32, device=device)
        self.inverse = torch.tensor(inverses, dtype=torch.float32, device=device)

    def push(self, u: Tensor, bias: int) -> Tensor:
        w = u * self.inverse
        w[:, :, bias] -= (w * self.mean).sum(2)
        return w

    def pull(self, d: Tensor, bias: int) -> None:
        d.sub_(d[:, :, bias, None] * self.mean).mul_(self.inverse)


def clip_each_head(d: Tensor, max_norm: Tensor) -> None:
    """Clip every head by its own norm; d is (heads, classes, width), bias included, in place.

    One norm over the stack would let a diverging head shrink its neighbours' steps, and a head in a sweep would no
    longer equal the same head alone.
    """
    norm = torch.linalg.vector_norm(d, dim=(1, 2), keepdim=True)
    d.mul_((max_norm / norm.add_(1e-6)).clamp_(max=1))
