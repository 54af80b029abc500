"""The heads of a training on a CPU: their steps are those of `kernels`, by a crew of threads.

Weights lie as the products like them, (width, heads x classes). Python asks for some hundred steps at a time.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import HeadConfig, Scores
from featcache.heads.training import kernels
from featcache.heads.training.intrinsics import SGEMM, ready
from featcache.heads.training.optimizers import BETA_1, BETA_2, EPS, shares
from featcache.heads.training.scores import Counts
from featcache.heads.training.thread_team import LINE, Crew
from featcache.heads.training.torch_stack import Blocks, Heads, Moments, Stretch

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]

LEAST_SLICE = 64  # rows of a member: with fewer, BLAS is busy packing the weights
MOST_PARTS = 2**26  # weights of all members' gradients: 256 MB
CALL = 2**33  # multiplications that are asked for at a time, at least a step: a quarter of a second without a Ctrl-C


class FusedStack(Heads):
    """Heads by `kernels`."""

    def __init__(self, configs: Sequence[HeadConfig], moments: Moments, rows: int, steps: int, device: str) -> None:
        super().__init__(configs, moments, rows, steps, device)
        wide = self.heads * self.classes
        most = min(self.batch // LEAST_SLICE, MOST_PARTS // (self.width * wide))
        members = max(1, min(torch.get_num_threads(), most))
        share = -(-self.batch // members)
        self.asked, self.pace = self._what(), self._how()
        w = np.zeros((self.width, wide), np.float32)
        slices = np.zeros((members, share, self.width), np.float32)
        slices[:, :, self.dim] = 1
        self.weights = kernels.Weights(
            w=w,
            first=np.zeros_like(w),
            second=np.zeros((self.width, self.pace.adam), np.float32),
            batch=slices,
            z=np.zeros((members, share, wide), np.float32),
            parts=np.zeros((members, self.width, wide), np.float32),
            squares=np.zeros((members, wide)),
        )
        self.w = torch.from_numpy(w).view(self.width, self.heads, self.classes).permute(1, 2, 0)
        self.counts = Counts(members, self.heads, self.classes)
        self.crew = Crew(members)
        self._ready()

    def _ready(self) -> None:
        """Compile what the crew will do."""
        nobody, counts = np.zeros((1, LINE), np.int64), (self.counts.lost, self.counts.right)
        x, rows = np.zeros((0, self.dim), np.float32), np.zeros(0, np.int64)
        nothing = self._source(x, rows, rows)
        ready(kernels.go, SGEMM, 0, nobody, nothing, self.asked, self.weights, self.pace, 0, 0, *counts)
        ready(kernels.look, SGEMM, 0, x, rows, self.asked, self.weights, *counts)

    def __enter__(self) -> Self:
        self.crew.__enter__()
        return self

    def __exit__(self, *why: object) -> None:
        self.crew.__exit__(*why)

    def _what(self) -> kernels.Asked:
        losses, nothing = self.losses, torch.zeros(self.heads, self.classes)
        return kernels.Asked(
            heads=self.heads,
            plain=losses.plain,
            offset=np.zeros(0, np.float32) if losses.offset is None else losses.offset.flatten().numpy(),
            of_class=losses.of_class.numpy(),
            keep=losses.keep.flatten().numpy(),
            spread=(nothing if losses.spread is None else losses.spread).flatten().numpy(),
            spread_sum=losses.spread_sum.flatten().numpy(),
        )

    def _how(self) -> kernels.Pace:
        def columns(values: list[float]) -> Floats:
            return np.repeat(np.array(values, np.float32), self.classes)

        configs, rates = self.configs, np.zeros((2, self.steps, self.heads), np.float32)
        decays = any(config.weight_decay for config in configs)
        coupled = [0.0 if config.optimizer == "adamw" else config.weight_decay for config in configs]
        decoupled = [config.weight_decay if config.optimizer == "adamw" else 0.0 for config in configs]
        return kernels.Pace(
            adam=sum(config.optimizer != "sgd" for config in configs) * self.classes,
            clip_norm=np.zeros(0, np.float32) if self.clip_norm is None else self.clip_norm.flatten().numpy(),
            momentum=columns([config.momentum for config in configs]),
            decay=columns(coupled if decays else []),
            decoupled=columns(decoupled),
            minus_lr=rates[0],
            minus_lr_of_m=rates[1],
            share_of_s=np.ones(self.steps, np.float32),
            beta_1=BETA_1,
            beta_2=BETA_2,
            eps=EPS,
        )

    def _source(self, x: Floats, rows: Longs, y: Longs) -> kernels.Source:
        if self.scaling is None:
            return kernels.Source(x, rows, y, self.batch, np.zeros((2, 0), np.float32), np.zeros(0, np.float32))
        return kernels.Source(x, rows, y, self.batch, self.scaling.parts_of_mean, self.scaling.inverse)

    def _lay_out(self, epoch: int, minus_lr: Tensor) -> None:
        of_m, of_s = shares(epoch, self.steps)
        self.pace.minus_lr[:], self.pace.minus_lr_of_m[:] = minus_lr.numpy(), (minus_lr / of_m[:, None]).numpy()
        self.pace.share_of_s[:] = of_s.numpy()

    def learn(self, stretches: Iterable[Stretch]) -> list[Tensor]:
        """An epoch of steps, and the labels that they saw, in their order."""
        self.counts.begin()
        step, labels = 0, []
        at_once = self.batch * max(1, CALL // (2 * self.batch * self.weights.w.size))  # rows
        for x, rows, y in stretches:
            labels.append(y)
            for start in range(0, len(y), at_once):
                part = slice(start, start + at_once)
                source = self._source(x.numpy(), rows[part].numpy(), y[part].numpy())
                steps = -(-len(source.y) // self.batch)
                self.crew.run(partial(self._go, source, step, steps))
                step += steps
        return labels

    def _go(self, source: kernels.Source, step: int, steps: int, member: int) -> None:
        kernels.go(
            SGEMM, member, self.crew.meeting, source, self.asked, self.weights, self.pace, step, steps,
            self.counts.lost, self.counts.right,
        )  # fmt: skip

    def learnt(self, y: Tensor) -> list[Scores]:
        """The running scores of the epoch that was learnt last, by config."""
        return self.by_head(self.counts.scores(y.numpy()))

    def score(self, blocks: Blocks, rows: int) -> list[Scores]:  # noqa: ARG002 (counts need no room for them)
        """The scores on so many rows, by config."""
        weights, counts = self.weights, Counts(self.crew.members, self.heads, self.classes)
        if self.scaling is not None:
            w = self.shown().permute(2, 0, 1).reshape(weights.w.shape).contiguous().numpy()
            weights = weights._replace(w=w)
        labels, size = [], max(1, CALL // weights.w.size)
        for x, y in blocks:
            labels.append(y)
            for start in range(0, len(y), size):
                part = slice(start, start + size)
                self.crew.run(partial(self._look, weights, counts, x[part].numpy(), y[part].numpy()))
        return self.by_head(counts.scores(torch.cat(labels).numpy()))

    def _look(self, weights: kernels.Weights, counts: Counts, x: Floats, y: Longs, member: int) -> None:
        kernels.look(SGEMM, member, x, y, self.asked, weights, counts.lost, counts.right)
