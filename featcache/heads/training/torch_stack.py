"""Many linear heads as one: a step reads a batch once and makes two matrix products for all of them.

With X a batch and a column of ones beside it, (batch, dim + 1), and W (heads x classes, dim + 1), the bias its last
column:

    Z = W X' / ln 2                                 one product for all heads; logits in bits
    P = 2^(Z - max Z) / sum                         softmax over a head's classes; exp2 is 7 times as fast as exp
    G = P - onehot(y)                               or what `losses` says
    D = G X / batch                                 one product for all heads, biases included
    D <- min(1, clip_norm / (|D| + 1e-6)) D         per head: torch's clip_grad_norm_
    W <- an optimizer's step                        per head: `optimizers`

Heads that standardise are a stack of their own: X is then (x - m) / s, and a head is shown as W / s with its bias less
m W / s, on rows as they are. Standardised after the product, by the same algebra, what is left of a large mean is its
rounding, and Adam takes whole steps by that.

`Stack` has this in torch's operations, for GPUs and for what is done in a second; `fused` has it in loops, for the CPU.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import HeadConfig, Scores
from featcache.heads.training.losses import Losses
from featcache.heads.training.optimizers import KINDS, per_head
from featcache.heads.training.scores import Tally

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

Value = TypeVar("Value")

# x (any number, dim), the rows of it that are drawn, in the order of the steps, and their classes y; all on the device,
# valid until the next one is asked for. All but the last of an epoch are whole batches.
Stretch = tuple[Tensor, Tensor, Tensor]
Blocks = Iterator[tuple[Tensor, Tensor]]  # x (rows, dim) and y, likewise

LOG2_E = 1 / float(np.log(2))
PASS_LOGITS = 2**20  # held at a time where rows are only scored, over all heads
LANES = 16  # float32s of a vector


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What is known of the training rows before the first step."""

    counts: npt.NDArray[np.int64]  # (classes,) rows
    mean: Doubles  # (dim,)
    std: Doubles  # (dim,), 1 where a dimension is constant


