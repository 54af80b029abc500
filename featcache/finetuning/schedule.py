"""Which images each step sees, and what changes from step to step without being learnt."""

import hashlib
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from featcache.heads import HeadConfig
from featcache.heads.training import shuffled


@dataclass(frozen=True, slots=True)
class Schedule:
    """The batches and steps of a training; every number of it follows from the settings and the rows."""

    config: HeadConfig
    rows: int  # training images
    accumulate: int = 1

    @property
    def batches(self) -> int:
        """Batches of an epoch; a partial one counts."""
        return -(-self.rows // self.config.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the optimizer in an epoch; a partial one counts."""
        return -(-self.batches // self.accumulate)

    def order(self, epoch: int) -> list[Tensor]:
        """Return the images of each batch of epoch 0, 1, …, (n,) int64 each: those that `fit-head` draws."""
        drawn = next(islice(shuffled(self.rows, epoch + 1, self.config.seed), epoch, None))
        return list(torch.split(drawn, self.config.batch_size))

    def ends_step(self, batch: int) -> bool:
        """Return whether the optimizer steps after batch 0, 1, … of an epoch."""
        return (batch + 1) % self.accumulate == 0 or batch + 1 == self.batches

    def lr(self, step: int, factor: float) -> float:
        """Return the learning rate of a step of the whole training, from 0.

        Args:
            step: Which.
            factor: What a plateau multiplies it by.
        """
        return self.config.lr_at(step, self.config.epochs * self.steps) * factor


def derive_seed(*numbers: int) -> int:
    """Return a seed for one purpose, from 0 to 2^63 - 1, that depends on these numbers alone.

    Dropout and augmentation draw from it, so that a training that goes on draws what it would have drawn.

    Args:
        *numbers: The seed of the training, and what tells this purpose from others.
    """
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
