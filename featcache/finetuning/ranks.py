"""The processes of one training on several devices (DDP): which one this is, and what they tell one another.

Each holds the whole network and takes its rows of every batch; torch's DistributedDataParallel averages the gradients.
What is said here goes over the CPU (gloo), whatever the devices are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together; by default it is alone."""

    rank: int = 0  # from 0
    size: int = 1
    group: Any = None  # of torch.distributed, on the CPU

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    def part(self, rows: Tensor) -> Tensor:
        """Return this process's rows of a batch; where there are fewer rows than processes, each has them all.

        Args:
            rows: Of the whole batch, (n, …).
        """
        return rows if len(rows) < self.size else rows[self.rank :: self.size]

    def counts(self, rows: Tensor) -> bool:
        """Return whether this process counts its rows of a batch: of one that each has whole, the first alone does.

        Args:
            rows: Of the whole batch, (n, …).
        """
        return self.is_first or len(rows) >= self.size

    def agree(self, *flags: bool) -> list[bool]:
        """Return the flags of the first process, which decides for all.

        Args:
            *flags: Of this process.
        """
        if self.size == 1:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.uint8)
        distributed.broadcast(values, 0, group=self.group)
        return [bool(value) for value in values.tolist()]

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum over all processes of a tensor on the CPU, which is changed.

        Args:
            values: Of this process.
        """
        if self.size > 1:
            distributed.all_reduce(values, group=self.group)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the running statistics of the first.

        Args:
            module: The network.
        """
        for buffer in module.buffers() if self.size > 1 else ():
            distributed.broadcast(buffer, 0)


ALONE = Ranks()