def padded(dim: int) -> int:
    """The width of rows of X and W: their column of ones or biases, and zeros up to a multiple of a vector."""
    return -(-(dim + 1) // LANES) * LANES


class Heads:
    """The heads of one training, all of which standardise or none, whatever computes their steps.

    What a step reads and writes lies on the device and stays where it is: an epoch of steps can be recorded (`replay`).
    """

    w: Tensor  # (heads, classes, width) as it is learnt

    def __init__(self, configs: Sequence[HeadConfig], moments: Moments, rows: int, steps: int, device: str) -> None:
        self.order = sorted(range(len(configs)), key=lambda head: configs[head].optimizer)  # one stretch a kind
        self.configs = [configs[head] for head in self.order]
        self.heads, self.classes, self.dim = len(configs), len(moments.counts), len(moments.mean)
        self.batch = min(configs[0].batch_size, rows)
        self.width = padded(self.dim)
        self.losses = Losses(self.configs, moments.counts, device)
        self.scaling = Scaling(moments, device) if configs[0].standardize else None
        clips = [config.clip_norm for config in self.configs]
        self.clip_norm = None if clips.count(None) == len(clips) else per_head([c or np.inf for c in clips], device)
        rates = [[-config.lr_at(step, steps) for config in self.configs] for step in range(steps)]
        self.minus_lr = torch.tensor(rates, dtype=torch.float32).view(configs[0].epochs, -1, self.heads)  # on the host
        self.steps = self.minus_lr.shape[1]  # of an epoch

    def begin(self, epoch: int, paces: Sequence[float]) -> None:
        """Before epoch 0, 1, …; paces are factors of the rates, by config: below 1 on a plateau, and 0 stops a head."""
        self._lay_out(epoch, self.minus_lr[epoch] * torch.tensor([paces[head] for head in self.order]))

    def _lay_out(self, epoch: int, minus_lr: Tensor) -> None:
        """What an epoch's steps take; minus_lr (steps, heads), on the host."""
        raise NotImplementedError

    def learn(self, stretches: Iterable[Stretch]) -> list[Tensor]:
        """An epoch of steps, and the labels that they saw, in their order."""
        raise NotImplementedError

    def learnt(self, y: Tensor) -> list[Scores]:
        """The running scores of the epoch that was learnt last, by config; y are the labels that it saw."""
        raise NotImplementedError

    def score(self, blocks: Blocks, rows: int) -> list[Scores]:
        """The scores on so many rows, by config: of the heads as they are shown, without adjustment."""
        raise NotImplementedError

    def shown(self) -> Tensor:
        """The heads as they are saved and meet rows that are not standardised, (heads, classes, width)."""
        return self.w if self.scaling is None else self.scaling.fold(self.w)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        """Let go of what the training alone needs."""


class Stack(Heads):
    """Heads by torch's operations; `step` is the arithmetic at the top of this file."""

    def __init__(self, configs: Sequence[HeadConfig], moments: Moments, rows: int, steps: int, device: str) -> None:
        super().__init__(configs, moments, rows, steps, device)
        wide = self.heads * self.classes
        self.tally = Tally(rows, self.heads, device)
        self.x = torch.zeros(self.batch, self.width, device=device)
        self.x[:, self.dim] = 1
        self.w = torch.zeros(self.heads, self.classes, self.width, device=device)
        self.z = torch.empty(wide * self.batch, device=device)
        self.d = torch.empty_like(self.w)
        self.optimizers = []
        for kind, stretch in groupby(range(self.heads), key=lambda head: KINDS[self.configs[head].optimizer]):
            part = slice((which := list(stretch))[0], which[-1] + 1)
            self.optimizers.append((part, kind(self.configs[part], self.w[part], self.dim, self.steps)))

    def _lay_out(self, epoch: int, minus_lr: Tensor) -> None:
        for part, optimizer in self.optimizers:
            optimizer.begin(epoch, minus_lr[:, part, None, None])

    def learn(self, stretches: Iterable[Stretch]) -> list[Tensor]:
        """An epoch of steps, and the labels that they saw, in their order."""
        self.tally.begin()
        step, labels = 0, []
        for x, rows, y in stretches:
            labels.append(y)
            for start in range(0, len(y), self.batch):
                drawn = rows[start : start + self.batch]
                batch = torch.index_select(x, 0, drawn, out=self.x[: len(drawn), : self.dim])
                if self.scaling is not None:
                    self.scaling.standardise(batch)
                self.step(step, self.x[: len(drawn)], y[start : start + self.batch])
                step += 1
        return labels

    def learnt(self, y: Tensor) -> list[Scores]:
        """The running scores of the epoch that was learnt last, by config."""
        return self.by_head(self.tally.scores(y, self.classes))

    def score(self, blocks: Blocks, rows: int) -> list[Scores]:
        """The scores on so many rows, by config."""
        tally = Tally(rows, self.heads, self.x.device)
        size = min(self.batch, max(1, PASS_LOGITS // (self.heads * self.classes)))
        labels, w = [], self.shown()
        for x, y in blocks:
            labels.append(y)
            for start in range(0, len(y), size):
                block, truth = x[start : start + size], y[start : start + size]
                self.x[: len(block), : self.dim] = block
                self._softmax(w, self.x[: len(block)], truth.expand(self.heads, 1, -1), tally, adjust=False)
        return self.by_head(tally.scores(torch.cat(labels), self.classes))

    def step(self, step: int, x: Tensor, y: Tensor) -> None:
        """Step 0, 1, … of an epoch, for every head, on x (rows, width), with its column of ones, and y (rows,)."""
        truth = y.expand(self.heads, 1, -1)
        g = self.losses.gradient(self._softmax(self.w, x, truth, self.tally), y, truth)
        d, rows_of_d = self.d, self.d.view(-1, self.width)
        torch.addmm(rows_of_d, g.view(len(rows_of_d), -1), x, beta=0, alpha=1 / len(x), out=rows_of_d)
        if self.clip_norm is not None:
            clip_each_head(d, self.clip_norm)
        for part, optimizer in self.optimizers:
            optimizer.step(step, d[part])

    def _softmax(self, w: Tensor, x: Tensor, truth: Tensor, tally: Tally, *, adjust: bool = True) -> Tensor:
        """P (heads, classes, rows), and into the tally what is known on the way; truth (heads, 1, rows)."""
        own, top, total, answer = tally.room(len(x))
        w = w.view(-1, self.width)
        z = self.z[: len(w) * len(x)].view(len(w), -1)
        torch.addmm(z, w, x.t(), beta=0, alpha=LOG2_E, out=z)
        z = z.view(self.heads, self.classes, -1)
        torch.gather(z, 1, truth, out=own)
        torch.argmax(z, 1, keepdim=True, out=answer)  # the first of equals; nan is higher than any number
        torch.gather(z, 1, answer, out=top)
        if adjust and self.losses.offset is not None:
            z.add_(self.losses.offset)
            torch.gather(z, 1, truth, out=own)
            torch.amax(z, 1, keepdim=True, out=top)
        z.sub_(top).exp2_()
        torch.sum(z, 1, keepdim=True, out=total)
        return z.div_(total)


class Scaling:
    """What makes rows standardised, and heads that learnt from such rows fit for rows as they are."""

    def __init__(self, moments: Moments, device: str) -> None:
        high = moments.mean.astype(np.float32)
        low, inverse = (moments.mean - high).astype(np.float32), (1 / moments.std).astype(np.float32)
        self.parts_of_mean, self.inverse = np.stack([high, low]), inverse
        self.on_device = [torch.from_numpy(values).to(device) for values in (high, low, inverse)]

    def standardise(self, rows: Tensor) -> None:
        """(x - mean) / deviation, rows (any number, dim), in place.

        A float32 less one near it is exact, so what the mean's own rounding left out is still seen.
        """
        high, low, inverse = self.on_device
        rows.sub_(high).sub_(low).mul_(inverse)

    def fold(self, w: Tensor) -> Tensor:
        """Heads (heads, classes, width) on standardised rows as heads on rows as they are; in float64, rounded once."""
        dim = len(self.inverse)
        folded = w.cpu().numpy().astype(np.float64, order="C")
        with np.errstate(over="ignore", invalid="ignore"):  # of a diverged head
            folded[:, :, :dim] *= self.inverse
            folded[:, :, dim] -= (folded[:, :, :dim] * self.parts_of_mean.sum(axis=0, dtype=np.float64)).sum(axis=2)
            return torch.from_numpy(folded.astype(np.float32)).to(w.device)


def clip_each_head(d: Tensor, max_norm: Tensor) -> None:
    """Clip every head by its own norm; d is (heads, classes, width), bias included, in place.

    One norm over the stack would let a diverging head shrink its neighbours' steps, and a head in a sweep would no
    longer equal the same head alone.
    """
    norm = torch.linalg.vector_norm(d, dim=(1, 2), keepdim=True)
    d.mul_((max_norm / norm.add_(1e-6)).clamp_(max=1))
