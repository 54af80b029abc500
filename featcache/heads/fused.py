"""The heads of a training on a CPU: their steps are those of `kernels`, by a crew of threads.

Weights lie as the products like them, (width, heads x classes). Python asks for some hundred steps at a time.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.heads import kernels
from featcache.heads.config import HeadConfig
from featcache.heads.crew import Crew
from featcache.heads.instructions import SGEMM
from featcache.heads.optimizers import BETA_1, BETA_2, EPS, shares
from featcache.heads.stack import Blocks, Heads, Moments, Stretch
from featcache.heads.tally import Tally

Floats = npt.NDArray[np.float32]

LEAST_SLICE = 64  # rows of a member: with fewer, BLAS is busy packing the weights
CALL = 2**33  # multiplications that are asked for at a time: a quarter of a second, in which nobody hears a Ctrl-C


class FusedStack(Heads):
    """Heads by `kernels`."""

    def __init__(self, configs: Sequence[HeadConfig], moments: Moments, batch: int, steps: int, device: str) -> None:
        super().__init__(configs, moments, batch, steps, device)
        wide = self.heads * self.classes
        members = max(1, min(torch.get_num_threads(), batch // LEAST_SLICE))
        share = -(-batch // members)
        self.asked, self.pace = self._what(), self._how(wide)
        u = np.zeros((self.width, wide), np.float32)
        rows = np.zeros((members, share, self.width), np.float32)
        rows[:, :, self.dim] = 1
        self.weights = kernels.Weights(
            w=u if self.scaler is None else np.zeros_like(u),
            u=u,
            first=np.zeros_like(u),
            second=np.zeros((self.width, self.pace.adam), np.float32),
            batch=rows,
            z=np.zeros((members, share, wide), np.float32),
            parts=np.zeros((members, self.width, wide), np.float32),
            sums=np.zeros((2, members, wide)),
        )
        self.w = torch.from_numpy(u).view(self.width, self.heads, self.classes).permute(1, 2, 0)
        self.crew = Crew(members)

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

    def _how(self, wide: int) -> kernels.Pace:
        def columns(values: list[float]) -> Floats:
            return np.repeat(np.array(values, np.float32), self.classes)

        configs, rates = self.configs, np.zeros((3, self.steps, wide), np.float32)
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
            mean=np.zeros((0, 0), np.float32) if self.scaler is None else self._columns(self.scaler.mean),
            inverse=np.zeros((0, 0), np.float32) if self.scaler is None else self._columns(self.scaler.inverse),
        )

    def _columns(self, by_head: Tensor) -> Floats:
        """(heads, 1, width) as (width, wide)."""
        return np.repeat(by_head[:, 0].numpy().T, self.classes, axis=1)

    def _lay_out(self, epoch: int, minus_lr: Tensor) -> None:
        of_m, of_s = shares(epoch, self.steps)
        for rates, values in ((self.pace.minus_lr, minus_lr), (self.pace.minus_lr_of_m, minus_lr / of_m[:, None])):
            rates[:] = np.repeat(values.numpy(), self.classes, axis=1)
        self.pace.share_of_s[:] = of_s.numpy()

    def learn(self, stretches: Iterable[Stretch], tally: Tally) -> list[Tensor]:
        """An epoch of steps, and the labels that they saw, in their order."""
        step, labels, size = 0, [], self.batch
        at_once = max(1, CALL // (2 * size * self.weights.w.size))
        for x, rows, y in stretches:
            labels.append(y)
            for start in range(0, len(y), at_once * size):
                part = slice(start, start + at_once * size)
                source = kernels.Source(x.numpy(), rows[part].numpy(), y[part].numpy(), size)
                step += self._go(source, tally, step)
        return labels

    def _go(self, source: kernels.Source, tally: Tally, step: int) -> int:
        """Let the crew go through these rows, and return in how many batches."""
        whole, rest = divmod(len(source.y), source.size)
        start = tally.take(source.size, whole) if whole else tally.take(rest)
        if whole and rest:
            tally.take(rest)
        steps, bits, hits = whole + bool(rest), tally.bits.numpy(), tally.hits.numpy()

        def share(member: int) -> None:
            kernels.go(
                SGEMM, member, self.crew.meeting, source, self.asked, self.weights, self.pace, step, steps, bits, hits,
                start,
            )  # fmt: skip

        self.crew.run(share)
        return steps

    def score(self, blocks: Blocks, tally: Tally) -> list[Tensor]:
        """Let the tally take in the logits of all rows, as they are answered: without adjustment. The labels."""
        weights = self.weights
        if self.scaler is not None:  # weights.w is the last step's; an earlier epoch's may have been put back since
            w = self.shown().permute(2, 0, 1).reshape(weights.w.shape).contiguous().numpy()
            weights = weights._replace(w=w)
        labels, size = [], max(1, CALL // weights.w.size)
        for x, y in blocks:
            labels.append(y)
            for start in range(0, len(y), size):
                self._look(weights, x[start : start + size].numpy(), y[start : start + size].numpy(), tally)
        return labels

    def _look(self, weights: kernels.Weights, x: Floats, y: npt.NDArray[np.int64], tally: Tally) -> None:
        start, bits, hits = tally.take(len(y)), tally.bits.numpy(), tally.hits.numpy()
        self.crew.run(lambda member: kernels.look(SGEMM, member, x, y, self.asked, weights, bits, hits, start))

    def close(self) -> None:
        """Send the crew home."""
        self.crew.close()
